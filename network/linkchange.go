package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"weft/link"
	"weft/topo"
)

// A LinkChange says what is to be done to links. What is not set stays as it is.
type LinkChange struct {
	// Up takes both ends up or down; switches tell their controllers.
	Up *bool `json:"up,omitempty"`
	// Cut drops all frames, or no longer, while the ends stay up. Way says which: those that
	// go the way "ab", as the link was named, "ba", or both if it is empty.
	Cut *bool  `json:"cut,omitempty"`
	Way string `json:"way,omitempty"`
	// Options change settings, as topo.LinkSettings.Set takes them. Files have absolute paths.
	Options []string `json:"options,omitempty"`
}

// ChangeLink changes the links that a name stands for (topo.Plan.FindLinks), or all that join
// a and b if b is not empty, and returns them as they are then. What is wrong with the change
// is found before anything is changed.
func (n *Network) ChangeLink(ctx context.Context, a, b string, c LinkChange) ([]LinkState, error) {
	n.change.Lock()
	defer n.change.Unlock()
	views, oneWay, err := n.findLinks(a, b)
	if err != nil {
		return nil, err
	}
	if oneWay {
		if c, err = c.oneWay(); err != nil {
			return nil, err
		}
	}
	if err := n.changeLinks(ctx, views, c); err != nil {
		return nil, err
	}
	var states []LinkState
	for _, v := range views {
		states = append(states, n.linkState(*n.plannedLink(v.ID), true))
	}
	return states, nil
}

// findLinks finds links by one name, or by two nodes.
func (n *Network) findLinks(a, b string) ([]topo.LinkView, bool, error) {
	if b == "" {
		return n.plan.FindLinks(a)
	}
	list, err := n.linksBetween(a, b)
	var views []topo.LinkView
	for _, l := range list {
		views = append(views, topo.LinkView{PlannedLink: l, Turned: l.A.Node != a})
	}
	return views, false, err
}

func (n *Network) plannedLink(id int) *topo.PlannedLink {
	if i := slices.IndexFunc(n.plan.Links, func(l topo.PlannedLink) bool { return l.ID == id }); i >= 0 {
		return &n.plan.Links[i]
	}
	return nil
}

var errArrow = errors.New("the arrow and ba say different directions; write one of them")

// oneWay restricts a change to the way that an arrow names.
func (c LinkChange) oneWay() (LinkChange, error) {
	if c.Up != nil {
		return c, errors.New("up and down are of both ends; a link that passes nothing one way is cut")
	}
	if c.Way == "ba" {
		return c, errArrow
	}
	c.Way = "ab"
	c.Options = slices.Clone(c.Options)
	for i, o := range c.Options {
		name, _, _ := strings.Cut(o, "=")
		switch way, _, ok := strings.Cut(name, ":"); {
		case !ok:
			c.Options[i] = "ab:" + o
		case way == "ba":
			return c, errArrow
		}
	}
	return c, nil
}

// changeLinks changes links. n.change is held.
func (n *Network) changeLinks(ctx context.Context, views []topo.LinkView, c LinkChange) error {
	if c.Way != "" && c.Way != "ab" && c.Way != "ba" {
		return fmt.Errorf("a direction is ab or ba, not %q", c.Way)
	}
	if len(c.Options) > 0 {
		if err := n.setLinks(views, c.Options); err != nil {
			return err
		}
	}
	var errs []error
	for _, v := range views {
		var err error
		if c.Cut != nil {
			err = n.cutLink(ctx, v, c.Way, *c.Cut)
		}
		if err == nil && c.Up != nil {
			err = n.setLinkUp(ctx, v.PlannedLink, *c.Up)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("link %s: %w", linkTitle(v.PlannedLink), err))
		}
	}
	return errors.Join(errs...)
}

// setLinks changes the settings of links: all of them, or none.
func (n *Network) setLinks(views []topo.LinkView, options []string) error {
	before := n.plan
	var changed []topo.LinkView
	return n.edit(func(p *topo.Plan) error {
		for _, v := range views {
			s, err := p.ChangeLink(v, options...)
			if err != nil {
				return fmt.Errorf("link %s: %w", linkTitle(v.PlannedLink), err)
			}
			v.LinkSettings = s
			changed = append(changed, v)
		}
		return nil
	}, func() error {
		for _, v := range changed {
			if err := n.applyLink(v.PlannedLink); err != nil {
				return fmt.Errorf("link %s: %w", linkTitle(v.PlannedLink), err)
			}
			n.linkEvent(v.PlannedLink, strings.Join(options, " "))
		}
		return nil
	}, func() {
		for _, v := range views {
			if i := slices.IndexFunc(before.Links, func(l topo.PlannedLink) bool { return l.ID == v.ID }); i >= 0 {
				n.applyLink(before.Links[i])
			}
		}
	})
}

