package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"weft/dpdkhost"
	"weft/dpdkhost/manager"
	"weft/dpdkhost/server"
	"weft/topo"
)

// What is done to the network functions (NFs) of a DPDK node that runs goes into the plan too:
// so it is saved, compared, and there again when its manager is started anew.

// backend returns the manager of a DPDK node that runs.
func (n *Network) backend(name string) (*topo.PlannedSwitch, dpdkhost.Backend, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sw, d := n.plan.Switch(name), n.dpdk[name]
	switch {
	case sw == nil && n.plan.Host(name) == nil && n.plan.Controller(name) == nil:
		return nil, nil, fmt.Errorf("%w is called %q", ErrNoNode, name)
	case sw == nil || sw.DPDK == nil:
		return nil, nil, fmt.Errorf("%s is no dpdk node: it has no NFs", name)
	case d == nil:
		return nil, nil, fmt.Errorf("dpdk node %s is stopped", name)
	}
	return sw, d.backend, nil
}

// NFs tells of a DPDK node: its ports, NFs, chains and flows, with their counters.
func (n *Network) NFs(ctx context.Context, name string) (*dpdkhost.State, error) {
	_, b, err := n.backend(name)
	if err != nil {
		return nil, err
	}
	st, err := b.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("dpdk node %s: %w", name, err)
	}
	for name, file := range n.nfLogs() {
		for i := range st.Instances {
			if st.Instances[i].Log == file {
				st.Instances[i].Log = name
			}
		}
	}
	for i, p := range st.Ports { // as people call them
		for _, f := range n.interfacesOf(name) {
			if f.Port == p.Number {
				st.Ports[i].Name = f.Name
			}
		}
	}
	return st, nil
}

func (n *Network) interfacesOf(name string) []topo.Interface {
	n.mu.Lock()
	defer n.mu.Unlock()
	if sw := n.plan.Switch(name); sw != nil {
		return sw.Interfaces
	}
	return nil
}

// onNFs changes a DPDK node that runs: edit changes its description, which is checked, and then do
// the node itself.
func (n *Network) onNFs(name, what string, edit func(*topo.DPDK) error, do func(dpdkhost.Backend) error) error {
	n.change.Lock()
	defer n.change.Unlock()
	sw, b, err := n.backend(name)
	if err != nil {
		return err
	}
	d := sw.DPDK.Clone()
	if err := edit(d); err != nil {
		return fmt.Errorf("dpdk node %s: %w", name, err)
	}
	next := n.plan.Clone()
	if err := next.SetDPDK(name, d); err != nil {
		return fmt.Errorf("dpdk node %s: %w", name, err)
	}
	if err := do(b); err != nil {
		return fmt.Errorf("dpdk node %s: %w", name, err)
	}
	n.setPlan(next)
	n.tellTopology() // NFs may route, or not any more
	n.events.send(Event{Kind: KindNodeChanged, Node: name, Message: what})
	return nil
}

// StartNF starts instances of an NF and waits until they take packets.
func (n *Network) StartNF(ctx context.Context, name string, f topo.NF) (started []dpdkhost.Instance, err error) {
	what := "NF " + f.String() + " started"
	err = n.onNFs(name, what, func(d *topo.DPDK) (err error) {
		if err := n.placeNFs(*n.plan.Switch(name), []topo.NF{f}); err != nil {
			return err
		}
		if f.Service == 0 {
			all := topo.NumberServices(append(slices.Clone(d.NFs), f))
			f.Service = all[len(all)-1].Service
		}
		if f, err = f.Complete(d.Manager); err != nil {
			return err
		}
		if err := f.Whole(); err != nil {
			return err
		}
		if i := slices.IndexFunc(d.NFs, func(o topo.NF) bool { return sameNF(o, f) }); i >= 0 {
			d.NFs[i].Instances += f.Instances
		} else {
			d.NFs = append(d.NFs, f)
		}
		return nil
	}, func(b dpdkhost.Backend) (err error) {
		started, err = b.Start(ctx, f)
		return err
	})
	if f.Outside && err == nil {
		started = []dpdkhost.Instance{{Name: f.Name, Service: f.Service, State: dpdkhost.Awaited, Socket: filepath.Join(n.env.Dir, n.plan.Switch(name).Device+".nf")}}
	}
	return started, err
}

