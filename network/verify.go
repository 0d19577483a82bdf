package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"weft/internal/ns"
	"weft/internal/probe"
	"weft/link"
	"weft/topo"
)

// A VerifyRequest asks whether links do what was asked of them.
type VerifyRequest struct {
	// Links are names (topo.Plan.FindLinks); without any, all links of which something was
	// asked, or with All all.
	Links []string `json:"links,omitempty"`
	All   bool     `json:"all,omitempty"`
}

// A LinkCheck is one direction of a link, measured.
type LinkCheck struct {
	Link   int             `json:"link"` // its ID
	From   topo.PlannedEnd `json:"from"`
	To     topo.PlannedEnd `json:"to"`
	Driver topo.LinkDriver `json:"driver"`
	// Figures are what was measured; none if Skipped says why nothing could be.
	Figures []Figure `json:"figures"`
	Skipped string   `json:"skipped,omitempty"`
	Verdict Verdict  `json:"verdict"` // the worst of its figures
}

// A Verdict says whether a link does what was asked.
type Verdict string

// The verdicts.
const (
	VerdictOK      Verdict = "ok"
	VerdictUnknown Verdict = "unknown" // this machine cannot tell, or it cannot be compared
	VerdictOff     Verdict = "off"     // outside the tolerance
)

// A Figure is something measured, beside what was asked.
type Figure struct {
	Name      string  `json:"name"` // rate, delay, jitter, loss, duplicate, corrupt, reorder
	Unit      string  `json:"unit"` // "bit/s", "s" or "%"
	Asked     float64 `json:"asked"`
	Measured  float64 `json:"measured"`
	Tolerance float64 `json:"tolerance"` // how far Measured may be from Asked
	Verdict   Verdict `json:"verdict"`
	// Note says why it is unknown.
	Note string `json:"note,omitempty"`
}

