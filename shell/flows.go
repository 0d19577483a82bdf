package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"weft/api"
	"weft/network"
	"weft/script"
	"weft/topo"
)

// A flow is an entry of a switch's flow table, with its rates.
type flow struct {
	network.Flow
	// Rates between two looks; nil if the flow was not there at the first.
	PacketRate *float64 `json:"packetsPerSecond,omitempty"`
	BitRate    *float64 `json:"bitsPerSecond,omitempty"`
}

// key says which flow it is: a switch has one for each table, priority and match.
func (f flow) key() string { return fmt.Sprintf("%d %d %s", f.Table, f.Priority, f.Match) }

// rate fills in the rates since an earlier look.
func rate(before, now []flow, span time.Duration) {
	old := map[string]flow{}
	for _, f := range before {
		old[f.key()] = f
	}
	for i := range now {
		f := &now[i]
		if o, ok := old[f.key()]; ok && f.Packets >= o.Packets && f.Bytes >= o.Bytes && f.Age >= o.Age {
			packets, bits := float64(f.Packets-o.Packets)/span.Seconds(), 8*float64(f.Bytes-o.Bytes)/span.Seconds()
			f.PacketRate, f.BitRate = &packets, &bits
		}
	}
}

// flowsOf are the flows of a switch.
type flowsOf struct {
	Switch string `json:"switch"`
	Flows  []flow `json:"flows"`
	at     time.Time
}

func flowsOptions() []option {
	return []option{{"--interval", "SPAN", "the time between the two looks that rates are from (1s); 0 for one look and no rates"}}
}

// runFlows shows flow tables.
func runFlows(ctx context.Context, c *call) error {
	span := time.Second
	if v, ok := c.opts["--interval"]; ok && v == "0" {
		span = 0
	} else if ok {
		var err error
		if span, err = parseSpan(v); err != nil {
			return err
		}
	}
	switches, err := c.openflowSwitches(ctx, c.args)
	if err != nil {
		return err
	}
	now, err := c.lookAtFlows(ctx, switches)
	if err != nil {
		return err
	}
	if span > 0 {
		before := now
		select {
		case <-time.After(span):
		case <-ctx.Done():
			return ctx.Err()
		}
		if now, err = c.lookAtFlows(ctx, switches); err != nil {
			return err
		}
		for i := range now {
			rate(before[i].Flows, now[i].Flows, now[i].at.Sub(before[i].at))
		}
	}
	c.show(flowsView(now))
	return nil
}

// openflowSwitches returns the switches that names name, all that speak OpenFlow if there
// are none.
func (c *call) openflowSwitches(ctx context.Context, names []string) ([]topo.PlannedSwitch, error) {
	st, err := c.state(ctx)
	if err != nil {
		return nil, err
	}
	var list []topo.PlannedSwitch
	var errs []error
	for _, name := range names {
		if err := wantNode(switchNames(st.Plan), "switch", name); err != nil {
			errs = append(errs, err)
			continue
		}
		sw := st.Plan.Switch(name)
		if err := sw.NoFlowTable(); err != nil {
			errs = append(errs, err)
		}
		list = append(list, *sw)
	}
	if err := joinMistakes(errs); err != nil || len(names) > 0 {
		return list, err
	}
	for _, sw := range st.Plan.Switches {
		if sw.NoFlowTable() == nil {
			list = append(list, sw)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no switch speaks OpenFlow")
	}
	return list, nil
}

// lookAtFlows reads flow tables.
func (c *call) lookAtFlows(ctx context.Context, switches []topo.PlannedSwitch) ([]flowsOf, error) {
	var all []flowsOf
	for _, sw := range switches {
		var out bytes.Buffer
		req := api.ShellRequest{Node: fabric, Command: script.Ofctl(sw, "--no-names dump-flows", "")}
		status, err := c.net.Shell(ctx, req, nil, &out, nil, nil)
		if err != nil {
			return nil, err
		}
		if status != 0 {
			return nil, fmt.Errorf("cannot read the flows of %s: %s", sw.Name, strings.TrimSpace(out.String()))
		}
		flows := []flow{}
		for _, f := range network.ParseFlows(out.String()) {
			flows = append(flows, flow{Flow: f})
		}
		all = append(all, flowsOf{sw.Name, flows, time.Now()})
	}
	return all, nil
}

func flowsView(all []flowsOf) view {
	return view{value: all, native: func(w io.Writer) {
		t := table(w)
		fmt.Fprint(t, "switch\ttable\tpriority\tmatch\tactions\tpackets\tbytes\tpkt/s\tbit/s\tage\n")
		for _, sw := range all {
			if len(sw.Flows) == 0 {
				fmt.Fprintf(t, "%s\tno flows\n", sw.Switch)
			}
			for _, f := range sw.Flows {
				match := f.Match
				if match == "" {
					match = "any"
				}
				fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%.0f s\n", sw.Switch, f.Table, f.Priority, match, f.Actions,
					f.Packets, f.Bytes, rateText(f.PacketRate), rateText(f.BitRate), f.Age)
			}
		}
		t.Flush()
	}}
}

// rateText writes a rate, with the letters of the SI if it is large.
func rateText(r *float64) string {
	if r == nil {
		return "-"
	}
	v := *r
	for _, unit := range []string{"", "k", "M", "G"} {
		if v < 1000 || unit == "G" {
			return strconv.FormatFloat(v, 'f', map[bool]int{true: 0, false: 1}[v == float64(int64(v))], 64) + unit
		}
		v /= 1000
	}
	return ""
}

// runTrace shows what a switch does with a packet (ofproto/trace).
func runTrace(ctx context.Context, c *call) error {
	name, packet := cutWord(c.rest)
	if packet == "" {
		return c.misuse("usage: trace switch packet")
	}
	switches, err := c.openflowSwitches(ctx, []string{name})
	if err != nil {
		return err
	}
	if switches[0].DPDK != nil {
		return fmt.Errorf("%s is a dpdk node, not a bridge of Open vSwitch, which alone traces packets; nf flow list and nf chain list show what becomes of them, capture %[1]s what did", name)
	}
	if strings.ContainsAny(packet, "'\n") {
		return fmt.Errorf("a packet has no quotes: %s", packet)
	}
	line := fmt.Sprintf("ovs-appctl ofproto/trace %s '%s'", script.Quote(switches[0].Device), packet)
	return c.finish(c.shell(ctx, fabric, line, c.results()))
}
