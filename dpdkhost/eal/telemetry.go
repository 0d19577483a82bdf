package eal

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"
)

// Telemetry asks a DPDK program about itself (DPDK, "Telemetry library", version 2).
type Telemetry struct {
	conn  net.Conn
	limit int // of an answer, bytes
	// PID and Version are the program's.
	PID     int
	Version string
}

// telemetryTime bounds an answer.
const telemetryTime = 3 * time.Second

// maxAnswer bounds what a program may say its answers are long; DPDK's are 16 KiB.
const maxAnswer = 1 << 20

// DialTelemetry connects to a program's telemetry socket.
func DialTelemetry(path string) (*Telemetry, error) {
	conn, err := net.DialTimeout("unixpacket", path, telemetryTime)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{conn: conn, limit: 1024}
	var hello struct {
		Version string `json:"version"`
		PID     int    `json:"pid"`
		Max     int    `json:"max_output_len"`
	}
	if err := t.read(&hello); err != nil {
		conn.Close()
		return nil, err
	}
	if hello.Max <= 0 || hello.Max > maxAnswer {
		conn.Close()
		return nil, fmt.Errorf("telemetry: answers of %d bytes", hello.Max)
	}
	t.limit, t.PID, t.Version = hello.Max+1024, hello.PID, hello.Version
	return t, nil
}

func (t *Telemetry) read(into any) error {
	t.conn.SetReadDeadline(time.Now().Add(telemetryTime))
	b := make([]byte, t.limit)
	n, err := t.conn.Read(b)
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	if err := json.Unmarshal(b[:n], into); err != nil {
		return fmt.Errorf("telemetry: the answer is no JSON: %w", err)
	}
	return nil
}

// Ask sends a command, with a parameter if it is not "", and decodes what is answered.
func (t *Telemetry) Ask(command, parameter string, into any) error {
	line := command
	if parameter != "" {
		line += "," + parameter
	}
	t.conn.SetWriteDeadline(time.Now().Add(telemetryTime))
	if _, err := t.conn.Write([]byte(line)); err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	var answer map[string]json.RawMessage
	if err := t.read(&answer); err != nil {
		return err
	}
	data, ok := answer[command]
	if !ok || string(data) == "null" {
		return fmt.Errorf("telemetry: %s: %w", line, os.ErrNotExist)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("telemetry: %s: %w", line, err)
	}
	return nil
}

// Close ends the connection.
func (t *Telemetry) Close() error { return t.conn.Close() }

// device is a port as telemetry tells of it.
type device struct {
	Name    string `json:"name"`
	Started int    `json:"dev_started"`

	stats struct {
		InPackets  uint64 `json:"ipackets"`
		OutPackets uint64 `json:"opackets"`
		InBytes    uint64 `json:"ibytes"`
		OutBytes   uint64 `json:"obytes"`
		Missed     uint64 `json:"imissed"`
		InErrors   uint64 `json:"ierrors"`
		OutErrors  uint64 `json:"oerrors"`
		NoBuffer   uint64 `json:"rx_nombuf"`
	}
}

// devices asks for all ports, with their counters only if they are wanted: drivers complain if a
// port has not been started yet.
func (t *Telemetry) devices(counters bool) (map[string]*device, error) {
	var ids []int
	if err := t.Ask("/ethdev/list", "", &ids); err != nil {
		return nil, err
	}
	all := map[string]*device{}
	for _, id := range ids {
		d := &device{}
		if err := t.Ask("/ethdev/info", fmt.Sprint(id), d); err != nil {
			return nil, err
		}
		if counters && d.Started != 0 {
			if err := t.Ask("/ethdev/stats", fmt.Sprint(id), &d.stats); err != nil {
				return nil, err
			}
		}
		all[d.Name] = d
	}
	return all, nil
}
