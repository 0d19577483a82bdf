package shell

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/dpdkhost"
	"weft/topo"
)

// Functions are the network functions (NFs) of DPDK nodes.
type Functions interface {
	NFs(ctx context.Context, node string) (*dpdkhost.State, error)
	StartNF(ctx context.Context, node string, f topo.NF) ([]dpdkhost.Instance, error)
	StopNF(ctx context.Context, node string, instance int, atOnce bool) error
	ScaleNF(ctx context.Context, node string, service, instances int) error
	ChangeNFs(ctx context.Context, node string, c dpdkhost.Change) error
	CommandNF(ctx context.Context, node string, instance int, words []string) (string, error)
}

// An nfAction is one of the command nf. Its words begin after its name.
type nfAction struct {
	name  string // one word or two
	usage string
	doc   string
	least int // words
	most  int // -1: any number
	run   func(ctx context.Context, c *call, node string, words []string) error
}

func nfActions() []nfAction {
	return []nfAction{
		{"list", "", "the NFs with what became of packets", 0, 0, nfList},
		{"start", "NF [-- ARG...]", "start an NF: bridge, bridge@1 for service 1, firewall -- --rules FILE", 1, -1, nfStart},
		{"stop", "INSTANCE...", "end NFs, after their last packets", 1, -1, nfStop},
		{"scale", "SERVICE COUNT", "make a service have so many instances", 2, 2, nfScale},
		{"move", "INSTANCE CORE", "put an NF on a processor, from 1; 0 for any", 2, 2, nfMove},
		{"tell", "INSTANCE WORD...", "say something to an NF, and show its answer", 2, -1, nfTell},
		{"chain list", "", "the chains", 0, 0, nfChains},
		{"chain set", "NAME STEPS", "make or change a chain: 1→3→2, 1->3->2 or 1,3,2; port:2 at its end", 2, -1, nfSetChain},
		{"chain delete", "NAME", "remove a chain", 1, 1, nfDeleteChain},
		{"flow list", "", "the flows that lead packets into chains", 0, 0, nfFlows},
		{"flow add", "MATCH ACTION", "lead packets: tcp,nw_dst=10.0.0.2 chain=web (or service=2, out=1, controller, drop)", 1, -1, nfAddFlow},
		{"flow delete", "[MATCH]", "remove flows, all without a match", 0, 1, nfDeleteFlows},
		{"stats", "", "ports, NFs, drops and packet memory", 0, 0, nfStats},
		{"top", "", "the same with rates, again and again until q or Ctrl-C; into a pipe once", 0, 0, nfTop},
	}
}

// NFActions says what can be done to NFs, for people.
func NFActions() string {
	var b strings.Builder
	for _, a := range nfActions() {
		fmt.Fprintf(&b, "  %-26s %s\n", strings.TrimSpace(a.name+" "+a.usage), a.doc)
	}
	return b.String()
}

func nfOptions() []option {
	return []option{
		{"--service", "N", "start: in this service (the next)"},
		{"--core", "N", "start: on this processor, from 1"},
		{"--instances", "N", "start: so many (1)"},
		{"--weight", "N", "start: an instance's share of the flows (1)"},
		{"--command", "COMMAND", "start: a program of your own"},
		{"--image", "IMAGE", "start: in a container of this image of podman's"},
		{"--rootfs", "DIRECTORY", "start: in a container that sees this directory as /"},
		{"--outside", "", "start: await it in its service: you start it, wherever you like"},
		{"--host", "HOST", "start: in the namespaces of this host of the network"},
		{"--fused", "", "start: in the manager's own process"},
		{"--read-only", "", "start: it cannot change packets"},
		{"--copy", "", "start: it works on copies"},
		{"--now", "", "stop: without waiting for its last packets"},
		{"--interval", "SPAN", "top: the time between two looks (1s)"},
		{"--onvm-view", "", "stats, top: as OpenNetVM's manager prints it"},
		{"--count", "N", "top: so many looks, not until q"},
	}
}

// NFOptions are the options of the command nf.
func NFOptions() []Option { return exported(nfOptions()) }

