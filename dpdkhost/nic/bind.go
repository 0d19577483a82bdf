package nic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrInUse is the error of taking a card that something else needs; force overrides it.
var ErrInUse = errors.New("it is in use")

// A Change is what a card was before another driver got it: enough to put it back.
type Change struct {
	Address  string `json:"address"`
	Driver   string `json:"driver"`             // empty for none
	Override string `json:"override,omitempty"` // driver_override
	// To is the driver that gets it.
	To string `json:"to"`
	// Interfaces are those that go with the driver.
	Interfaces []Settings `json:"interfaces,omitempty"`
}

// A Binding is what is asked of a card that is to get another driver.
type Binding struct {
	Driver string // empty: the one that Way chooses
	Force  bool   // take what is in use too
	// With are the addresses of other cards that are bound at the same time.
	With []string
}

// Bind gives a card to a driver. Unless it is forced it refuses a card that is in use (ErrInUse).
// What the card was is written down first; without anything to do there is no Record. The caller
// must be in the network namespace of the card's interfaces.
func (j Journal) Bind(ctx context.Context, machine Root, n NIC, b Binding, who string) (*Record, error) {
	if n.Taken() && (b.Driver == "" || b.Driver == n.Driver) {
		return nil, nil
	}
	if why := n.InUse(b.With...); why != "" && !b.Force {
		return nil, fmt.Errorf("%s stays with the driver %s: %w: %s; if you are sure, say --force", n.Address, cmp.Or(n.Driver, "none"), ErrInUse, why)
	}
	driver := b.Driver
	if driver == "" {
		var err error
		if driver, err = machine.Machine().bindTo(n); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Address, err)
		}
	}
	if n.Driver == driver {
		return nil, nil
	}
	if !machine.exists("sys/bus/pci/drivers", driver) {
		return nil, fmt.Errorf("there is no driver %s: modprobe %s", driver, driver)
	}
	change := &Change{Address: n.Address, Driver: n.Driver, Override: machine.override(n.Address), To: driver}
	var err error
	if change.Interfaces, err = machine.settings(n); err != nil {
		return nil, err
	}
	r, err := j.Write(Entry{For: who, Bound: change})
	if err != nil {
		return nil, err
	}
	if err := machine.give(ctx, n.Address, driver); err != nil {
		return nil, errors.Join(err, r.Undo(context.WithoutCancel(ctx), machine))
	}
	return r, nil
}

