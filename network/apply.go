package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"weft/node"
	"weft/topo"
)

// An ApplyRequest asks for a network to become another.
type ApplyRequest struct {
	Spec topo.Spec `json:"spec"`
	// DryRun only says what would be done.
	DryRun bool `json:"dryRun,omitempty"`
}

// Apply makes the network the one that a Spec describes. What is the same before and after is
// not touched. planned is told what is to be done before anything is, and report of each thing
// that is done. An error says what could not be done; what was done until then stays.
//
//	remove links, nodes ─► add controllers, nodes, links ─► change ─► remove controllers
func (n *Network) Apply(ctx context.Context, r ApplyRequest, planned func(*topo.Diff), report func(Event)) error {
	n.change.Lock()
	defer n.change.Unlock()
	d, err := n.plan.Diff(r.Spec)
	if err == nil {
		err = n.canBecome(d)
	}
	if err != nil {
		return err
	}
	planned(d)
	switch {
	case r.DryRun || d.IsEmpty():
		return nil
	case !n.isUp:
		return errors.New("the network is not started yet")
	}
	a := &application{Network: n, diff: d, report: report}
	err = a.run(ctx)
	n.tellTopology()
	return errors.Join(err, n.writeEtc())
}

// canBecome says why switches cannot be as planned on this machine.
func (n *Network) canBecome(d *topo.Diff) error {
	then := &Network{env: n.env, plan: d.Plan, datapath: n.datapath, local: n.local}
	var errs []error
	for _, sw := range d.Plan.Switches {
		errs = append(errs, then.usable(sw))
	}
	return errors.Join(errs...)
}

// An application is a Diff on its way into a network. Network.change is held.
type application struct {
	*Network
	diff   *topo.Diff
	report func(Event)
}

// done tells of something that was done.
func (a *application) done(e Event) {
	e.Time, e.Level = time.Now(), slog.LevelInfo.String()
	a.report(e)
	a.events.send(e)
}

func (a *application) nodeDone(kind, name, what string) {
	a.done(Event{Kind: kind, Node: name, Message: what + " " + name})
}

func (a *application) linkDone(kind string, l topo.PlannedLink, what string) {
	a.done(Event{Kind: kind, Link: l.A.Node + "-" + l.B.Node, Message: what + " " + linkTitle(l)})
}

func (a *application) run(ctx context.Context) error {
	if err := a.remove(ctx); err != nil {
		return err
	}
	// From here on the plan is what will be, but for what is still to be changed.
	a.setPlan(a.diff.Plan)
	if d := a.diff; len(d.Hosts.Change)+len(d.Switches.Change)+len(d.Controllers.Change)+len(d.Links.Change) > 0 {
		a.edited(a.putBack)
	}
	a.tellTopology()
	if startAgain, err := a.add(ctx); err != nil {
		a.edited(a.dropAdded)
		return errors.Join(err, startAgain())
	}
	if err := a.changeAll(ctx); err != nil {
		return err
	}
	if err := a.removeControllers(); err != nil {
		return err
	}
	return a.runNew(ctx)
}

// edited changes the plan, of nodes and links that are as the plan says then.
func (a *application) edited(change func(*topo.Plan)) {
	p := a.plan.Clone()
	change(p)
	a.setPlan(p.Clone()) // with an index of what it has become
}

// putBack makes a plan say of all that is to be changed what is so now.
func (a *application) putBack(p *topo.Plan) {
	for _, c := range a.diff.Hosts.Change {
		p.PutHost(c.From)
	}
	for _, c := range a.diff.Switches.Change {
		p.PutSwitch(c.From)
	}
	for _, c := range a.diff.Controllers.Change {
		p.PutController(c.From)
	}
	for _, c := range a.diff.Links.Change {
		p.PutLink(c.From)
	}
}

// from returns what was there of changes.
func from[T any](list []topo.Change[T]) (all []T) {
	for _, c := range list {
		all = append(all, c.From)
	}
	return all
}

func to[T any](list []topo.Change[T]) (all []T) {
	for _, c := range list {
		all = append(all, c.To)
	}
	return all
}

