package nic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Loan is what is asked of an interface that is to be lent to a network namespace.
type Loan struct {
	// NIC is the interface's name, or its address on the PCI bus.
	NIC string `json:"nic"`
	// Name is the name that it has there; empty: its own.
	Name string `json:"name,omitempty"`
	// MAC and MTU are what it has there; empty and 0: its own.
	MAC string `json:"mac,omitempty"`
	MTU int    `json:"mtu,omitempty"`
	// Force lends what is in use too.
	Force bool `json:"force,omitempty"`
}

// Lent is an interface as it was before it was lent.
type Lent struct {
	Settings
	// Address is the card's on its bus; empty if there is none.
	Address string `json:"address,omitempty"`
	// ID is its alias meanwhile, by which it is found wherever the kernel puts it.
	ID string `json:"id"`
}

// aliasPrefix begins the aliases of interfaces that are lent.
const aliasPrefix = "weft: lent "

// Lend moves an interface of the calling thread's network namespace to another, whose
// descriptor is to, where it is down. What it was is written down first. The caller undoes the
// Record by GiveBack.
func (j Journal) Lend(machine Root, l Loan, to int, who string) (*Record, error) {
	here, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	defer here.Close()
	dev, err := machine.find(here, l.NIC)
	if err != nil {
		return nil, err
	}
	if why, err := stackUse(here, dev); err != nil {
		return nil, err
	} else if why != "" && !l.Force {
		return nil, fmt.Errorf("%w: %s; if you are sure, write force", ErrInUse, why)
	}
	s, err := readSettings(here, dev)
	if err != nil {
		return nil, err
	}
	lent := &Lent{Settings: s, ID: fmt.Sprintf("%s%d.%d", aliasPrefix, os.Getpid(), time.Now().UnixNano()), Address: machine.addressOf(dev)}
	r, err := j.Write(Entry{For: who, Lent: lent})
	if err != nil {
		return nil, err
	}
	name := l.Name
	if name == "" {
		name = s.Name
	}
	if err := take(here, dev, lent.ID, to, name); err != nil {
		return nil, errors.Join(fmt.Errorf("lend %s: %w", s.Name, err), r.Undo(context.Background(), machine))
	}
	if err := prepare(to, name, l); err != nil {
		return nil, errors.Join(fmt.Errorf("lend %s: %w", s.Name, err), r.GiveBack(context.Background(), machine, to))
	}
	return r, nil
}

// find returns an interface by its name or its PCI address.
func (r Root) find(h *netlink.Handle, nic string) (netlink.Link, error) {
	name := nic
	if address, err := ParseAddress(nic); err == nil {
		card, err := r.joined(h, address)
		switch {
		case err != nil:
			return nil, err
		case card.Taken():
			return nil, fmt.Errorf("%s is with the driver %s and has no interface: weft dpdk unbind %s", address, card.Driver, address)
		case len(card.Interfaces) == 0 && card.Driver == "":
			return nil, fmt.Errorf("%s has no driver, and so no interface: weft dpdk unbind %s", address, address)
		case len(card.Interfaces) != 1:
			return nil, fmt.Errorf("%s has %d interfaces; write the name of one: weft dpdk status", address, len(card.Interfaces))
		}
		name = card.Interfaces[0].Name
	}
	dev, err := h.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("this machine has no NIC %s (it has: %s)", nic, strings.Join(interfaceNames(h), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", nic, err)
	}
	if dev.Attrs().Flags&net.FlagLoopback != 0 {
		return nil, fmt.Errorf("%s cannot be lent: each namespace has one of its own", name)
	}
	return dev, nil
}

// joined returns a card with what the network stack knows of it.
func (r Root) joined(h *netlink.Handle, address string) (NIC, error) {
	n, err := r.Card(address)
	if err != nil {
		return n, err
	}
	stack, err := readStack(h)
	list := []NIC{n}
	Join(list, stack)
	return list[0], err
}

// addressOf returns the address of an interface's card; empty if it has none.
func (r Root) addressOf(dev netlink.Link) string {
	device := dev.Attrs().ParentDev
	if device == "" { // before Linux 5.14
		path, err := filepath.EvalSymlinks(r.path("sys/class/net", dev.Attrs().Name, "device"))
		if err != nil {
			return ""
		}
		device = filepath.Base(path)
	}
	if path, err := filepath.EvalSymlinks(r.path("sys/bus/virtio/devices", device)); err == nil {
		if card := filepath.Base(filepath.Dir(path)); addressForm.MatchString(card) {
			return card
		}
	}
	return device
}

// interfaceNames lists what could be lent.
func interfaceNames(h *netlink.Handle) (names []string) {
	links, err := whole(h.LinkList)
	if err != nil {
		return nil
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			names = append(names, l.Attrs().Name)
		}
	}
	slices.Sort(names)
	return names
}

// stackUse says for what the network stack needs an interface; empty if for nothing.
func stackUse(h *netlink.Handle, dev netlink.Link) (string, error) {
	stack, err := readStack(h)
	if err != nil {
		return "", err
	}
	return stack.Use(dev.Attrs().Name), nil
}