// settings returns those of a card's interfaces. Only this machine has any.
func (r Root) settings(n NIC) (list []Settings, err error) {
	if r != "/" || len(n.Interfaces) == 0 {
		return nil, nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	for _, f := range n.Interfaces {
		dev, err := h.LinkByName(f.Name)
		if err != nil {
			return nil, fmt.Errorf("interface %s of %s: %w", f.Name, n.Address, err)
		}
		s, err := readSettings(h, dev)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// Restore puts a card back as a Change found it, whatever was done of it.
func (r Root) Restore(ctx context.Context, c Change) error {
	if !r.exists(devices, c.Address) {
		return nil // the card was taken out
	}
	if is := r.link(devices, c.Address, "driver"); is != c.To && is != c.Driver && is != "" {
		return fmt.Errorf("%s has the driver %s by now, which weft did not give it; it stays", c.Address, is)
	}
	if c.Driver == "" {
		if err := r.unbind(ctx, c.Address); err != nil {
			return err
		}
	} else if err := r.give(ctx, c.Address, c.Driver); err != nil {
		return err
	}
	if err := r.write(c.Override+"\n", devices, c.Address, "driver_override"); err != nil {
		return err
	}
	var errs []error
	for _, s := range c.Interfaces {
		errs = append(errs, r.restoreInterface(ctx, c.Address, s))
	}
	return errors.Join(errs...)
}

// restoreInterface waits for an interface that comes with the driver, and makes it what it was.
// It is told by its MAC, since its name may be another now.
func (r Root) restoreInterface(ctx context.Context, address string, s Settings) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		list := r.interfaces(address)
		i := slices.IndexFunc(list, func(f Interface) bool { return f.MAC == s.MAC })
		if i < 0 && len(list) == 1 {
			i = 0 // its MAC had been changed
		}
		if i >= 0 {
			if dev, err := h.LinkByName(list[i].Name); err == nil {
				if err := h.LinkSetDown(dev); err != nil {
					return fmt.Errorf("%s down: %w", list[i].Name, err)
				}
				return s.apply(h, dev)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has its driver again, but no interface %s after %v; see dmesg", address, s.Name, bindTimeout)
		case <-time.After(wait):
		}
	}
}

// Unbind gives a card back to its kernel driver: to the one that the journal says it had, or, if
// somebody else bound it, to the one that the kernel chooses.
func (j Journal) Unbind(ctx context.Context, machine Root, n NIC) error {
	if len(n.Users) > 0 {
		return fmt.Errorf("%s stays with the driver %s: %w: %s uses it; end that first", n.Address, n.Driver, ErrInUse, n.Users[0])
	}
	entries, err := j.Entries()
	if err != nil {
		return err
	}
	ours := func(e Entry) bool { return e.Bound != nil && e.Bound.Address == n.Address }
	if i := slices.IndexFunc(entries, ours); i >= 0 {
		left, err := j.Left(ours)
		if err == nil && len(left) == 0 {
			err = fmt.Errorf("%s belongs to %s; it comes back when that ends", n.Address, entries[i].For)
		}
		for _, r := range left {
			if err != nil {
				err = errors.Join(err, r.Release())
				continue
			}
			err = r.Undo(ctx, machine)
		}
		return err
	}
	if n.Driver != "" && !n.Taken() {
		return fmt.Errorf("%s is with its kernel driver %s already", n.Address, n.Driver)
	}
	return machine.release(ctx, n.Address)
}

// release lets the kernel choose a card's driver.
func (r Root) release(ctx context.Context, address string) error {
	if err := r.write("\n", devices, address, "driver_override"); err != nil {
		return err
	}
	if err := r.unbind(ctx, address); err != nil {
		return err
	}
	if err := r.write(address, "sys/bus/pci/drivers_probe"); err != nil {
		return err
	}
	if err := r.await(ctx, address, func(is string) bool { return is != "" }); err != nil {
		return fmt.Errorf("no driver took %s; load its own: modprobe %s", address, cmp.Or(r.text(devices, address, "modalias"), "NAME"))
	}
	return nil
}

// give binds a card to a driver by driver_override, as the kernel's sysfs-bus-pci document
// describes.
func (r Root) give(ctx context.Context, address, driver string) error {
	if r.link(devices, address, "driver") == driver {
		return nil
	}
	if err := r.write(driver+"\n", devices, address, "driver_override"); err != nil {
		return err
	}
	if err := r.unbind(ctx, address); err != nil {
		return err
	}
	if err := r.write(address, "sys/bus/pci/drivers_probe"); err != nil {
		return fmt.Errorf("the driver %s does not take %s: %w; see dmesg", driver, address, err)
	}
	if err := r.await(ctx, address, func(is string) bool { return is == driver }); err != nil {
		return fmt.Errorf("the driver %s did not take %s; see dmesg", driver, address)
	}
	return nil
}

// unbind takes a card from its driver and waits until that has let go.
func (r Root) unbind(ctx context.Context, address string) error {
	is := r.link(devices, address, "driver")
	if is == "" {
		return nil
	}
	if err := r.write(address, devices, address, "driver/unbind"); err != nil {
		return fmt.Errorf("take %s from the driver %s: %w", address, is, err)
	}
	if err := r.await(ctx, address, func(is string) bool { return is == "" }); err != nil {
		return fmt.Errorf("the driver %s does not let go of %s: %w; see dmesg", is, address, err)
	}
	return nil
}

// bindTimeout bounds the wait for a driver to take a card, or to let go of it.
const bindTimeout = 30 * time.Second

// await waits until a card's driver is as wanted; empty for none.
func (r Root) await(ctx context.Context, address string, want func(is string) bool) error {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	for wait := time.Millisecond; !want(r.link(devices, address, "driver")); wait = min(2*wait, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}

// override returns a card's driver_override; empty if none is set.
func (r Root) override(address string) string {
	if o := r.text(devices, address, "driver_override"); o != "(null)" {
		return o
	}
	return ""
}

func (r Root) write(text string, elem ...string) error {
	f, err := os.OpenFile(r.path(elem...), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("this needs root: %w", err)
	}
	return err
}
