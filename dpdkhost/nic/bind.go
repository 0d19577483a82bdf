package nic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// ErrInUse is the error of taking a card that something else needs; force overrides it.
var ErrInUse = errors.New("the card is in use")

// A Change is what was done to a card, or is about to be: enough to put it back.
type Change struct {
	Address  string `json:"address"`
	Driver   string `json:"driver"`             // before; empty for none
	Override string `json:"override,omitempty"` // driver_override before
	// Interfaces that were up before.
	Up []string `json:"up,omitempty"`
}

// BestDriver returns the driver that gives a card to a DPDK process: none (empty) for a
// bifurcated one; vfio-pci with an IOMMU, or without one where the machine allows it; else a
// uio driver. Its error says what to do.
func (m Machine) BestDriver(n NIC) (string, error) {
	switch {
	case n.Bifurcated():
		return "", nil
	case m.VFIO && (n.Group != "" || m.NoIOMMU):
		return "vfio-pci", nil
	case len(m.UIO) > 0:
		return m.UIO[0], nil
	case m.VFIO:
		return "", errors.New("the machine has no IOMMU, which vfio-pci needs: switch it on (kernel parameter intel_iommu=on or amd_iommu=on), or allow unsafe DMA: echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
	}
	return "", errors.New("no driver that gives a card to a process is loaded: modprobe vfio-pci (or uio_pci_generic)")
}

// Bind gives a card to a driver. It calls journal with what it is about to change before it
// changes anything; an error of journal's ends it. Unless force is set it refuses a card that
// is in use (ErrInUse).
func (r Root) Bind(ctx context.Context, n NIC, driver string, force bool, journal func(Change) error) error {
	if why := n.InUse(); why != "" && !force {
		return fmt.Errorf("%s stays with the driver %s: %w: %s; if you are sure, say --force", n.Address, n.Driver, ErrInUse, why)
	}
	if n.Driver == driver {
		return nil
	}
	if !r.exists("sys/bus/pci/drivers", driver) {
		return fmt.Errorf("there is no driver %s: modprobe %s", driver, driver)
	}
	change := Change{Address: n.Address, Driver: n.Driver, Override: r.override(n.Address)}
	for _, i := range n.Interfaces {
		if i.Up {
			change.Up = append(change.Up, i.Name)
		}
	}
	if err := journal(change); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := r.give(ctx, n.Address, driver); err != nil {
		return errors.Join(err, r.Restore(context.WithoutCancel(ctx), change))
	}
	return nil
}

// Restore puts a card back as a Change found it, whatever was done of it.
func (r Root) Restore(ctx context.Context, c Change) error {
	if !r.exists(devices, c.Address) {
		return nil // the card was taken out
	}
	if c.Driver == "" {
		if err := r.unbind(c.Address); err != nil {
			return err
		}
	} else if err := r.give(ctx, c.Address, c.Driver); err != nil {
		return err
	}
	return r.write(c.Override+"\n", devices, c.Address, "driver_override")
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
	if err := r.unbind(address); err != nil {
		return err
	}
	if err := r.write(address, "sys/bus/pci/drivers_probe"); err != nil {
		return err
	}
	return r.await(ctx, address, driver)
}

func (r Root) unbind(address string) error {
	if r.link(devices, address, "driver") == "" {
		return nil
	}
	return r.write(address, devices, address, "driver/unbind")
}

// bindTimeout bounds the wait for a driver to take a card.
const bindTimeout = 10 * time.Second

func (r Root) await(ctx context.Context, address, driver string) error {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		is := r.link(devices, address, "driver")
		if is == driver {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the driver %s did not take %s; see dmesg", driver, address)
		case <-time.After(wait):
		}
	}
}

// override returns a card's driver_override; empty if none is set.
func (r Root) override(address string) string {
	if o := r.text(devices, address, "driver_override"); o != "(null)" {
		return o
	}
	return ""
}

func (r Root) write(text string, elem ...string) error {
	f, err := os.OpenFile(r.path(elem...), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("PCI: %w", err)
	}
	return nil
}

// Obstacles says what stands between a card and DPDK, each with the command that mends it.
func (m Machine) Obstacles(n NIC) (list []string) {
	if !n.Taken() && !n.Bifurcated() {
		if _, err := m.BestDriver(n); err != nil {
			list = append(list, err.Error())
		}
	}
	if why := n.InUse(); why != "" {
		list = append(list, why)
	}
	if !slices.ContainsFunc(m.Hugepages, func(h Hugepages) bool { return h.Free > 0 }) {
		list = append(list, "there are no free hugepages (weft's own manager needs none): weft dpdk hugepages 512")
	}
	return list
}
