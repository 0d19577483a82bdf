package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weft/capture"
	"weft/topo"
)

// A CaptureRequest asks for the packets that pass interfaces and control channels.
type CaptureRequest struct {
	// Targets are interfaces (h1-eth0), nodes (all their interfaces), links (s1-s2, at
	// the first node's end), control channels (s1:c0), "control" (all of those) and
	// "all" (every link once, and all control channels).
	Targets []string `json:"targets"`
	// Filter is an expression of pcap-filter(7); empty: all packets.
	Filter string `json:"filter,omitempty"`
	// SnapLen is how much of each packet is kept, bytes; 0: all.
	SnapLen int `json:"snapLen,omitempty"`
	// Count (packets) and Duration end the capture by themselves; 0: they do not.
	Count    int           `json:"count,omitempty"`
	Duration time.Duration `json:"duration,omitempty"`
	// Direction is that of the packets on links: "in" to the node whose interface it is
	// (the first one of a link), "out" of it, or both if it is empty.
	Direction string `json:"direction,omitempty"`
	// Segment splits frames that are left whole for segmentation offload.
	Segment bool `json:"segment,omitempty"`
}

// A CaptureStart says what a capture that runs captures on.
type CaptureStart struct {
	Interfaces []string `json:"interfaces"`
	// Notes say which targets are left out, and why.
	Notes []string `json:"notes,omitempty"`
}

// A CaptureResult says what a capture has captured.
type CaptureResult struct {
	Interfaces []capture.Statistics `json:"interfaces"`
	Duration   time.Duration        `json:"durationNs"`
}

// Packets returns how many packets were captured, Dropped how many were lost because
// nobody took them in time.
func (r CaptureResult) Packets() (n uint64) {
	for _, i := range r.Interfaces {
		n += i.Written
	}
	return n
}

// Dropped returns how many packets were lost.
func (r CaptureResult) Dropped() (n uint64) {
	for _, i := range r.Interfaces {
		n += i.Dropped
	}
	return n
}

// A CaptureSink is where a capture goes.
type CaptureSink interface {
	// Started is called once, when the capture runs. An error ends it.
	Started(CaptureStart) error
	// Write takes whole blocks of pcapng. If it blocks, packets are lost, and counted, but
	// the network goes on.
	io.Writer
	// Ended is called once, after the rest. The network's end waits for it.
	Ended(CaptureResult, error)
}

// captureTimeout bounds how long the network's end waits for the readers of captures.
const captureTimeout = 5 * time.Second

// captures are those that run.
type captures struct {
	mu     sync.Mutex
	stop   map[int]context.CancelFunc
	next   int
	closed bool
	wg     sync.WaitGroup
}

// begin counts a capture in; its ctx ends with the network.
func (c *captures) begin(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errors.New("the network is going down")
	}
	if c.stop == nil {
		c.stop = map[int]context.CancelFunc{}
	}
	ctx, cancel := context.WithCancel(ctx)
	id := c.next
	c.next++
	c.stop[id] = cancel
	c.wg.Add(1)
	return ctx, func() {
		c.mu.Lock()
		delete(c.stop, id)
		c.mu.Unlock()
		cancel()
		c.wg.Done()
	}, nil
}

// close ends all captures and waits until they have written the rest.
func (c *captures) close() error {
	c.mu.Lock()
	c.closed = true
	for _, cancel := range c.stop {
		cancel()
	}
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(captureTimeout):
		return fmt.Errorf("a capture's reader has not taken the rest of it within %v", captureTimeout)
	}
}

// A captureSet is what targets stand for.
type captureSet struct {
	plan      *topo.Plan
	addresses map[string]string // of controllers that run
	ends      []topo.PlannedEnd
	turned    map[topo.PlannedEnd]bool         // the far ends of links, where what comes in goes out of the near
	channels  func(sw, controller string) bool // nil: none
	passesBy  func(node string) error          // what passes its ports leaves no trace there
	notes     []string
}

// Capture captures until ctx or the network ends, the request's limits are reached or to
// fails.
func (n *Network) Capture(ctx context.Context, q CaptureRequest, to CaptureSink) {
	ctx, end, err := n.captures.begin(ctx)
	if err != nil {
		to.Ended(CaptureResult{}, err)
		return
	}
	defer end()
	to.Ended(n.capture(ctx, q, to))
}

