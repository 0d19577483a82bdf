package experiment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/dpdkhost"
	"weft/topo"
)

// Functions changes the network functions (NFs) of a DPDK node, its chains or its flows. One of its
// fields besides Node is set.
type Functions struct {
	Node        string `key:"node" doc:"the DPDK node" required:"true"`
	Start       string `key:"start" doc:"an NF to start: monitor, firewall@2 --rules FILE"`
	Stop        string `key:"stop" doc:"an NF or a service, of which all instances end"`
	Scale       string `key:"scale" doc:"an NF or a service, and how many instances it is to have: 2 3"`
	Chain       string `key:"chain" doc:"a chain to make or change: default 1→3→2"`
	DeleteChain string `key:"delete_chain" doc:"a chain to remove"`
	AddFlow     string `key:"add_flow" doc:"a flow: tcp,nw_dst=10.0.0.2,actions=chain:web"`
	DeleteFlows string `key:"delete_flows" doc:"a match of which the flows go; all for all"`
	Tell        string `key:"tell" doc:"an NF or a service, and what to say to its first instance: firewall rules"`
}

// A functionsWord is one thing that Functions does.
type functionsWord struct {
	name  string
	value *string
	check func(d *topo.DPDK, value string) error
	do    func(ctx context.Context, t *Trial, node, value string) (Outcome, error)
}

func (f *Functions) words() []functionsWord {
	return []functionsWord{
		{"start", &f.Start, checkStart, startFunction},
		{"stop", &f.Stop, checkFunction, stopFunction},
		{"scale", &f.Scale, checkScale, scaleFunction},
		{"chain", &f.Chain, checkChain, setChain},
		{"delete_chain", &f.DeleteChain, nil, deleteChain},
		{"add_flow", &f.AddFlow, checkFlow, addFlow},
		{"delete_flows", &f.DeleteFlows, nil, deleteFlows},
		{"tell", &f.Tell, checkTell, tellFunction},
	}
}

// shortFunctions reads "fw1 chain default 1→2".
func shortFunctions(a Action, text string) error {
	f := a.(*Functions)
	node, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	verb, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
	var names []string
	for _, w := range f.words() {
		if names = append(names, w.name); w.name == verb {
			f.Node, *w.value = node, strings.TrimSpace(value)
			if *w.value == "" {
				return fmt.Errorf("%q does not say what to %s", text, verb)
			}
			return nil
		}
	}
	if verb == "" {
		return fmt.Errorf("%q says nothing to do; write a node, what to do, and with what: fw1 chain default 1→2", text)
	}
	return unknown("thing to do with NFs,", verb, names)
}

// word returns what is to be done.
func (f *Functions) word() (functionsWord, error) {
	var set []functionsWord
	var names []string
	for _, w := range f.words() {
		if names = append(names, w.name); *w.value != "" {
			set = append(set, w)
		}
	}
	switch len(set) {
	case 0:
		return functionsWord{}, fmt.Errorf("nothing is to be done with NFs; write one of %s", strings.Join(names, ", "))
	case 1:
		return set[0], nil
	}
	return functionsWord{}, fmt.Errorf("%s and %s are two steps; write two", set[0].name, set[1].name)
}

func (f *Functions) String() string {
	w, err := f.word()
	if err != nil {
		return "nf " + f.Node
	}
	return fmt.Sprintf("nf %s %s %s", f.Node, w.name, *w.value)
}

// Validate wants a DPDK node, one thing to do, and NFs that there are or may have been started.
func (f *Functions) Validate(plan *topo.Plan) error {
	w, err := f.word()
	if f.Node == "" {
		return err // Decode says that it is missing
	}
	d, nerr := dpdkNode(plan, f.Node)
	if err != nil || nerr != nil || w.check == nil {
		return errors.Join(nerr, err)
	}
	if err := w.check(d, *w.value); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	return nil
}

// Estimate is that of a change.
func (f *Functions) Estimate() time.Duration { return time.Second }

// Do changes the node.
func (f *Functions) Do(ctx context.Context, t *Trial) (Outcome, error) {
	w, err := f.word()
	if err != nil {
		return Outcome{}, err
	}
	return w.do(ctx, t, f.Node, *w.value)
}

// dpdkNode returns the description of a DPDK node.
func dpdkNode(plan *topo.Plan, name string) (*topo.DPDK, error) {
	var names []string
	for _, s := range plan.Switches {
		if s.DPDK == nil {
			continue
		}
		if names = append(names, s.Name); s.Name == name {
			return s.DPDK, nil
		}
	}
	if plan.Switch(name) != nil || plan.Host(name) != nil {
		return nil, fmt.Errorf("%s is no dpdk node: it has no NFs", name)
	}
	return nil, unknown("dpdk node", name, names)
}

// checkFunction says that an NF is none that there can be: it is not in the description, and no
// step can start it.
func checkFunction(d *topo.DPDK, of string) error {
	if _, err := strconv.Atoi(of); err == nil || slices.ContainsFunc(d.NFs, func(n topo.NF) bool { return n.Name == of }) {
		return nil
	}
	_, err := topo.FindNFKind(of)
	return err
}

func checkStart(d *topo.DPDK, text string) error {
	_, err := planned(d, text)
	return err
}

// planned reads an NF that is to be started on a node.
func planned(d *topo.DPDK, text string) (topo.NF, error) {
	n, err := topo.ParseNF(text)
	if err != nil {
		return n, err
	}
	if n.Service == 0 {
		all := topo.NumberServices(append(slices.Clone(d.NFs), n))
		n.Service = all[len(all)-1].Service
	}
	_, err = n.Complete(d.Manager)
	return n, err
}