// VerifyLinks measures links, one after the other, with frames of its own that no host or
// switch takes notice of. Each takes up to about 5 s a direction; while its rate is measured,
// other traffic waits in its queue.
func (n *Network) VerifyLinks(ctx context.Context, r VerifyRequest) ([]LinkCheck, error) {
	n.verifying.Lock() // two at a time would measure each other
	defer n.verifying.Unlock()
	states, err := n.linksToVerify(r)
	if err != nil {
		return nil, err
	}
	checks := []LinkCheck{}
	if len(states) == 0 {
		return checks, nil
	}
	noise, err := n.timingNoise(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	n.mu.Lock()
	sw := n.ovs
	n.mu.Unlock()
	if sw != nil {
		sw.TendPorts() // they take no notice
	}
	for _, s := range states {
		for way := range 2 {
			c, err := n.verifyWay(ctx, s, way, noise)
			if err != nil {
				return nil, fmt.Errorf("link %s–%s: %w", s.A.Node, s.B.Node, err)
			}
			checks = append(checks, c)
		}
	}
	return checks, nil
}

// linksToVerify returns the links that a request is about.
func (n *Network) linksToVerify(r VerifyRequest) ([]LinkState, error) {
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	var states []LinkState
	add := func(l topo.PlannedLink) {
		if !slices.ContainsFunc(states, func(s LinkState) bool { return s.ID == l.ID }) {
			states = append(states, n.linkState(l, false))
		}
	}
	for _, name := range r.Links {
		views, _, err := plan.FindLinks(name)
		if err != nil {
			return nil, err
		}
		for _, v := range views {
			add(v.PlannedLink)
		}
	}
	for _, l := range plan.Links {
		if len(r.Links) == 0 && (r.All || l.Impaired()) {
			add(l)
		}
	}
	return states, nil
}

// verifyWay measures one direction of a link.
func (n *Network) verifyWay(ctx context.Context, s LinkState, way int, noise time.Duration) (LinkCheck, error) {
	i := [2]topo.Impairment{s.Settings.AB, s.Settings.BA}[way]
	ends := [2]topo.PlannedEnd{s.A, s.B}
	c := LinkCheck{Link: s.ID, From: ends[way], To: ends[1-way], Driver: s.Settings.Driver, Figures: []Figure{}, Verdict: VerdictOff}
	switch {
	case s.Settings.Driver == topo.LinkHW:
		c.Skipped, c.Verdict = "what is beyond a NIC is not weft's to measure", VerdictUnknown
	case s.Settings.Driver == topo.LinkMemif:
		c.Skipped, c.Verdict = "shared memory has no devices to measure at", VerdictUnknown
	case s.Settings.Driver == topo.LinkPatch:
		c.Skipped, c.Verdict = "a patch has no devices to measure at", VerdictUnknown
	case n.passesBy(c.From.Node) != nil || n.passesBy(c.To.Node) != nil:
		c.Skipped, c.Verdict = "AF_XDP ports leave nothing to measure with", VerdictUnknown
	case !s.OK[0] || !s.OK[1] || !s.Up[0] || !s.Up[1]:
		c.Skipped = linkIs("down", s)
	case s.Cut[way]:
		c.Skipped = "it is cut"
	case s.Barred[way]:
		c.Skipped = "it is partitioned"
	}
	if c.Skipped != "" {
		return c, nil
	}
	from, to, err := n.probeDevices(c.From, c.To)
	if err != nil {
		return c, err
	}
	undo, err := n.deafen(c.To, to.Device)
	if err != nil {
		return c, err
	}
	defer undo()
	c.Figures, err = measureLink(ctx, i, s.Settings.MTU, noise, func(ctx context.Context, t probe.FrameTrain) (probe.FrameResult, error) {
		return probe.Frames(ctx, from, to, t)
	})
	c.Verdict = worst(c.Figures)
	return c, err
}

// linkIs says what a link is that cannot be measured.
func linkIs(what string, s LinkState) string {
	for i, e := range []topo.PlannedEnd{s.A, s.B} {
		if !s.OK[i] {
			return e.Interface + " is missing"
		}
	}
	return "it is " + what
}

// probeDevices returns both ends of a direction as package probe sees them.
func (n *Network) probeDevices(from, to topo.PlannedEnd) (a, b probe.Device, err error) {
	n.mu.Lock()
	i, j := n.plan.Interface(from), n.plan.Interface(to)
	n.mu.Unlock()
	if i == nil || j == nil {
		return a, b, errors.New("it is gone")
	}
	return probe.Device{Name: from.Interface, Device: i.Device, Do: n.netOf(from.Node).Do},
		probe.Device{Name: to.Interface, Device: j.Device, Do: n.netOf(to.Node).Do}, nil
}

// deafen keeps the frames that measure from a switch that would forward them. Ports of Open
// vSwitch's user datapath ignore them always.
func (n *Network) deafen(at topo.PlannedEnd, device string) (undo func() error, err error) {
	n.mu.Lock()
	isSwitch := n.plan.Switch(at.Node) != nil
	user := isSwitch && n.portDatapath(at.Node) == topo.DatapathUser
	n.mu.Unlock()
	if !isSwitch || user {
		return func() error { return nil }, nil
	}
	return n.gatesOf(at.Node).Deafen(probe.EtherType, device)
}

// timingNoise measures how late this machine is when nothing is between: the 90th percentile
// of what frames take over a veth pair.
func (n *Network) timingNoise(ctx context.Context) (time.Duration, error) {
	space, err := ns.New(nil)
	if err != nil {
		return 0, err
	}
	defer space.Close()
	h, err := space.Handle()
	if err != nil {
		return 0, err
	}
	defer h.Close()
	end := func(name string, b byte) link.End {
		return link.End{Device: name, MAC: net.HardwareAddr{2, 0, 0, 0, 0, b}}
	}
	if err := link.Veth(h, end("a", 1), end("b", 2), firstIndex, 0); err != nil {
		return 0, err
	}
	defer h.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: firstIndex}})
	device := func(name string) probe.Device { return probe.Device{Name: name, Device: name, Do: space.Do} }
	// The kernel takes up to a second to notice that the pair is up. Then a frame every 2 ms, as
	// links are measured.
	for deadline := time.Now().Add(noiseTimeout); ; {
		one, err := probe.Frames(ctx, device("a"), device("b"), probe.FrameTrain{
			Count: 1, Size: probe.MinFrame, Rate: 1e6, Wait: 50 * time.Millisecond})
		if err != nil {
			return 0, err
		}
		if len(one.Arrivals) == 1 {
			break
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("no frame has crossed a veth pair within %v", noiseTimeout)
		}
	}
	r, err := probe.Frames(ctx, device("a"), device("b"), probe.FrameTrain{
		Count: 50, Size: probe.MinFrame, Rate: probe.MinFrame * 8 * 500, Wait: time.Second})
	if err != nil {
		return 0, err
	}
	if len(r.Arrivals) == 0 {
		return 0, errors.New("no frame crosses a veth pair here any more")
	}
	return quantile(delays(r), 0.9), nil
}

// noiseTimeout bounds the wait for a new veth pair.
const noiseTimeout = 5 * time.Second