// remove takes links, switches and hosts away.
func (a *application) remove(ctx context.Context) error {
	d := a.diff
	switches := slices.Concat(d.Switches.Remove, from(d.Switches.Replace))
	for _, sw := range switches { // before their links
		if err := a.endSwitch(ctx, sw); err != nil {
			return err
		}
	}
	if links := slices.Concat(d.Links.Remove, from(d.Links.Replace)); len(links) > 0 {
		startAgain, err := a.detach(ctx, links...)
		if err == nil {
			a.edited(func(p *topo.Plan) { p.Drop(nil, links) })
		}
		if err := errors.Join(err, startAgain()); err != nil {
			return err
		}
	}
	for _, l := range d.Links.Remove {
		a.linkDone(KindLinkRemoved, l, "removed link")
	}
	for _, sw := range switches {
		a.edited(func(p *topo.Plan) { p.Drop([]string{sw.Name}, nil) })
		a.nodeDone(KindNodeRemoved, sw.Name, "removed switch")
	}
	for _, h := range slices.Concat(d.Hosts.Remove, from(d.Hosts.Replace)) {
		a.endTasks(h.Name)
		err := a.dropHost(h.Name)
		a.edited(func(p *topo.Plan) { p.Drop([]string{h.Name}, nil) })
		if err != nil {
			return fmt.Errorf("remove host %s: %w", h.Name, err)
		}
		a.nodeDone(KindNodeRemoved, h.Name, "removed host")
	}
	return nil
}

// add makes controllers, nodes and links, all or none. After an error startAgain is to be called
// when the plan is without them.
func (a *application) add(ctx context.Context) (startAgain func() error, err error) {
	d := a.diff
	hosts := slices.Concat(to(d.Hosts.Replace), d.Hosts.Add)
	switches := slices.Concat(to(d.Switches.Replace), d.Switches.Add)
	links := slices.Concat(to(d.Links.Replace), d.Links.Add)
	defer func() {
		if err != nil {
			startAgain = a.takeBack(context.WithoutCancel(ctx), links, switches, hosts)
		}
	}()
	for _, c := range d.Controllers.Add {
		if err := a.launchController(ctx, c); err != nil {
			return nil, err
		}
		a.nodeDone(KindNodeAdded, c.Name, "added controller")
	}
	// Hosts first: NFs may run on them.
	if err := a.makeHosts(ctx, hosts, &reporter{}); err != nil {
		return nil, err
	}
	if err := a.addSwitches(ctx, switches); err != nil {
		return nil, err
	}
	if err := a.makeLinks(ctx, links, &reporter{}); err != nil {
		return nil, err
	}
	if err := a.attachAll(ctx, links, hosts); err != nil {
		return nil, err
	}
	for _, sw := range d.Switches.Add {
		a.nodeDone(KindNodeAdded, sw.Name, "added switch")
	}
	for _, h := range hosts {
		if err := a.configureHost(&h); err != nil {
			return nil, err
		}
		if h.NAT != nil {
			if err := a.openGateway(ctx, h); err != nil {
				return nil, err
			}
		}
		a.nodeDone(KindNodeAdded, h.Name, "added host")
	}
	for _, l := range d.Links.Replace {
		a.linkDone(KindLinkAdded, l.To, "made anew link")
	}
	for _, l := range d.Links.Add {
		a.linkDone(KindLinkAdded, l, "added link")
	}
	return nil, nil
}

// addSwitches starts switches without their ports, which attachAll adds.
func (a *application) addSwitches(ctx context.Context, switches []topo.PlannedSwitch) (err error) {
	bare := slices.Clone(switches)
	for i := range bare {
		bare[i].Interfaces = nil
		if err := a.makeDPDK(bare[i : i+1]); err != nil {
			return err
		}
		if bare[i].Driver.OVS() && a.ovs == nil {
			a.startOVS(ctx)
			if a.ovs, err = a.ovsReady(); err != nil {
				return err
			}
		}
	}
	if len(bare) == 0 {
		return nil
	}
	return a.startSwitches(ctx, bare)
}