// NFWords are the words that may come after those before: the first of actions on NFs, the second
// of those with two, and the NFs that can be started.
func NFWords(before ...string) (words []string) {
	if len(before) == 1 && before[0] == "start" {
		for _, k := range topo.NFKinds() {
			words = append(words, k.Name)
		}
		return words
	}
	for _, a := range nfActions() {
		first, second, two := strings.Cut(a.name, " ")
		switch {
		case len(before) == 0:
			words = append(words, first)
		case len(before) == 1 && two && first == before[0]:
			words = append(words, second)
		}
	}
	return slices.Compact(words)
}

// IsNFAction reports whether words are all of an action's name.
func IsNFAction(words []string) bool {
	name := strings.Join(words, " ")
	return slices.ContainsFunc(nfActions(), func(a nfAction) bool { return a.name == name })
}

// runNF carries out nf [NODE] ACTION.
func runNF(ctx context.Context, c *call) error {
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	nodes := dpdkNames(st.Plan)
	words := c.args
	node := ""
	if len(words) > 0 && slices.Contains(nodes, words[0]) {
		node, words = words[0], words[1:]
	}
	if len(words) == 0 {
		words = []string{"list"}
	}
	i := slices.IndexFunc(nfActions(), func(a nfAction) bool {
		first, second, two := strings.Cut(a.name, " ")
		return first == words[0] && (!two || len(words) > 1 && second == words[1])
	})
	if i < 0 {
		var names []string
		for _, a := range nfActions() {
			names = append(names, a.name)
		}
		return misuse{mistake{"usage: nf action", fmt.Sprintf("there is no action %q for NFs, nor a dpdk node of this name: write %s", strings.Join(words[:min(2, len(words))], " "), strings.Join(names, ", "))}}
	}
	a := nfActions()[i]
	words = words[len(strings.Fields(a.name)):]
	if node == "" && len(words) > a.least && slices.Contains(nodes, words[0]) {
		node, words = words[0], words[1:]
	}
	if len(words) < a.least || a.most >= 0 && len(words) > a.most {
		return misuse{mistake{"usage: nf " + a.name, "usage: nf [NODE] " + strings.TrimSpace(a.name+" "+a.usage)}}
	}
	switch {
	case node != "":
	case len(nodes) == 0:
		return fmt.Errorf("the network has no dpdk node")
	case len(nodes) == 1:
		node = nodes[0]
	case a.name == "list" || a.name == "stats":
		return nfOfAll(ctx, c, a, nodes)
	default:
		return fmt.Errorf("there are several dpdk nodes: write nf NODE %s, with one of %s", a.name, strings.Join(nodes, ", "))
	}
	return a.run(ctx, c, node, words)
}

func dpdkNames(p *topo.Plan) (names []string) {
	for _, sw := range p.Switches {
		if sw.DPDK != nil {
			names = append(names, sw.Name)
		}
	}
	return names
}

// nfOfAll shows all nodes, one after the other.
func nfOfAll(ctx context.Context, c *call, a nfAction, nodes []string) error {
	all := map[string]*dpdkhost.State{}
	for i, node := range nodes {
		if !c.json {
			if i > 0 {
				fmt.Fprintln(c.results())
			}
			fmt.Fprintf(c.results(), "%s:\n", node)
			if err := a.run(ctx, c, node, nil); err != nil {
				return err
			}
			continue
		}
		st, err := c.net.NFs(ctx, node)
		if err != nil {
			return err
		}
		all[node] = st
	}
	if c.json {
		c.encode(all)
	}
	return nil
}

func nfList(ctx context.Context, c *call, node string, _ []string) error {
	st, err := c.net.NFs(ctx, node)
	if err != nil {
		return err
	}
	c.show(view{value: orEmpty(st.Instances), native: func(w io.Writer) { writeInstances(w, st, nil) }})
	return nil
}