// take gives an interface its alias and moves it to a namespace, by a name.
func take(h *netlink.Handle, dev netlink.Link, alias string, to int, name string) error {
	leaveMaster(h, dev)
	if err := h.LinkSetAlias(dev, alias); err != nil {
		return err
	}
	if err := h.LinkSetDown(dev); err != nil {
		return err
	}
	clearXDP(dev)
	return move(h, dev, to, name)
}

// leaveMaster takes an interface out of its bridge or bond. A datapath of Open vSwitch's does not
// hear of this, but lets go of what moves to another namespace.
func leaveMaster(h *netlink.Handle, dev netlink.Link) {
	if dev.Attrs().MasterIndex != 0 {
		h.LinkSetNoMaster(dev) // if it stays, the move fails and says so
	}
}

// move moves an interface, which is down, from one namespace to another and gives it a name
// there. On the way it has a name that neither side has.
func move(from *netlink.Handle, dev netlink.Link, to int, name string) error {
	meanwhile := fmt.Sprintf("wl%x", time.Now().UnixNano()&(1<<48-1))
	if err := from.LinkSetName(dev, meanwhile); err != nil {
		return err
	}
	if err := from.LinkSetNsFd(dev, to); errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the kernel does not let it go to another namespace: %w", err)
	} else if err != nil {
		return err
	}
	there, err := netlink.NewHandleAt(netns.NsHandle(to), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer there.Close()
	if dev, err = there.LinkByName(meanwhile); err != nil {
		return err
	}
	if err := there.LinkSetName(dev, name); errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("there is an interface %s already where it is to go", name)
	} else if err != nil {
		return fmt.Errorf("name %s: %w", name, err)
	}
	return nil
}

// prepare gives a lent interface what it is to have.
func prepare(in int, name string, l Loan) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(in), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	dev, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if l.MAC != "" {
		mac, err := net.ParseMAC(l.MAC)
		if err == nil {
			err = h.LinkSetHardwareAddr(dev, mac)
		}
		if err != nil {
			return fmt.Errorf("MAC %s: %w", l.MAC, err)
		}
	}
	if l.MTU != 0 {
		if err := h.LinkSetMTU(dev, l.MTU); err != nil {
			return fmt.Errorf("MTU %d: %w", l.MTU, err)
		}
	}
	return nil
}

// GiveBack undoes a loan: it fetches the interface from the namespace that it was lent to and
// makes it what it was in the calling thread's.
func (r *Record) GiveBack(ctx context.Context, machine Root, from int) error {
	if err := r.Lent.fetch(from); err != nil {
		return errors.Join(fmt.Errorf("%s stays where it was lent to: %w", r.Lent.Name, err), r.Release())
	}
	return r.Undo(ctx, machine)
}

// fetch moves a lent interface back, if it is there.
func (l *Lent) fetch(from int) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(from), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	dev, err := l.in(h)
	if dev == nil || err != nil {
		return err
	}
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	leaveMaster(h, dev)
	if err := h.LinkSetDown(dev); err != nil {
		return err
	}
	err = move(h, dev, int(here), l.Name)
	if err != nil && l.here() {
		return nil // restore says what is wrong with the name
	}
	return err
}

// here reports whether the interface is in the calling thread's namespace.
func (l *Lent) here() bool {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer h.Close()
	dev, err := l.in(h)
	return dev != nil && err == nil
}

// in finds the interface by its alias; nil if it is not there.
func (l *Lent) in(h *netlink.Handle) (netlink.Link, error) {
	links, err := whole(h.LinkList)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(links, func(dev netlink.Link) bool { return dev.Attrs().Alias == l.ID })
	if i < 0 {
		return nil, nil
	}
	return links[i], nil
}

// These bound the wait for the kernel to bring an interface back from a namespace that has ended;
// one without a card should not take long to be gone with it.
const (
	returnTimeout = 15 * time.Second
	goneTimeout   = 3 * time.Second
)

// ErrGone says that an interface that was lent is not on this machine any more.
var ErrGone = errors.New("it is gone")

// restore makes the interface what it was, in the calling thread's namespace, where it is or is
// about to come. One without a card goes with the namespace that it was lent to.
func (l *Lent) restore(ctx context.Context) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	bound := returnTimeout
	if l.Address == "" {
		bound = goneTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		dev, err := l.in(h)
		if err != nil {
			return err
		}
		if dev != nil {
			if err := h.LinkSetDown(dev); err != nil {
				return err
			}
			clearXDP(dev)
			return l.Settings.apply(h, dev)
		}
		if was, err := h.LinkByName(l.Name); err == nil && was.Attrs().Alias == l.Alias && was.Attrs().HardwareAddr.String() == l.MAC {
			return nil // it was never taken
		}
		select {
		case <-ctx.Done():
			if l.Address == "" {
				return nil // as it has to be
			}
			return fmt.Errorf("%s %w from this network namespace; look for it by ip -d link and `ip -all netns exec`, or plug it in again", l.Name, ErrGone)
		case <-time.After(wait):
		}
	}
}

// clearXDP takes an XDP program off an interface of the calling thread's namespace: a process
// that is killed leaves its own there.
func clearXDP(dev netlink.Link) {
	if x := dev.Attrs().Xdp; x != nil && x.Attached {
		netlink.LinkSetXdpFd(dev, -1) // some drivers cannot; then it stays, as it would without weft
	}
}