// attachAll makes the interfaces of new links part of their nodes. New hosts are left out.
func (a *application) attachAll(ctx context.Context, links []topo.PlannedLink, hosts []topo.PlannedHost) error {
	isNew := map[string]bool{}
	for _, h := range hosts {
		isNew[h.Name] = true
	}
	var ends []topo.PlannedEnd
	for _, l := range links {
		for _, e := range []topo.PlannedEnd{l.A, l.B} {
			if !isNew[e.Node] {
				ends = append(ends, e)
			}
		}
	}
	if err := a.attach(ctx, ends); err != nil {
		return err
	}
	return a.awaitMemif(ctx)
}

// takeBack removes what add has made. startAgain is to be called when the plan is without it.
func (a *application) takeBack(ctx context.Context, links []topo.PlannedLink, switches []topo.PlannedSwitch, hosts []topo.PlannedHost) (startAgain func() error) {
	startAgain, _ = a.detach(ctx, links...) // what is not there cannot be removed
	for _, sw := range switches {
		a.endSwitch(ctx, sw)
	}
	for _, h := range hosts {
		a.dropHost(h.Name)
	}
	for _, c := range a.diff.Controllers.Add {
		a.endController(c.Name)
	}
	return startAgain
}

// dropAdded takes what was to be added out of a plan.
func (a *application) dropAdded(p *topo.Plan) {
	d := a.diff
	var names []string
	for _, h := range slices.Concat(to(d.Hosts.Replace), d.Hosts.Add) {
		names = append(names, h.Name)
	}
	for _, sw := range slices.Concat(to(d.Switches.Replace), d.Switches.Add) {
		names = append(names, sw.Name)
	}
	for _, c := range d.Controllers.Add {
		names = append(names, c.Name)
	}
	p.Drop(names, slices.Concat(to(d.Links.Replace), d.Links.Add))
}

// changeAll changes what can be changed while it runs. A controller comes before the switches
// that may be new to it.
func (a *application) changeAll(ctx context.Context) error {
	d := a.diff
	renewed := map[string]bool{}
	for _, c := range d.Controllers.Change {
		if err := a.endController(c.From.Name); err != nil {
			return fmt.Errorf("controller %s: %w", c.From.Name, err)
		}
		if err := a.launchController(ctx, c.To); err != nil {
			return err
		}
		renewed[c.To.Name] = true
		a.edited(func(p *topo.Plan) { p.PutController(c.To) })
		a.nodeDone(KindNodeChanged, c.To.Name, "started anew controller")
	}
	for _, c := range d.Switches.Change {
		if err := a.changeSwitch(ctx, c, renewed); err != nil {
			return fmt.Errorf("switch %s: %w", c.To.Name, err)
		}
		a.edited(func(p *topo.Plan) { p.PutSwitch(c.To) })
		a.nodeDone(KindNodeChanged, c.To.Name, "changed switch")
	}
	if err := a.reconnect(ctx, renewed); err != nil {
		return err
	}
	for _, c := range d.Hosts.Change {
		if err := a.changeHost(c); err != nil {
			return err
		}
		a.edited(func(p *topo.Plan) { p.PutHost(c.To) })
		a.nodeDone(KindNodeChanged, c.To.Name, "changed host")
	}
	if err := a.changeLinkSettings(); err != nil {
		return err
	}
	return a.updateNeighbours()
}

// changeLinkSettings gives links their new settings.
func (a *application) changeLinkSettings() (err error) {
	var changed []topo.PlannedLink
	for _, c := range a.diff.Links.Change {
		if err = a.applyLink(c.To); err != nil {
			err = fmt.Errorf("link %s: %w", linkTitle(c.To), err)
			break
		}
		changed = append(changed, c.To)
		a.linkDone(KindLinkChanged, c.To, "changed link")
	}
	if len(changed) > 0 {
		a.edited(func(p *topo.Plan) {
			for _, l := range changed {
				p.PutLink(l)
			}
		})
	}
	return err
}

