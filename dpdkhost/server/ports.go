package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/port"
)

// An openPort is a port that the manager has.
type openPort struct {
	Port
	kind  port.Kind // of those that Auto may be
	port  manager.Port
	index int // of the interface that it is on; 0 if it is on none, or on one of its own
}

// A peered port knows who is connected.
type peered interface{ Peer() string }

// portName is what people know a port by.
func portName(c port.Config) string { return cmp.Or(c.Device, c.File, c.Sink, string(c.Kind)) }

// addPorts opens ports and gives them to the manager: all, or none.
func (s *server) addPorts(list []Port) error {
	if err := validatePorts(list); err != nil {
		return err
	}
	s.plug.Lock()
	defer s.plug.Unlock()
	for _, p := range list {
		if s.hasPort(p.Number) {
			return fmt.Errorf("port %s: there is a port %d already", portName(p.Config), p.Number)
		}
	}
	var open []openPort
	closeAll := func(err error) error {
		for _, o := range open {
			err = errors.Join(err, o.port.Close())
		}
		return err
	}
	var given []manager.NewPort
	for _, p := range list {
		o := openPort{Port: p}
		var err error
		if o.port, o.kind, err = s.opener.Open(p.Config); err != nil {
			return closeAll(err)
		}
		open = append(open, o)
		if o.kind == port.Packet || o.kind == port.XDP {
			i, err := net.InterfaceByName(p.Device)
			if err != nil {
				return closeAll(fmt.Errorf("port %s: %w", portName(p.Config), err))
			}
			open[len(open)-1].index = i.Index
		}
		given = append(given, manager.NewPort{Number: uint16(p.Number), Name: portName(p.Config), Port: o.port})
	}
	if err := s.m.AddPorts(given...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = append(s.ports, open...)
	return nil
}

func (s *server) hasPort(number int) bool {
	return slices.ContainsFunc(s.openPorts(), func(p openPort) bool { return p.Number == number })
}

// openPorts returns the ports that there are now.
func (s *server) openPorts() []openPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ports)
}

// removePorts takes ports away, whose frames come back. Packets for them are dropped from now on
// (Drops.NoPort). Ports that are not there are none to remove.
func (s *server) removePorts(numbers []int) error {
	s.plug.Lock()
	defer s.plug.Unlock()
	return s.closePorts(func(p openPort) bool { return slices.Contains(numbers, p.Number) })
}

// closePorts takes the ports away for which gone is true. The caller has s.plug.
func (s *server) closePorts(gone func(openPort) bool) error {
	var errs []error
	for _, p := range s.openPorts() {
		if !gone(p) {
			continue
		}
		s.mu.Lock()
		s.ports = slices.DeleteFunc(s.ports, func(o openPort) bool { return o.Number == p.Number })
		s.mu.Unlock()
		if err := s.m.RemovePort(uint16(p.Number)); err != nil {
			errs = append(errs, fmt.Errorf("port %s: %w", portName(p.Config), err))
		}
	}
	return errors.Join(errs...)
}

// interfaceBuffer is room for what the kernel tells of interfaces while nobody reads, bytes.
const interfaceBuffer = 1 << 20

// watchInterfaces takes ports away whose interface vanishes, until ctx ends.
func (s *server) watchInterfaces(ctx context.Context) error {
	updates := make(chan netlink.LinkUpdate, 64)
	err := netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{
		ReceiveBufferSize: interfaceBuffer,
		// Not the end of it, as a rule: of messages that are not the kernel's it tells too.
		ErrorCallback: func(err error) { s.log.Debug("interfaces", "error", err) },
	})
	if err != nil {
		return err
	}
	go func() {
		for u := range updates {
			s.interfaceChanged(u)
		}
		if ctx.Err() == nil {
			s.log.Warn("the manager does not notice any more when interfaces of its ports vanish: the kernel's messages ended")
		}
	}()
	return nil
}

// A resizer is a port that must know the MTU of its interface.
type resizer interface{ Resize(mtu int) }

// interfaceChanged does what the change of an interface means for its port.
func (s *server) interfaceChanged(u netlink.LinkUpdate) {
	s.plug.Lock()
	defer s.plug.Unlock()
	on := func(p openPort) bool { return p.index != 0 && p.index == u.Attrs().Index }
	if u.Header.Type == unix.RTM_DELLINK {
		for _, p := range s.openPorts() {
			if on(p) {
				s.log.Warn("the interface of a port is gone, and the port with it", "port", p.Number, "interface", p.Device)
			}
		}
		if err := s.closePorts(on); err != nil && !errors.Is(err, manager.ErrClosed) {
			s.log.Warn("port", "error", err)
		}
		return
	}
	for _, p := range s.openPorts() {
		if r, ok := p.port.(resizer); ok && on(p) {
			s.m.Do(func() { r.Resize(u.Attrs().MTU) })
		}
	}
}