// sameNF reports whether two NFs differ in the number of their instances at the most.
func sameNF(a, b topo.NF) bool { return nfKey(a) == nfKey(b) }

// nfKey is all of an NF but the number of its instances.
func nfKey(f topo.NF) string {
	f.Instances = 0
	text, _ := json.Marshal(f) // has nothing that cannot be
	return string(text)
}

// placeNFs makes ready where NFs of a node are to run, if that is not beside its manager.
func (n *Network) placeNFs(sw topo.PlannedSwitch, nfs []topo.NF) error {
	for _, f := range nfs {
		if !f.Contained() && f.Host == "" {
			continue
		}
		if n.env.Confine != nil {
			return fmt.Errorf("NF %s: in a container or on a host it could not be kept from changing the machine; write --allow when the network is made", f.Name)
		}
		if f.Host == "" {
			continue
		}
		n.mu.Lock()
		h := n.hosts[f.Host]
		n.mu.Unlock()
		if h == nil || n.plan.Host(f.Host) == nil {
			return fmt.Errorf("NF %s: no host is called %q", f.Name, f.Host)
		}
		place, err := h.Place()
		if err != nil {
			return fmt.Errorf("NF %s: %w", f.Name, err)
		}
		net, mount, uts := place.Paths()
		if err := server.ShowHost(n.dpdkDir(sw), f.Host, net, mount, uts); err != nil {
			return fmt.Errorf("NF %s on %s: %w", f.Name, f.Host, err)
		}
	}
	return nil
}

// StopNF ends an instance: drained first, unless at once is asked for. The last of a service
// that chains lead through stays.
func (n *Network) StopNF(ctx context.Context, name string, instance int, atOnce bool) error {
	st, err := n.NFs(ctx, name)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(st.Instances, func(i dpdkhost.Instance) bool { return i.ID == instance })
	if i < 0 {
		return fmt.Errorf("dpdk node %s: there is no instance %d%s", name, instance, haveInstances(st))
	}
	f := st.Instances[i]
	return n.onNFs(name, fmt.Sprintf("NF %s@%d stopped", f.Name, f.Service), func(d *topo.DPDK) error {
		if err := onlyOf(st, d, f); err != nil {
			return err
		}
		k := slices.IndexFunc(d.NFs, func(o topo.NF) bool { return o.Name == f.Name && o.Service == f.Service })
		if k < 0 {
			return nil // somebody else started it
		}
		if d.NFs[k].Instances--; d.NFs[k].Instances == 0 {
			d.NFs = slices.Delete(d.NFs, k, k+1)
		}
		return nil
	}, func(b dpdkhost.Backend) error { return b.Stop(ctx, instance, atOnce) })
}

// onlyOf says which chain leads through the service of an instance that is its only one.
func onlyOf(st *dpdkhost.State, d *topo.DPDK, f dpdkhost.Instance) error {
	if slices.ContainsFunc(st.Instances, func(o dpdkhost.Instance) bool { return o.ID != f.ID && o.Service == f.Service }) {
		return nil
	}
	for _, c := range d.Chains {
		if slices.Contains(c.Services, f.Service) {
			return fmt.Errorf("%s (%d) is the only instance of service %d, through which chain %s leads (%s); change the chain first: nf chain set %s …", f.Name, f.ID, f.Service, c.Name, c, c.Name)
		}
	}
	return nil
}

func haveInstances(st *dpdkhost.State) string {
	if len(st.Instances) == 0 {
		return ", nor any other"
	}
	text := "; there are"
	for _, i := range st.Instances {
		text += fmt.Sprintf(" %d", i.ID)
	}
	return text
}