// linkEvent tells of a change of a link.
func (n *Network) linkEvent(l topo.PlannedLink, what string) {
	n.events.send(Event{Kind: KindLinkChanged, Link: l.A.Node + "-" + l.B.Node, Message: what})
}

// applyLink makes a running link do what is planned. Frames in flight arrive as they were
// going to.
func (n *Network) applyLink(l topo.PlannedLink) error {
	r := n.runningLink(l.ID)
	if r == nil || r.driver == topo.LinkPatch || r.driver == topo.LinkHW || r.driver == topo.LinkMemif {
		return nil
	}
	next, want := l.LinkSettings, n.chooseDriver(l.LinkSettings)
	// A seed or a record is a wire's for its life.
	same := want == r.inForce() && sameSeed(r.settings.Seed, next.Seed) && r.settings.Record == next.Record
	plain := want == topo.LinkVeth
	if err := n.resize(l, r, next.MTU); err != nil {
		return err
	}
	switch {
	case plain && r.current() == nil:
	case same || plain:
		if err := setWays(r.current(), r.settings, next); err != nil {
			return err
		}
		if r.beside != nil && plain {
			if err := n.leaveBeside(l, r); err != nil {
				return err
			}
		}
	default:
		if err := n.goBeside(l, r, next, want); err != nil {
			return err
		}
	}
	n.links.update(func() { r.settings = next })
	return n.tellSpeed(l, r)
}