func (n *Network) capture(ctx context.Context, q CaptureRequest, to CaptureSink) (CaptureResult, error) {
	n.mu.Lock()
	set := captureSet{plan: n.plan, addresses: map[string]string{}, turned: map[topo.PlannedEnd]bool{}, passesBy: n.passesBy}
	for name, c := range n.controllers {
		set.addresses[name] = c.address
	}
	n.mu.Unlock()
	for _, t := range q.Targets {
		if err := set.add(t); err != nil {
			return CaptureResult{}, err
		}
	}
	direction, ok := map[string]capture.Direction{"": capture.Both, "inout": capture.Both, "in": capture.In, "out": capture.Out}[q.Direction]
	switch {
	case !ok:
		return CaptureResult{}, fmt.Errorf("there is no direction %q (there are: in, out, inout)", q.Direction)
	case len(q.Targets) == 0:
		return CaptureResult{}, errors.New("nothing to capture on: name interfaces, nodes, links, control or all")
	case len(set.ends) == 0 && set.channels == nil:
		return CaptureResult{}, errors.New(strings.Join(set.notes, "; "))
	}
	c, err := capture.New(ctx, capture.Config{
		Filter: q.Filter, SnapLen: q.SnapLen, Count: q.Count, Duration: q.Duration, Segment: q.Segment,
		Application: "weft, network " + n.env.Name,
	})
	if err != nil {
		return CaptureResult{}, err
	}
	var devices []capture.Device
	for _, e := range set.ends {
		devices = append(devices, set.device(e, direction))
	}
	err = c.AddDevices(devices, func(i int, f func() error) error { return n.netOf(set.ends[i].Node).Do(f) })
	if err != nil {
		return CaptureResult{}, errors.Join(err, c.Close())
	}
	untap := func() {}
	if set.channels != nil {
		channels := set.plannedChannels()
		t := c.AddControl(channels, func(sw, controller string) (string, bool) {
			return set.describeChannel(sw, controller), set.channels(sw, controller)
		})
		untap = n.tapConnections(t.Tap)
	}
	began := time.Now()
	if err := to.Started(CaptureStart{Interfaces: c.Interfaces(), Notes: set.notes}); err != nil {
		untap()
		return CaptureResult{}, errors.Join(err, c.Close())
	}
	stats, err := c.Run(ctx, to, untap)
	return CaptureResult{Interfaces: stats, Duration: time.Since(began)}, err
}

// The targets that are no names.
const (
	targetControl = "control"
	targetAll     = "all"
)

// add adds what a target stands for. A name of the network's goes before a word of ours.
func (s *captureSet) add(target string) error {
	if e, ok := s.end(target); ok {
		return s.addEnd(e)
	}
	if ends, ok := s.node(target); ok {
		for _, e := range ends {
			if err := s.addEnd(e); err != nil {
				s.notes = append(s.notes, err.Error())
			}
		}
		if len(ends) == 0 {
			s.notes = append(s.notes, target+" has no interfaces")
		}
		return nil
	}
	switch sw, controller, isChannel := strings.Cut(target, ":"); {
	case target == targetControl:
		s.addChannels(func(string, string) bool { return true })
		return nil
	case target == targetAll:
		for _, l := range s.plan.Links {
			if err := s.addEnd(s.visible(l, l.A, l.B)); err != nil {
				s.notes = append(s.notes, err.Error())
			}
		}
		s.addChannels(func(string, string) bool { return true })
		return nil
	case isChannel:
		if !s.hasChannel(sw, controller) {
			return fmt.Errorf("there is no control channel between %s and %s", sw, controller)
		}
		s.addChannels(func(a, b string) bool { return a == sw && b == controller })
		return nil
	}
	return s.addLink(target)
}

// end finds an interface by its name.
func (s *captureSet) end(name string) (topo.PlannedEnd, bool) {
	for _, l := range s.plan.Links {
		for _, e := range []topo.PlannedEnd{l.A, l.B} {
			if e.Interface == name && !topo.Outside(e.Node) {
				return e, true
			}
		}
	}
	return topo.PlannedEnd{}, false
}

// node returns the ends of links at a host or a switch.
func (s *captureSet) node(name string) ([]topo.PlannedEnd, bool) {
	var list []topo.Interface
	if h := s.plan.Host(name); h != nil {
		list = h.Interfaces
	} else if sw := s.plan.Switch(name); sw != nil {
		list = sw.Interfaces
	} else {
		return nil, false
	}
	var ends []topo.PlannedEnd
	for _, i := range list {
		ends = append(ends, topo.PlannedEnd{Node: name, Interface: i.Name})
	}
	return ends, true
}

// addLink adds the links that a name stands for, at the end that the person looks from.
func (s *captureSet) addLink(target string) error {
	views, oneWay, err := s.plan.FindLinks(target)
	switch {
	case err != nil:
		return fmt.Errorf("there is no interface, node, link or control channel %q", target)
	case oneWay:
		return fmt.Errorf("%s: name the link, and one way of it with -Q: %s-%s -Q out", target, views[0].Near().Node, views[0].Far().Node)
	}
	for _, v := range views {
		if err := s.addEnd(s.visible(v.PlannedLink, v.Near(), v.Far())); err != nil {
			return err
		}
	}
	return nil
}