// ScaleNF makes a service have so many instances: more of its first NF, or less, the newest
// first.
func (n *Network) ScaleNF(ctx context.Context, name string, service, instances int) error {
	sw, _, err := n.backend(name)
	if err != nil {
		return err
	}
	k := slices.IndexFunc(sw.DPDK.NFs, func(f topo.NF) bool { return f.Service == service })
	if k < 0 {
		return fmt.Errorf("dpdk node %s: no NF is in service %d", name, service)
	}
	if instances < 1 {
		return fmt.Errorf("dpdk node %s: %d instances; a service has at least one, and stop ends the last", name, instances)
	}
	st, err := n.NFs(ctx, name)
	if err != nil {
		return err
	}
	var have []int
	for _, i := range st.Instances {
		if i.Service == service {
			have = append(have, i.ID)
		}
	}
	if more := instances - len(have); more > 0 {
		f := sw.DPDK.NFs[k]
		f.Instances = more
		_, err := n.StartNF(ctx, name, f)
		return err
	}
	slices.Sort(have)
	for _, id := range slices.Backward(have[instances:]) {
		if err := n.StopNF(ctx, name, id, false); err != nil {
			return err
		}
	}
	return nil
}

// ChangeNFs changes chains, flows or the processor of an instance.
func (n *Network) ChangeNFs(ctx context.Context, name string, c dpdkhost.Change) error {
	return n.onNFs(name, "NFs changed: "+titleOf(c), func(d *topo.DPDK) error { return editDPDK(d, c) }, func(b dpdkhost.Backend) error { return b.Change(ctx, c) })
}

// titleOf says what a change is.
func titleOf(c dpdkhost.Change) string {
	switch {
	case c.Chain != nil:
		return "chain " + c.Chain.Name + " is " + c.Chain.String()
	case c.DeleteChain != "":
		return "chain " + c.DeleteChain + " deleted"
	case c.AddFlow != "":
		return "flow " + c.AddFlow
	case c.DeleteFlows != nil:
		return "flows " + *c.DeleteFlows + " deleted"
	case c.Move != nil:
		return fmt.Sprintf("instance %d on core %d", c.Move.Instance, c.Move.Core)
	}
	return "nothing"
}

// editDPDK changes a description as a change does with its node.
func editDPDK(d *topo.DPDK, c dpdkhost.Change) error {
	switch {
	case c.Chain != nil:
		i := slices.IndexFunc(d.Chains, func(o topo.Chain) bool { return o.Name == c.Chain.Name })
		if i < 0 {
			d.Chains = append(d.Chains, *c.Chain)
		} else {
			d.Chains[i] = *c.Chain
		}
	case c.DeleteChain != "":
		before := len(d.Chains)
		d.Chains = slices.DeleteFunc(d.Chains, func(o topo.Chain) bool { return o.Name == c.DeleteChain })
		if len(d.Chains) == before {
			return fmt.Errorf("there is no chain %q", c.DeleteChain)
		}
	case c.AddFlow != "":
		if _, err := manager.ParseFlow(c.AddFlow); err != nil {
			return fmt.Errorf("flow %q: %w", c.AddFlow, err)
		}
		d.Flows = append(d.Flows, c.AddFlow)
	case c.DeleteFlows != nil:
		match, err := manager.ParseMatch(*c.DeleteFlows)
		if err != nil {
			return fmt.Errorf("flows %q: %w", *c.DeleteFlows, err)
		}
		d.Flows = slices.DeleteFunc(d.Flows, func(text string) bool {
			f, err := manager.ParseFlow(text)
			return err == nil && match.Covers(&f.Match)
		})
	case c.Move == nil: // where an instance runs now is not what it was started with
		return errors.New("the change says nothing")
	}
	return nil
}

