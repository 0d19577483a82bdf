package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// The contenders of the relay's benchmarks.
const (
	nameDirect  = "switch at the controller"
	nameRelay   = "relay, no capture"
	nameLimit   = "the limit"
	latencyGoal = 50 * time.Microsecond
)

// relay is the control channel's benchmarks: flow set-ups per second through weft's relay
// against a switch connected to the same controller directly, the same with a capture of
// the channel, and the latency that the relay adds to a message. The controller is
// ovs-testcontroller; the switch is this program, in place of Open vSwitch.
func relay(weft string) []benchmark {
	const command = "weft --topo single,1 --controller tcp:127.0.0.1:PORT"
	const captured = command + " --capture control=FILE"
	setUps := func(s storm) float64 { return s.SetUps }
	run := func(pick func(storm) float64, capture bool) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) {
			s, err := relayStorm(ctx, weft, capture)
			return sample{value: pick(s)}, err
		}
	}
	return []benchmark{
		{
			name: "relay", work: "flow set-ups through the relay, PACKET_IN storm", unit: "/s",
			goals: []Goal{{Than: nameDirect, AtLeast: 0.9}},
			contenders: []contender{
				{nameDirect, "bench storm tcp:127.0.0.1:PORT", time.Minute, func(ctx context.Context) (sample, error) {
					s, err := directStorm(ctx)
					return sample{value: setUps(s)}, err
				}},
				{nameWeft, command, time.Minute, run(setUps, false)},
			},
		},
		{
			name: "relay-capture", work: "flow set-ups through the relay with a capture of it", unit: "/s",
			goals: []Goal{{Than: nameRelay, AtLeast: 0.95}},
			contenders: []contender{
				{nameRelay, command, time.Minute, run(setUps, false)},
				{nameWeft, captured, time.Minute, run(setUps, true)},
			},
		},
		{
			name: "relay-latency", work: "latency that the relay adds to a message, median", unit: "µs", less: true,
			goals: []Goal{{Than: nameLimit, AtLeast: 1}},
			contenders: []contender{
				{nameLimit, "", time.Minute, func(context.Context) (sample, error) {
					return sample{value: float64(latencyGoal.Microseconds())}, nil
				}},
				{nameWeft, command, time.Minute, func(ctx context.Context) (sample, error) {
					direct, err := directStorm(ctx)
					if err != nil {
						return sample{}, err
					}
					through, err := relayStorm(ctx, weft, false)
					// There and back: two messages.
					added := float64((through.Latency - direct.Latency).Nanoseconds()) / 2 / 1000
					return sample{max(added, 0.01), fmt.Sprintf("set-up %v direct, %v through the relay",
						direct.Latency.Round(time.Microsecond), through.Latency.Round(time.Microsecond))}, err
				}},
			},
		},
	}
}

// withController runs ovs-testcontroller for as long as f needs it.
func withController(ctx context.Context, f func(port int) (storm, error)) (storm, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return storm{}, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.CommandContext(ctx, "ovs-testcontroller", "--unixctl=none", "-vconsole:off", fmt.Sprintf("ptcp:%d:127.0.0.1", port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return storm{}, err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return f(port)
		}
		select {
		case <-ctx.Done():
			return storm{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// directStorm measures the controller itself.
func directStorm(ctx context.Context) (storm, error) {
	return withController(ctx, func(port int) (storm, error) {
		self, err := os.Executable()
		if err != nil {
			return storm{}, err
		}
		out, err := exec.CommandContext(ctx, self, stormCommand, fmt.Sprintf("tcp:127.0.0.1:%d", port)).CombinedOutput()
		if err != nil {
			return storm{}, fmt.Errorf("%w\n%s", err, tail(string(out)))
		}
		return parseStorm(string(out))
	})
}

// relayStorm measures the controller through the relay of a network's only switch: the
// storm takes Open vSwitch's place at it.
func relayStorm(ctx context.Context, weft string, capture bool) (storm, error) {
	return withController(ctx, func(port int) (storm, error) {
		self, err := os.Executable()
		if err != nil {
			return storm{}, err
		}
		command := []string{"weft", "--topo", "single,1", "--controller", fmt.Sprintf("tcp:127.0.0.1:%d", port)}
		if capture {
			dir, err := os.MkdirTemp("", "weft-bench-")
			if err != nil {
				return storm{}, err
			}
			defer os.RemoveAll(dir)
			command = append(command, "--capture", "control="+filepath.Join(dir, "control.pcapng"))
		}
		command = append(command, "--test", "sh ovs-vsctl del-controller s1 && "+self+" "+stormCommand+
			" unix:$OVS_RUNDIR/ctl-0000000000000001-0")
		r, err := runWeft(ctx, weft, command)
		if err != nil {
			return storm{}, err
		}
		return parseStorm(r.output)
	})
}