// writeInstances writes NFs, with their rates since an earlier look if there was one.
func writeInstances(w io.Writer, st, before *dpdkhost.State) {
	if len(st.Instances) == 0 {
		fmt.Fprintln(w, "no NF runs")
		return
	}
	old := map[int]dpdkhost.Instance{}
	if before != nil {
		for _, i := range before.Instances {
			old[i.ID] = i
		}
	}
	t := table(w)
	placed := slices.ContainsFunc(st.Instances, func(i dpdkhost.Instance) bool { return i.Node != nil })
	node := func(text string) string {
		if !placed {
			return "" // a machine with one node
		}
		return "\t" + text
	}
	fmt.Fprintf(t, "ID\tNF\tSERVICE\tCORE%s\tSTATE\tRECEIVED\tSENT\tDROPPED\tLOST\tWAKE-UPS\tP50\tP99", node("NODE"))
	if before != nil {
		fmt.Fprint(t, "\tPACKETS/S")
	}
	fmt.Fprintln(t)
	for _, i := range st.Instances {
		core := "any"
		switch {
		case i.Fused:
			core = "fused"
		case i.Core > 0:
			core = strconv.Itoa(i.Core)
		}
		state := i.State
		if i.Restarts > 0 {
			state += fmt.Sprintf(" (%d restarts)", i.Restarts)
		}
		on := "any"
		if i.Node != nil {
			on = strconv.Itoa(*i.Node)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s", i.ID, i.Name, i.Service, core, node(on), state,
			i.Received, i.Sent, i.Dropped, i.RxDrops+i.TxDrops+i.Invalid, i.Wakeups, span(i.Latency.P50), span(i.Latency.P99))
		if before != nil {
			fmt.Fprintf(t, "\t%s", perSecond(i.Received, old[i.ID].Received, st.At.Sub(before.At)))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

// span writes a latency, which 0 is not.
func span(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(10 * time.Nanosecond).String()
}

func perSecond(now, before uint64, over time.Duration) string {
	if over <= 0 || now < before {
		return "-"
	}
	return strings.TrimSpace(amount(uint64(float64(now-before)/over.Seconds()), ""))
}

func nfStart(ctx context.Context, c *call, node string, words []string) error {
	f, err := topo.ParseNF(words[0])
	if err != nil {
		return err
	}
	f.Args = append(f.Args, words[1:]...)
	for _, o := range []struct {
		name string
		to   *int
	}{{"--service", &f.Service}, {"--core", &f.Core}, {"--instances", &f.Instances}, {"--weight", &f.Weight}} {
		if v, ok := c.opts[o.name]; ok {
			if *o.to, err = number(o.name, v, 1); err != nil {
				return err
			}
		}
	}
	f.Command, f.Image, f.RootFS, f.Host = c.opts["--command"], c.opts["--image"], c.opts["--rootfs"], c.opts["--host"]
	_, f.Fused = c.opts["--fused"]
	_, f.Outside = c.opts["--outside"]
	_, f.ReadOnly = c.opts["--read-only"]
	_, f.Copy = c.opts["--copy"]
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	f = f.Under(here)
	list, err := c.net.StartNF(ctx, node, f)
	if err != nil {
		return err
	}
	c.show(view{value: orEmpty(list), native: func(w io.Writer) {
		for _, i := range list {
			if i.State == dpdkhost.Awaited {
				fmt.Fprintf(w, "%s is awaited in service %d: start it with WEFT_NF=%s WEFT_NF_SERVICE=%d\n", i.Name, i.Service, i.Socket, i.Service)
				continue
			}
			fmt.Fprintf(w, "%s runs as instance %d of service %d\n", i.Name, i.ID, i.Service)
		}
	}})
	return nil
}

// number reads a whole number that is not below least.
func number(what, text string, least int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least {
		return 0, fmt.Errorf("%s: %q is not a whole number from %d", what, text, least)
	}
	return n, nil
}

func nfStop(ctx context.Context, c *call, node string, words []string) error {
	_, now := c.opts["--now"]
	var ids []int
	for _, w := range words {
		id, err := number("instance", w, 1)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		if err := c.net.StopNF(ctx, node, id, now); err != nil {
			return err
		}
	}
	return c.done()
}

func nfScale(ctx context.Context, c *call, node string, words []string) error {
	service, err := number("service", words[0], 1)
	if err != nil {
		return err
	}
	count, err := number("instances", words[1], 1)
	if err != nil {
		return err
	}
	if err := c.net.ScaleNF(ctx, node, service, count); err != nil {
		return err
	}
	return c.done()
}

func nfMove(ctx context.Context, c *call, node string, words []string) error {
	id, err := number("instance", words[0], 1)
	if err != nil {
		return err
	}
	core, err := number("core", words[1], 0)
	if err != nil {
		return err
	}
	return nfChange(ctx, c, node, dpdkhost.Change{Move: &dpdkhost.Move{Instance: id, Core: core}})
}

func nfChange(ctx context.Context, c *call, node string, change dpdkhost.Change) error {
	if err := c.net.ChangeNFs(ctx, node, change); err != nil {
		return err
	}
	return c.done()
}

func nfTell(ctx context.Context, c *call, node string, words []string) error {
	id, err := number("instance", words[0], 1)
	if err != nil {
		return err
	}
	text, err := c.net.CommandNF(ctx, node, id, words[1:])
	if err != nil {
		return err
	}
	c.show(view{value: struct {
		Text string `json:"text"`
	}{text}, native: func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(text, "\n")) }})
	return nil
}

func nfChains(ctx context.Context, c *call, node string, _ []string) error {
	st, err := c.net.NFs(ctx, node)
	if err != nil {
		return err
	}
	slices.SortFunc(st.Chains, func(a, b topo.Chain) int { return cmp.Compare(a.Name, b.Name) })
	c.show(view{value: orEmpty(st.Chains), native: func(w io.Writer) {
		if len(st.Chains) == 0 {
			fmt.Fprintln(w, "there is no chain")
			return
		}
		names := map[int]string{}
		for _, i := range st.Instances {
			names[i.Service] = i.Name
		}
		t := table(w)
		fmt.Fprintln(t, "CHAIN\tSERVICES\tNFS")
		for _, chain := range st.Chains {
			var nfs []string
			for _, s := range chain.Services {
				nfs = append(nfs, cmp.Or(names[s], "none"))
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", chain.Name, chain, strings.Join(nfs, "→"))
		}
		t.Flush()
	}})
	return nil
}

func nfSetChain(ctx context.Context, c *call, node string, words []string) error {
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	chain, err := topo.ParseChain(words[0], topo.SplitChain(strings.Join(words[1:], " ")), st.Plan.Switch(node).DPDK.NFs)
	if err != nil {
		return err
	}
	return nfChange(ctx, c, node, dpdkhost.Change{Chain: &chain})
}

func nfDeleteChain(ctx context.Context, c *call, node string, words []string) error {
	return nfChange(ctx, c, node, dpdkhost.Change{DeleteChain: words[0]})
}

func nfFlows(ctx context.Context, c *call, node string, _ []string) error {
	st, err := c.net.NFs(ctx, node)
	if err != nil {
		return err
	}
	c.show(view{value: orEmpty(st.Flows), native: func(w io.Writer) {
		if len(st.Flows) == 0 {
			fmt.Fprintln(w, "there is no flow")
			return
		}
		t := table(w)
		fmt.Fprintln(t, "PRIORITY\tMATCH\tACTIONS\tPACKETS\tBYTES\tAGE")
		for _, f := range st.Flows {
			fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%v\n", f.Priority, cmp.Or(f.Match, "any"), f.Actions, f.Packets, f.Bytes, f.Age.Round(time.Second))
		}
		t.Flush()
		if more := st.FlowCount - len(st.Flows); more > 0 {
			fmt.Fprintf(w, "and %d more\n", more)
		}
	}})
	return nil
}

// nfAddFlow takes a flow as ovs-ofctl writes it, or its match and what is done with it.
func nfAddFlow(ctx context.Context, c *call, node string, words []string) error {
	text := strings.Join(words, " ")
	if !strings.Contains(text, "actions=") {
		match, action := words[:len(words)-1], words[len(words)-1]
		key, value, valued := strings.Cut(action, "=")
		switch key {
		case "out", "port":
			key = "output"
		}
		if valued {
			key += ":" + value
		}
		text = strings.TrimLeft(strings.Join(match, ",")+",actions="+key, ",")
	}
	return nfChange(ctx, c, node, dpdkhost.Change{AddFlow: text})
}

func nfDeleteFlows(ctx context.Context, c *call, node string, words []string) error {
	match := strings.Join(words, ",")
	return nfChange(ctx, c, node, dpdkhost.Change{DeleteFlows: &match})
}

func nfStats(ctx context.Context, c *call, node string, _ []string) error {
	st, err := c.net.NFs(ctx, node)
	if err != nil {
		return err
	}
	c.show(view{value: st, native: func(w io.Writer) { c.writeStats(w, st, nil) }})
	return nil
}

// writeStats writes all of a node, with rates since an earlier look if there was one.
func (c *call) writeStats(w io.Writer, st, before *dpdkhost.State) {
	if _, onvm := c.opts["--onvm-view"]; onvm {
		fmt.Fprint(w, dpdkhost.OpenNetVMView(st, before))
		return
	}
	old := map[int]dpdkhost.Port{}
	if before != nil {
		for _, p := range before.Ports {
			old[p.Number] = p
		}
	}
	t := table(w)
	fmt.Fprint(t, "PORT\tINTERFACE\tKIND\tRECEIVED\tSENT\tLOST IN\tLOST OUT\tHELD BACK")
	if before != nil {
		fmt.Fprint(t, "\tIN/S\tOUT/S")
	}
	fmt.Fprintln(t)
	for _, p := range st.Ports {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%d\t%d", p.Number, p.Name, p.Kind, traffic(p.Received, p.RxBytes), traffic(p.Sent, p.TxBytes), p.RxDrops, p.TxDrops, p.BackPressure)
		if before != nil {
			over := st.At.Sub(before.At)
			fmt.Fprintf(t, "\t%s\t%s", perSecond(p.Received, old[p.Number].Received, over), perSecond(p.Sent, old[p.Number].Sent, over))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	fmt.Fprintln(w)
	writeInstances(w, st, before)
	counted := false
	for _, i := range st.Instances {
		if len(i.Counters) == 0 {
			continue
		}
		if !counted {
			fmt.Fprintln(w)
		}
		counted = true
		fmt.Fprintf(w, "%s (%d):", i.Name, i.ID)
		for _, name := range slices.Sorted(maps.Keys(i.Counters)) {
			fmt.Fprintf(w, " %s %d", name, i.Counters[name])
		}
		fmt.Fprintln(w)
	}
	var drops []string
	for _, cause := range slices.Sorted(maps.Keys(st.Drops)) {
		if n := st.Drops[cause]; n > 0 {
			drops = append(drops, fmt.Sprintf("%s %d", cause, n))
		}
	}
	if st.Pool.Frames == 0 && len(drops) == 0 {
		return // a foreign manager that tells neither
	}
	where := ""
	if st.Pool.Node != nil {
		where = fmt.Sprintf(", on node %d", *st.Pool.Node)
	}
	fmt.Fprintf(w, "\ngiven up: %s; packet memory: %d of %d frames free%s\n", cmp.Or(strings.Join(drops, ", "), "none"), st.Pool.Free, st.Pool.Frames, where)
}

func completeNF(p *topo.Plan, words []string) []string {
	nodes := dpdkNames(p)
	node := ""
	if len(words) > 0 && slices.Contains(nodes, words[0]) {
		node, words = words[0], words[1:]
	} else if len(nodes) == 1 {
		node = nodes[0]
	}
	switch {
	case len(words) == 0 && node == "":
		return append(NFWords(), nodes...)
	case len(words) < 2:
		return NFWords(words...)
	case len(words) == 2 && words[0] == "chain" && node != "":
		var names []string
		for _, chain := range p.Switch(node).DPDK.Chains {
			names = append(names, chain.Name)
		}
		return names
	}
	return nil
}