// visible returns the end of a link at which its packets are seen, near if they are at both.
func (s *captureSet) visible(l topo.PlannedLink, near, far topo.PlannedEnd) topo.PlannedEnd {
	if _, node, ok := l.Outside(); ok {
		return node
	}
	if s.passesBy(near.Node) != nil && s.passesBy(far.Node) == nil {
		s.turned[far] = true
		return far
	}
	return near
}

// addEnd adds an interface, once. One that is a patch port has no device.
func (s *captureSet) addEnd(e topo.PlannedEnd) error {
	i := s.plan.Interface(e)
	if i == nil {
		return fmt.Errorf("%s has no interface %s", e.Node, e.Interface)
	}
	for _, l := range s.plan.Links {
		if l.ID == i.Link && l.Driver == topo.LinkPatch {
			return fmt.Errorf("no packets of link %s-%s: it is a patch inside Open vSwitch and has no device; a veth link has one", l.A.Node, l.B.Node)
		}
		if l.ID == i.Link && l.Driver == topo.LinkMemif {
			return fmt.Errorf("no packets of link %s-%s: it is memory that managers share (memif) and has no device; a veth link has one, and the NF pcap in a chain writes what passes", l.A.Node, l.B.Node)
		}
	}
	remedy := s.passesBy(e.Node)
	if sw := s.plan.Switch(e.Node); sw != nil && sw.DPDK != nil && sw.DPDK.PortKind == "auto" && slices.ContainsFunc(s.plan.Links, func(l topo.PlannedLink) bool { return l.ID == i.Link && l.Driver == topo.LinkHW }) {
		remedy = errors.New("take portKind packet") // auto is AF_XDP for real NICs
	}
	if remedy != nil {
		return fmt.Errorf("no packets of %s: it is an AF_XDP port, which captures do not see: %w, or capture at the other end of its link", e.Interface, remedy)
	}
	if !slices.Contains(s.ends, e) {
		s.ends = append(s.ends, e)
	}
	return nil
}

// device describes an interface to capture.
func (s *captureSet) device(e topo.PlannedEnd, d capture.Direction) capture.Device {
	i := s.plan.Interface(e)
	if s.turned[e] {
		d = map[capture.Direction]capture.Direction{capture.In: capture.Out, capture.Out: capture.In, capture.Both: capture.Both}[d]
	}
	dev := capture.Device{Name: i.Name, Device: i.Device, Direction: d}
	for _, l := range s.plan.Links {
		if l.ID != i.Link {
			continue
		}
		other := l.B
		if other == e {
			other = l.A
		}
		dev.Description = fmt.Sprintf("link %s–%s (%s–%s), at %s", e.Node, other.Node, e.Interface, other.Interface, e.Node)
	}
	return dev
}

func (s *captureSet) addChannels(want func(sw, controller string) bool) {
	before := s.channels
	s.channels = func(sw, controller string) bool {
		return want(sw, controller) || before != nil && before(sw, controller)
	}
}

func (s *captureSet) hasChannel(sw, controller string) bool {
	return slices.Contains(s.allChannels(), [2]string{sw, controller})
}

// allChannels lists the control channels of the plan.
func (s *captureSet) allChannels() [][2]string {
	var list [][2]string
	for _, sw := range s.plan.Switches {
		for _, c := range sw.Controllers {
			list = append(list, [2]string{sw.Name, c})
		}
	}
	return list
}

// plannedChannels lists the control channels that are wanted.
func (s *captureSet) plannedChannels() [][2]string {
	return slices.DeleteFunc(s.allChannels(), func(ch [2]string) bool { return !s.channels(ch[0], ch[1]) })
}

// describeChannel says what a control channel is, for people.
func (s *captureSet) describeChannel(sw, controller string) string {
	text := fmt.Sprintf("OpenFlow between switch %s and controller %s", sw, controller)
	c, address := s.plan.Controller(controller), s.addresses[controller]
	if c == nil {
		return text
	}
	if address == "" && c.Port != 0 {
		address = net.JoinHostPort(c.Address, strconv.Itoa(c.Port))
	}
	switch {
	case c.Kind == topo.ControllerBuiltin && address == "":
		return text + ", built in"
	case address == "":
		return text
	case c.Transport == "ssl":
		return text + " at " + address + ", without its TLS"
	}
	return text + " at " + address
}