// resize changes the MTU of a running link.
func (n *Network) resize(l topo.PlannedLink, r *runningLink, mtu int) error {
	was, is := cmp.Or(r.settings.MTU, link.DefaultMTU), cmp.Or(mtu, link.DefaultMTU)
	if was == is {
		return nil
	}
	set := func(mtu int) error {
		if r.beside != nil {
			if err := r.beside.SetMTU(mtu); err != nil {
				return err
			}
		}
		if r.shaper != nil {
			return r.shaper.SetMTU(mtu)
		}
		for _, e := range []topo.PlannedEnd{l.A, l.B} {
			end, err := n.end(e)
			if err == nil {
				err = end.SetMTU(mtu)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := set(is); err != nil {
		return errors.Join(err, set(was))
	}
	return nil
}

func sameSeed(a, b *uint64) bool { return a == b || a != nil && b != nil && *a == *b }

// setWays changes what a shaper does in the directions that differ.
func setWays(s link.Shaper, was, is topo.LinkSettings) error {
	before, after := [2]topo.Impairment{was.AB, was.BA}, [2]topo.Impairment{is.AB, is.BA}
	for way := range after {
		if before[way] == after[way] && was.MTU == is.MTU {
			continue
		}
		if err := s.Set(way, after[way]); err != nil {
			if way == 1 {
				err = errors.Join(err, s.Set(0, before[0]))
			}
			return err
		}
	}
	return nil
}

// A besideLink is a link whose ends are beside those of another, so that its frames pass it and
// come back.
type besideLink struct {
	link.Shaper
	driver  topo.LinkDriver
	ends    [2]link.End
	release func() error // forgets the devices
	record  io.Closer
}

func (b *besideLink) close() error {
	return errors.Join(b.release(), b.Close(), b.record.Close())
}

// goBeside impairs a link by another beside its devices, which stay with all that they have:
// names, numbers, addresses, routes. It takes over between one frame and the next.
func (n *Network) goBeside(l topo.PlannedLink, r *runningLink, next topo.LinkSettings, driver topo.LinkDriver) error {
	for _, e := range []topo.PlannedEnd{l.A, l.B} {
		if remedy := n.passesBy(e.Node); remedy != nil {
			return fmt.Errorf("switch %s has AF_XDP ports, which pass by what impairs a link: %w", e.Node, remedy)
		}
	}
	c, record, err := n.linkConfig(l)
	if err != nil {
		return err
	}
	c.Settings, c.Return, c.Name = next, true, c.A.Device+" "+c.B.Device
	n.links.mu.Lock()
	n.links.besides++
	number := n.links.besides
	n.links.mu.Unlock()
	c.A = link.End{Net: c.A.Net, Device: fmt.Sprintf("weft-%da", number)}
	c.B = link.End{Net: c.B.Net, Device: fmt.Sprintf("weft-%db", number)}
	shaper, err := n.linkMakers()[driver](c, l)
	if err != nil {
		return errors.Join(err, record.Close())
	}
	gates := [2]*link.Gates{n.gatesOf(l.A.Node), n.gatesOf(l.B.Node)}
	b := &besideLink{shaper, driver, [2]link.End{c.A, c.B}, func() error {
		return errors.Join(gates[0].Forget(c.A.Device), gates[1].Forget(c.B.Device))
	}, record}
	err = errors.Join(n.quiet(c.A), n.quiet(c.B))
	if err == nil {
		err = n.setEnds(context.Background(), l, r, func(i int, e *linkEnd) { e.through = b.ends[i].Device })
	}
	if err != nil {
		return errors.Join(err, b.close())
	}
	if r.beside != nil {
		n.runDry(l, r.beside)
	} else if r.shaper != nil {
		err = setWays(r.shaper, r.settings, topo.LinkSettings{})
	}
	n.links.update(func() { r.beside = b })
	return err
}

// quiet takes a device up that its host's own stack has no business with.
func (n *Network) quiet(e link.End) error {
	h := n.nl
	if e.Net != nil {
		var err error
		if h, err = e.Net.Handle(); err != nil {
			return err
		}
		defer h.Close()
	}
	dev, err := h.LinkByName(e.Device)
	if err != nil {
		return err
	}
	// A kernel without IPv6 has nothing to turn off.
	h.LinkSetIP6AddrGenMode(dev, addrGenNone)
	return errors.Join(h.LinkSetARPOff(dev), h.LinkSetUp(dev))
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h): no link-local address.
const addrGenNone = 1

// leaveBeside lets frames go directly again.
func (n *Network) leaveBeside(l topo.PlannedLink, r *runningLink) error {
	if err := n.setEnds(context.Background(), l, r, func(_ int, e *linkEnd) { e.through = "" }); err != nil {
		return err
	}
	n.runDry(l, r.beside)
	n.links.update(func() { r.beside = nil })
	return nil
}

// runDry closes a link beside another, to which no more frames come, once it has delivered the
// last.
func (n *Network) runDry(l topo.PlannedLink, b *besideLink) {
	n.links.wg.Go(func() {
		for deadline := time.Now().Add(dryTimeout); ; time.Sleep(dryInterval) {
			c, err := b.Counters()
			switch {
			case err != nil: // the network has ended
				b.record.Close()
				return
			case c[0].Queued+c[0].InFlight+c[1].Queued+c[1].InFlight == 0:
			case time.Now().Before(deadline):
				continue
			default:
				n.linkEvent(l, fmt.Sprintf("frames of its earlier settings are still in flight after %v and are lost", dryTimeout))
			}
			if err := b.close(); err != nil {
				n.env.Log.Warn("beside a link", "link", linkTitle(l), "error", err)
			}
			return
		}
	})
}

const (
	dryTimeout  = 30 * time.Second
	dryInterval = 20 * time.Millisecond
)

// setEnds changes what happens at the ends of a link.
func (n *Network) setEnds(ctx context.Context, l topo.PlannedLink, r *runningLink, change func(i int, e *linkEnd)) error {
	c := endsChange{l, r, r.ends}
	for i := range c.next {
		change(i, &c.next[i])
	}
	return n.setAllEnds(ctx, []endsChange{c})
}

// An endsChange is what is to happen at the ends of a link.
type endsChange struct {
	topo.PlannedLink
	r    *runningLink
	next [2]linkEnd
}

// setAllEnds changes what happens at the ends of links: at all, or at none.
func (n *Network) setAllEnds(ctx context.Context, changes []endsChange) error {
	var order []*link.Gates // one call of nft for each namespace
	before, after := map[*link.Gates][]link.Gate{}, map[*link.Gates][]link.Gate{}
	var patches []endsChange
	for _, c := range changes {
		if c.r.driver == topo.LinkPatch {
			patches = append(patches, c)
			continue
		}
		if c.r.driver == topo.LinkMemif && c.next != c.r.ends {
			return fmt.Errorf("link %s: %w", linkTitle(c.PlannedLink), errNoDevices)
		}
		for i, e := range []topo.PlannedEnd{c.A, c.B} {
			was, is := c.r.ends[i].gate(), c.next[i].gate()
			if was == is || was.Device == "" { // outside nothing can be stopped
				continue
			}
			if remedy := n.passesBy(e.Node); remedy != nil {
				return fmt.Errorf("link %s: switch %s has AF_XDP ports, which pass by what stops frames: %w", linkTitle(c.PlannedLink), e.Node, remedy)
			}
			g := n.gatesOf(e.Node)
			if after[g] == nil {
				order = append(order, g)
			}
			before[g], after[g] = append(before[g], was), append(after[g], is)
		}
	}
	for i, g := range order {
		if err := g.Set(after[g]...); err != nil {
			for _, g := range order[:i] {
				err = errors.Join(err, g.Set(before[g]...))
			}
			return err
		}
	}
	for _, c := range patches {
		for i, e := range []topo.PlannedEnd{c.A, c.B} {
			was, is := c.r.ends[i].gate().Cut, c.next[i].gate().Cut
			if was == is {
				continue
			}
			if err := n.setPatch(ctx, e, map[bool]string{true: "no-forward", false: "forward"}[is]); err != nil {
				return err
			}
		}
	}
	n.links.update(func() {
		for _, c := range changes {
			c.r.ends = c.next
		}
	})
	return nil
}

// cutPatches cuts the patches of a switch that has started anew, as they were.
func (n *Network) cutPatches(ctx context.Context, name string) error {
	for _, l := range n.plan.Links {
		r := n.runningLink(l.ID)
		if r == nil || r.driver != topo.LinkPatch {
			continue
		}
		for i, e := range []topo.PlannedEnd{l.A, l.B} {
			if e.Node == name && r.ends[i].gate().Cut {
				if err := n.setPatch(ctx, e, "no-forward"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cutLink drops what goes a way over a link, or no longer.
func (n *Network) cutLink(ctx context.Context, v topo.LinkView, way string, cut bool) error {
	ways := [2]bool{way != "ba", way != "ab"}
	if v.Turned {
		ways[0], ways[1] = ways[1], ways[0]
	}
	r := n.runningLink(v.ID)
	if r == nil {
		return errors.New("it does not run")
	}
	if r.driver == topo.LinkHW {
		return errors.New("what a NIC is plugged into cannot be cut; take it down, or cut the link behind a switch")
	}
	if r.driver == topo.LinkMemif {
		return errNoDevices
	}
	err := n.setEnds(ctx, v.PlannedLink, r, func(i int, e *linkEnd) { e.cut = e.cut && !ways[i] || cut && ways[i] })
	if err == nil {
		n.linkEvent(v.PlannedLink, cutText(v.PlannedLink, r))
	}
	return err
}

// cutText says what of a link is cut.
func cutText(l topo.PlannedLink, r *runningLink) string {
	switch a, b := r.ends[0].cut, r.ends[1].cut; {
	case a && b:
		return "cut"
	case a:
		return "cut from " + l.A.Interface
	case b:
		return "cut from " + l.B.Interface
	}
	return "mended"
}

// setLinkUp takes both ends of a link up or down. Switches tell their controllers (PORT_STATUS).
func (n *Network) setLinkUp(ctx context.Context, l topo.PlannedLink, up bool) error {
	if l.Driver == topo.LinkMemif {
		return errNoDevices
	}
	var errs []error
	for _, e := range []topo.PlannedEnd{l.A, l.B} {
		if l.Driver == topo.LinkPatch {
			errs = append(errs, n.setPatch(ctx, e, upOrDown(up)))
			continue
		}
		if topo.Outside(e.Node) {
			continue
		}
		if up && n.isOff(e.Node) {
			continue // it comes up with its switch
		}
		errs = append(errs, n.onDevice(e, func(h *netlink.Handle, dev netlink.Link) error {
			if !up {
				return h.LinkSetDown(dev)
			}
			return h.LinkSetUp(dev)
		}))
		if host := n.plan.Host(e.Node); up && host != nil {
			// The kernel dropped them with the device.
			errs = append(errs, n.restoreRoutes(host, e))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	n.linkEvent(l, upOrDown(up))
	return nil
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// restoreRoutes gives a host the IPv6 address and the default route again that went with its
// interface.
func (n *Network) restoreRoutes(h *topo.PlannedHost, e topo.PlannedEnd) error {
	i := n.plan.Interface(e)
	if i == nil {
		return nil
	}
	return n.onDevice(e, func(nl *netlink.Handle, dev netlink.Link) error {
		if i.IP6.IsValid() {
			if err := nl.AddrReplace(dev, address6(i.IP6)); err != nil {
				return fmt.Errorf("address %s: %w", i.IP6, err)
			}
		}
		if !h.DefaultRoute.IsValid() || h.Interfaces[0].Name != e.Interface {
			return nil
		}
		return nl.RouteReplace(&netlink.Route{Gw: h.DefaultRoute.AsSlice()})
	})
}

// setPatch sets what a patch port, which has no device, does, in words of ovs-ofctl's mod-port.
func (n *Network) setPatch(ctx context.Context, e topo.PlannedEnd, action string) error {
	sw := n.plan.Switch(e.Node)
	args := []string{"mod-port", sw.Device, strconv.Itoa(n.plan.Interface(e).Port), action}
	if len(sw.Protocols) > 0 {
		args = append([]string{"-O", sw.Protocols[0]}, args...)
	}
	cmd := exec.CommandContext(ctx, "ovs-ofctl", args...)
	cmd.Env = append(cmd.Environ(), n.programEnv()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("port %s of %s %s: %w: %s", e.Interface, e.Node, action, err, out)
	}
	return nil
}