// cutFunction splits what names an NF from what follows.
func cutFunction(text, example string) (of, rest string, err error) {
	of, rest, ok := strings.Cut(text, " ")
	if rest = strings.TrimSpace(rest); !ok || rest == "" {
		return "", "", fmt.Errorf("%q names an NF and nothing else; write for example %s", text, example)
	}
	return of, rest, nil
}

func cutScale(text string) (of string, count int, err error) {
	of, rest, err := cutFunction(text, "monitor 3")
	if err != nil {
		return "", 0, err
	}
	if count, err = strconv.Atoi(rest); err != nil || count < 1 {
		return "", 0, fmt.Errorf("%q is no number of instances from 1", rest)
	}
	return of, count, nil
}

func checkScale(d *topo.DPDK, text string) error {
	of, _, err := cutScale(text)
	if err != nil {
		return err
	}
	return checkFunction(d, of)
}

func checkTell(d *topo.DPDK, text string) error {
	of, _, err := cutFunction(text, "firewall rules")
	if err != nil {
		return err
	}
	return checkFunction(d, of)
}

func cutChain(text string) (name string, steps []string, err error) {
	name, rest, ok := strings.Cut(text, " ")
	if steps = topo.SplitChain(rest); !ok || len(steps) == 0 {
		return "", nil, fmt.Errorf("%q is a chain without steps; write for example default 1→3→2", text)
	}
	return name, steps, nil
}

func checkChain(d *topo.DPDK, text string) error {
	_, steps, err := cutChain(text)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if !strings.HasPrefix(s, "port:") {
			err = errors.Join(err, checkFunction(d, s))
		}
	}
	return err
}

func checkFlow(_ *topo.DPDK, text string) error {
	_, _, err := topo.SplitFlow(text)
	return err
}

// instances returns the instances of an NF or a service that run.
func (t *Trial) instances(ctx context.Context, node, of string) ([]dpdkhost.Instance, error) {
	st, err := t.Client.NFs(ctx, node)
	if err != nil {
		return nil, err
	}
	var found []dpdkhost.Instance
	var names []string
	for _, i := range st.Instances {
		if i.Name == of || strconv.Itoa(i.Service) == of {
			found = append(found, i)
		}
		names = append(names, fmt.Sprintf("%s@%d", i.Name, i.Service))
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: %w", node, unknown("NF or service", of, names))
	}
	return found, nil
}

func startFunction(ctx context.Context, t *Trial, node, text string) (Outcome, error) {
	n, err := topo.ParseNF(text)
	if err != nil {
		return Outcome{}, err
	}
	if n, err = t.functionFiles(n); err != nil {
		return Outcome{}, err
	}
	list, err := t.Client.StartNF(ctx, node, n)
	o := Outcome{Detail: list}
	for _, i := range list {
		o.Summary = fmt.Sprintf("instance %d of service %d", i.ID, i.Service)
	}
	return o, err
}

// functionFiles makes absolute paths of the files that an NF names: those that it reads are beside
// the experiment's file, those that it writes go to the results.
func (t *Trial) functionFiles(n topo.NF) (topo.NF, error) {
	var failed error
	n = n.Rename(func(path string, write bool) string {
		if !write {
			return path
		}
		file, err := t.resultFile(path)
		failed = errors.Join(failed, err)
		return file
	})
	return n.Under(t.Home), failed
}

func stopFunction(ctx context.Context, t *Trial, node, of string) (Outcome, error) {
	list, err := t.instances(ctx, node, of)
	for _, i := range list {
		err = errors.Join(err, t.Client.StopNF(ctx, node, i.ID, false))
	}
	return Outcome{}, err
}

func scaleFunction(ctx context.Context, t *Trial, node, text string) (Outcome, error) {
	of, count, err := cutScale(text)
	if err != nil {
		return Outcome{}, err
	}
	list, err := t.instances(ctx, node, of)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{}, t.Client.ScaleNF(ctx, node, list[0].Service, count)
}

func setChain(ctx context.Context, t *Trial, node, text string) (Outcome, error) {
	name, steps, err := cutChain(text)
	if err != nil {
		return Outcome{}, err
	}
	st, err := t.Client.NFs(ctx, node)
	if err != nil {
		return Outcome{}, err
	}
	var nfs []topo.NF
	for _, i := range st.Instances {
		nfs = append(nfs, topo.NF{Name: i.Name, Service: i.Service})
	}
	c, err := topo.ParseChain(name, steps, nfs)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{}, t.Client.ChangeNFs(ctx, node, dpdkhost.Change{Chain: &c})
}

func deleteChain(ctx context.Context, t *Trial, node, name string) (Outcome, error) {
	return Outcome{}, t.Client.ChangeNFs(ctx, node, dpdkhost.Change{DeleteChain: name})
}

func addFlow(ctx context.Context, t *Trial, node, flow string) (Outcome, error) {
	return Outcome{}, t.Client.ChangeNFs(ctx, node, dpdkhost.Change{AddFlow: flow})
}

func deleteFlows(ctx context.Context, t *Trial, node, match string) (Outcome, error) {
	if match == "all" {
		match = ""
	}
	return Outcome{}, t.Client.ChangeNFs(ctx, node, dpdkhost.Change{DeleteFlows: &match})
}

func tellFunction(ctx context.Context, t *Trial, node, text string) (Outcome, error) {
	of, words, err := cutFunction(text, "firewall rules")
	if err != nil {
		return Outcome{}, err
	}
	list, err := t.instances(ctx, node, of)
	if err != nil {
		return Outcome{}, err
	}
	answer, err := t.Client.CommandNF(ctx, node, list[0].ID, strings.Fields(words))
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Values: Values{"output": answer}, Detail: answer, Summary: formatText(answer)}, nil
}