// changeSwitch makes a switch what it is to be. Its flows stay only if nothing but its
// controllers change.
func (a *application) changeSwitch(ctx context.Context, c topo.Change[topo.PlannedSwitch], renewed map[string]bool) error {
	a.mu.Lock()
	running := a.running[c.To.Name]
	a.mu.Unlock()
	if !running {
		return nil // it will start as planned
	}
	same := c.From
	same.Controllers, same.Interfaces = c.To.Controllers, c.To.Interfaces
	if reflect.DeepEqual(same, c.To) {
		return a.setControllers(ctx, c.To, renewed)
	}
	// To a DPDK node the fail mode is but whether it has a default chain.
	same.FailMode, same.DPDK = c.To.FailMode, c.To.DPDK
	if c.From.DPDK != nil && reflect.DeepEqual(same, c.To) && c.From.DPDK.OnlyNFs(c.To.DPDK) {
		if err := a.changeNFs(ctx, c.To.Name, c.From.DPDK, c.To.DPDK); err != nil {
			return err
		}
		return a.setControllers(ctx, c.To, renewed)
	}
	if err := a.stopSwitch(ctx, c.From); err != nil {
		return err
	}
	return a.startSwitches(ctx, []topo.PlannedSwitch{c.To})
}

// reconnect lets the switches that are not changed otherwise connect to controllers that
// were started anew.
func (a *application) reconnect(ctx context.Context, renewed map[string]bool) error {
	if len(renewed) == 0 {
		return nil
	}
	changed := map[string]bool{}
	for _, c := range a.diff.Switches.Change {
		changed[c.To.Name] = true
	}
	for _, sw := range a.plan.Switches {
		uses := slices.ContainsFunc(sw.Controllers, func(name string) bool { return renewed[name] })
		if changed[sw.Name] || !uses {
			continue
		}
		if err := a.setControllers(ctx, sw, renewed); err != nil {
			return fmt.Errorf("switch %s: %w", sw.Name, err)
		}
	}
	return nil
}

// changeHost gives a host other addresses.
func (a *application) changeHost(c topo.Change[topo.PlannedHost]) error {
	a.mu.Lock()
	host := a.hosts[c.To.Name]
	a.mu.Unlock()
	return host.Reconfigure(hostConfig(c.From), hostConfig(c.To))
}

// updateNeighbours gives all hosts the permanent neighbours that they are to have.
func (a *application) updateNeighbours() error {
	d := a.diff
	if !a.plan.Addressing.StaticARP || d.Hosts.IsZero() {
		return nil
	}
	var gone []node.Neighbour
	for _, h := range slices.Concat(d.Hosts.Remove, from(d.Hosts.Replace), from(d.Hosts.Change)) {
		gone = append(gone, neighboursOf(h)...)
	}
	return a.each(context.Background(), len(a.plan.Hosts), func(i int) error {
		h := a.plan.Hosts[i]
		if len(h.Interfaces) == 0 {
			return nil
		}
		a.mu.Lock()
		host := a.hosts[h.Name]
		a.mu.Unlock()
		return host.SetNeighbours(h.Interfaces[0].Device, gone, a.neighbours(h.Name))
	})
}

// removeControllers ends controllers that no switch has any more.
func (a *application) removeControllers() error {
	for _, c := range a.diff.Controllers.Remove {
		if err := a.endController(c.Name); err != nil {
			return fmt.Errorf("controller %s: %w", c.Name, err)
		}
		a.nodeDone(KindNodeRemoved, c.Name, "removed controller")
	}
	return nil
}

// runNew runs the commands that are new, one after another; those of a later time then.
func (a *application) runNew(ctx context.Context) error {
	start := time.Now()
	later, stop := context.WithCancel(context.WithoutCancel(ctx))
	for _, c := range a.diff.Run {
		if c.At > 0 {
			go a.runLater(later, c, start)
			continue
		}
		if err := a.runCommand(ctx, c); err != nil {
			stop()
			return err
		}
		a.done(Event{Kind: KindNote, Node: c.Node, Message: "ran " + shorten(c.Command)})
	}
	go func() {
		<-a.ended
		stop()
	}()
	return nil
}