// CommandNF sends words to an instance and returns its answer, text for people.
func (n *Network) CommandNF(ctx context.Context, name string, instance int, words []string) (string, error) {
	_, b, err := n.backend(name)
	if err != nil {
		return "", err
	}
	c, ok := b.(dpdkhost.Commander)
	if !ok {
		return "", fmt.Errorf("dpdk node %s: commands to NFs: %w; take manager weft", name, dpdkhost.ErrUnsupported)
	}
	return c.Command(ctx, instance, words)
}

// changeNFs makes the NFs, chains and flows of a node that runs those of another description:
// first comes what is new, last goes what chains led through before, so that no packet
// is lost. n.change is held.
func (n *Network) changeNFs(ctx context.Context, name string, from, to *topo.DPDK) error {
	_, b, err := n.backend(name)
	if err != nil {
		return err
	}
	before, err := b.State(ctx)
	if err != nil {
		return err
	}
	if err := n.placeNFs(*n.plan.Switch(name), to.NFs); err != nil {
		return err
	}
	counts := map[string]int{}
	for _, f := range from.NFs {
		counts[nfKey(f)] += f.Instances
	}
	n.mu.Lock()
	free := !n.plan.Trusted && !n.hosts[name].Confined()
	n.mu.Unlock()
	for _, f := range to.NFs {
		if free && f.Command != "" && counts[nfKey(f)] == 0 {
			return fmt.Errorf("NF %s is a program of the file's own, and what runs on this node is not kept from changing the machine; start it yourself (nf start %s --command …), or bring the network up anew", f.Name, f.Name)
		}
	}
	for _, f := range to.NFs {
		key := nfKey(f)
		more := f.Instances - counts[key]
		counts[key] = max(-more, 0)
		if f.Instances = more; more > 0 {
			if _, err := b.Start(ctx, f); err != nil {
				return err
			}
		}
	}
	var changes []dpdkhost.Change
	for _, c := range to.Chains {
		if !slices.ContainsFunc(from.Chains, func(o topo.Chain) bool { return o.Name == c.Name && o.String() == c.String() }) {
			changes = append(changes, dpdkhost.Change{Chain: &c})
		}
	}
	for _, f := range to.Flows {
		if !slices.Contains(from.Flows, f) {
			changes = append(changes, dpdkhost.Change{AddFlow: f})
		}
	}
	for _, f := range from.Flows {
		if match, _, err := topo.SplitFlow(f); err == nil && !slices.Contains(to.Flows, f) && !hasMatch(to.Flows, match) {
			changes = append(changes, dpdkhost.Change{DeleteFlows: &match})
		}
	}
	for _, c := range from.Chains {
		if !slices.ContainsFunc(to.Chains, func(o topo.Chain) bool { return o.Name == c.Name }) {
			changes = append(changes, dpdkhost.Change{DeleteChain: c.Name})
		}
	}
	for _, c := range changes {
		if err := b.Change(ctx, c); err != nil {
			return err
		}
	}
	for _, f := range from.NFs {
		less := counts[nfKey(f)]
		counts[nfKey(f)] = 0
		for _, i := range slices.Backward(before.Instances) {
			if less > 0 && i.Name == f.Name && i.Service == f.Service {
				if err := b.Stop(ctx, i.ID, false); err != nil {
					return err
				}
				less--
			}
		}
	}
	return nil
}

// hasMatch reports whether one of the flows has the match: a flow that is added takes the
// place of the one that has it.
func hasMatch(flows []string, match string) bool {
	return slices.ContainsFunc(flows, func(f string) bool {
		m, _, err := topo.SplitFlow(f)
		return err == nil && m == match
	})
}

// steerDPDK connects a node that runs to the controllers at some sockets.
func (n *Network) steerDPDK(ctx context.Context, name string, targets []string) error {
	_, b, err := n.backend(name)
	if err != nil {
		return err
	}
	s, ok := b.(dpdkhost.Steered)
	if !ok {
		return fmt.Errorf("dpdk node %s: controllers: %w; take manager weft", name, dpdkhost.ErrUnsupported)
	}
	return s.SetControllers(ctx, targets)
}
