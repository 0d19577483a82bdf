package builtin

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const trackerText = `
Keeps a table of flows in both directions, with the state of TCP connections. The command
"flows" lists them, "json" as JSON. A flow that ends, by FIN, RST or time, is written
to a file, a line of JSON each.`

type tracker struct {
	clock
	flows        *table[nf.Flow, record]
	idle, closed time.Duration
	export       *bufio.Writer
	file         *os.File
	failed       error
	sweep        time.Time
	ended, full  uint64
}

// A record is what is known of a flow, whose key is the direction that was seen first.
type record struct {
	first          time.Time
	packets, bytes [2]uint64 // there, back
	state          tcpState
	fin            [2]bool
}

type tcpState uint8

const (
	stateNone tcpState = iota // not TCP, or its beginning was not seen
	stateSYN
	stateOpen
	stateClosed
)

func (s tcpState) String() string { return [...]string{"", "syn", "open", "closed"}[s] }

func defineTracker(flags *pflag.FlagSet) func() (nf.Function, error) {
	limit := flags.Int("flows", 65536, "how many flows to remember; packets of others pass uncounted")
	idle := flags.Duration("idle", time.Minute, "a flow ends without packets for so `long`")
	export := flags.String("export", "", "write flows that ended to this `file`")
	return func() (nf.Function, error) {
		if *limit < 1 || *limit > 1<<22 {
			return nil, fmt.Errorf("--flows %d: from 1 to %d", *limit, 1<<22)
		}
		if *idle <= 0 {
			return nil, fmt.Errorf("--idle %v: longer than nothing", *idle)
		}
		t := &tracker{flows: newTable[nf.Flow, record](*limit), idle: *idle, closed: min(*idle, 2*time.Second)}
		if *export != "" {
			f, err := os.OpenFile(*export, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
			if err != nil {
				return nil, fmt.Errorf("--export: %w", err)
			}
			t.file, t.export = f, bufio.NewWriter(f)
		}
		return t, nil
	}
}

func (t *tracker) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		p.Next()
		b := p.Data()
		h := nf.ParseHeaders(b)
		if h.Version == 0 {
			continue
		}
		f, way := h.Flow(b), 0
		r := t.flows.get(f, t.now)
		if r == nil {
			if r = t.flows.get(f.Reverse(), t.now); r != nil {
				way = 1
			}
		}
		if r == nil {
			if r = t.flows.add(f, t.now); r == nil {
				t.full++
				continue
			}
			r.first = t.now
		}
		r.packets[way]++
		r.bytes[way] += uint64(len(b))
		if h.Protocol == nf.ProtocolTCP && h.Payload != 0 {
			r.tcp(b[h.Transport+13], way)
		}
	}
}

// TCP flags (RFC 9293, section 3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpURG = 0x20
)

func (r *record) tcp(flags byte, way int) {
	switch {
	case flags&tcpRST != 0:
		r.state = stateClosed
	case flags&tcpSYN != 0 && flags&tcpACK == 0:
		r.state, r.fin = stateSYN, [2]bool{}
	case flags&tcpFIN != 0:
		r.fin[way] = true
		if r.fin[0] && r.fin[1] {
			r.state = stateClosed
		}
	case flags&tcpACK != 0 && r.state == stateSYN && way == 0 && flags&tcpSYN == 0:
		r.state = stateOpen
	}
}

// Tick ends flows.
func (t *tracker) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	if now.Sub(t.sweep) >= tickEvery {
		t.sweep = now
		t.flows.each(func(f nf.Flow, r *record, used time.Time) {
			if quiet := now.Sub(used); quiet >= t.idle || r.state == stateClosed && quiet >= t.closed {
				t.end(f, r, used)
			}
		})
		t.flush()
	}
	return t.clock.Tick(now, send)
}

func (t *tracker) end(f nf.Flow, r *record, used time.Time) {
	t.ended++
	if t.export != nil {
		line, err := json.Marshal(export(f, r, used))
		if err == nil {
			_, err = t.export.Write(append(line, '\n'))
		}
		t.failed = cmp.Or(t.failed, err)
	}
	t.flows.remove(f)
}

func (t *tracker) flush() {
	if t.export != nil {
		t.failed = cmp.Or(t.failed, t.export.Flush())
	}
}

// Close writes the flows that there still are.
func (t *tracker) Close() error {
	t.flows.each(func(f nf.Flow, r *record, used time.Time) { t.end(f, r, used) })
	t.flush()
	if t.file == nil {
		return t.failed
	}
	return errors.Join(t.failed, t.file.Close())
}

// Counters shows how many flows there are, and were.
func (t *tracker) Counters(f func(string, uint64)) {
	flows, failed := uint64(t.flows.len()), uint64(0)
	if t.failed != nil {
		failed = 1
	}
	show(f, counter{"flows", &flows}, counter{"ended", &t.ended}, counter{"tableFull", &t.full}, counter{"exportFailed", &failed})
}

// exported is a flow as people and programs read it.
type exported struct {
	Protocol    string     `json:"protocol"`
	Source      netip.Addr `json:"source"`
	SourcePort  uint16     `json:"sourcePort,omitempty"`
	Destination netip.Addr `json:"destination"`
	Port        uint16     `json:"destinationPort,omitempty"`
	State       string     `json:"state,omitempty"`
	First       time.Time  `json:"first"`
	Last        time.Time  `json:"last"`
	Packets     [2]uint64  `json:"packets"` // there, back
	Bytes       [2]uint64  `json:"bytes"`
}

func export(f nf.Flow, r *record, used time.Time) exported {
	return exported{protocolName(f.Protocol), f.Source(), f.SrcPort, f.Destination(), f.DstPort, r.state.String(), r.first, used, r.packets, r.bytes}
}

// Command knows "flows" and "json".
func (t *tracker) Command(words []string) (string, error) {
	if len(words) != 1 || words[0] != "flows" && words[0] != "json" {
		return "", noCommand(words, "flows, json")
	}
	list := make([]exported, 0, t.flows.len())
	var names []string
	t.flows.each(func(f nf.Flow, r *record, used time.Time) {
		list = append(list, export(f, r, used))
		names = append(names, flowName(&f))
	})
	if words[0] == "json" {
		b, err := json.MarshalIndent(list, "", "  ")
		return string(b) + "\n", err
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "flow\tpackets\tbytes\tstate\tidle")
	var lines []string
	for i, e := range list {
		lines = append(lines, fmt.Sprintf("%s\t%d/%d\t%d/%d\t%s\t%v", names[i], e.Packets[0], e.Packets[1], e.Bytes[0], e.Bytes[1], e.State, t.now.Sub(e.Last).Round(time.Second)))
	}
	slices.Sort(lines)
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
	w.Flush()
	return out.String(), nil
}
