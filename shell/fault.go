package shell

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/network"
	"weft/topo"
)

// A Option is an option of the command link.
type Option struct {
	Name, Value, Doc string // without dashes; an empty Value is that of a switch
}

// LinkOptions returns the options of all actions.
func LinkOptions() []Option {
	return exported(linkOptions())
}

func exported(options []option) (list []Option) {
	for _, o := range options {
		list = append(list, Option{strings.TrimLeft(o.name, "-"), o.arg, o.doc})
	}
	return list
}

func linkOptions() []option {
	return []option{
		{"--period", "TIME", "flap: fail this often"},
		{"--down", "TIME", "flap: for this long each time"},
		{"--mtbf", "TIME", "flap: fail by chance, with this mean time between failures"},
		{"--mttr", "TIME", "flap: and this mean time to repair"},
		{"--seed", "N", "flap: the same chance in every run"},
		{"--count", "N", "flap: this often, then no more"},
		{"--all", "", "verify: links of which nothing was asked, too"},
		{"--cut", "", "flap: drop frames, rather than take both ends down"},
	}
}

func runFlap(ctx context.Context, c *call) error {
	links, rest, err := c.linkNames(ctx, c.args, 1)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return c.misuse("usage: link flap link...")
	}
	var f network.Flap
	for _, l := range links {
		name := l.a
		if l.b != "" {
			name += "-" + l.b
		}
		f.Links = append(f.Links, name)
	}
	for _, o := range []struct {
		name string
		to   *time.Duration
	}{{"--period", &f.Period}, {"--down", &f.Down}, {"--mtbf", &f.MTBF}, {"--mttr", &f.MTTR}} {
		if v, ok := c.opts[o.name]; ok {
			if *o.to, err = parseSpan(v); err != nil {
				return fmt.Errorf("option %s: %w", o.name, err)
			}
		}
	}
	if v, ok := c.opts["--count"]; ok {
		if f.Count, err = parseCount(v); err != nil {
			return fmt.Errorf("option --count: %w", err)
		}
	}
	if v, ok := c.opts["--seed"]; ok {
		seed, err := strconv.ParseUint(v, 0, 64)
		if err != nil {
			return fmt.Errorf("option --seed: %q is not a number from 0 to 2^64-1", v)
		}
		f.Seed = &seed
	}
	_, f.Cut = c.opts["--cut"]
	if f.Period == 0 && f.Down == 0 && f.MTBF == 0 && f.MTTR == 0 {
		return fmt.Errorf("write how often the link fails, and for how long: --period 2s --down 200ms, or --mtbf 30s --mttr 2s")
	}
	return c.startFault(ctx, network.FaultRequest{Flap: &f})
}

// startFault starts trouble and shows what has been started.
func (c *call) startFault(ctx context.Context, r network.FaultRequest) error {
	started, err := c.net.StartFault(ctx, r)
	if err != nil {
		return err
	}
	c.show(faultsView(started))
	return nil
}

func runSchedule(ctx context.Context, c *call) error {
	if len(c.args) != 1 {
		return c.misuse("usage: link schedule file")
	}
	text, err := os.ReadFile(c.args[0])
	if err != nil {
		return fmt.Errorf("schedule: %w", err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return fmt.Errorf("schedule: %s is empty", c.args[0])
	}
	return c.startFault(ctx, network.FaultRequest{Schedule: string(text)})
}

func runPartition(ctx context.Context, c *call) error {
	if len(c.args) == 0 {
		return c.misuse("usage: partition {node,...}|{node,...}")
	}
	groups, err := topo.ParseGroups(strings.Join(c.args, " "))
	if err != nil {
		return err
	}
	return c.startFault(ctx, network.FaultRequest{Partition: groups})
}

func runHeal(ctx context.Context, c *call) error {
	if len(c.args) > 0 {
		return c.misuse("usage: heal")
	}
	list, err := c.net.Faults(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(f network.Fault) bool { return f.Kind == "partition" })
	if i < 0 {
		return fmt.Errorf("there is no partition to heal")
	}
	if err := c.net.StopFaults(ctx, list[i].ID); err != nil {
		return err
	}
	return c.done()
}

func runFaults(ctx context.Context, c *call) error {
	if len(c.args) > 0 {
		return c.misuse("usage: link faults")
	}
	list, err := c.net.Faults(ctx)
	if err != nil {
		return err
	}
	c.show(faultsView(list))
	return nil
}

func runStopFaults(ctx context.Context, c *call) error {
	var ids []int
	for _, w := range c.args {
		id, err := parseCount(w)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := c.net.StopFaults(ctx, ids...); err != nil {
		return err
	}
	return c.done()
}

func faultsView(list []network.Fault) view {
	return view{value: orEmpty(list), native: func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "nothing goes on")
			return
		}
		t := table(w)
		fmt.Fprintf(t, "NUMBER\tWHAT\tSO FAR\tNEXT\n")
		for _, f := range list {
			next := "-"
			if !f.Next.IsZero() {
				next = f.Next.Format("15:04:05")
			}
			fmt.Fprintf(t, "%d\t%s\t%d\t%s\n", f.ID, f.Text, f.Done, next)
		}
		t.Flush()
	}}
}
