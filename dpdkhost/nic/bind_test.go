package nic

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A kernel does in a fixture what Linux does when somebody writes to its files: it takes a card
// from its driver, and gives it to the one of its driver_override, or else to its own. Drivers in
// fail take nothing.
type kernel struct {
	Root
	own  map[string]string // driver by address
	fail map[string]func() // called for what they refuse
	log  []string          // what was asked of it, for who looks when it has ended
}

// run starts it; stop ends it.
func (k *kernel) run(t *testing.T) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			k.serve(t)
			select {
			case <-done:
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// take returns what was written to a file, and empties it.
func (k *kernel) take(elem ...string) string {
	text := k.text(elem...)
	if text != "" {
		os.Truncate(k.path(elem...), 0)
	}
	return text
}

func (k *kernel) serve(t *testing.T) {
	for _, driver := range k.names("sys/bus/pci/drivers") {
		if address := k.take("sys/bus/pci/drivers", driver, "unbind"); address != "" {
			k.log = append(k.log, "unbind "+address+" "+driver)
			os.Remove(k.path(devices, address, "driver"))
		}
	}
	address := k.take("sys/bus/pci/drivers_probe")
	if address == "" {
		return
	}
	driver := k.override(address)
	if driver == "" {
		driver = k.own[address]
	}
	k.log = append(k.log, "probe "+address+" "+driver)
	if refused := k.fail[driver]; refused != nil {
		refused()
		return
	}
	if driver == "" {
		return
	}
	link := k.path(devices, address, "driver")
	os.Remove(link)
	if err := os.Symlink(filepath.Join("../../drivers", driver), link); err != nil {
		t.Error(err)
	}
}

func (k *kernel) driver(address string) string { return k.link(devices, address, "driver") }

func mustCard(t *testing.T, r Root, address string, s Stack) NIC {
	t.Helper()
	n, err := r.Card(address)
	if err != nil {
		t.Fatal(err)
	}
	list := []NIC{n}
	Join(list, s)
	return list[0]
}

// A card is given to vfio-pci and comes back, by unbind and by what clean does.
func TestBind(t *testing.T) {
	const address = "0000:00:04.0"
	for _, how := range []string{"unbind", "clean", "undo"} {
		t.Run(how, func(t *testing.T) {
			k := &kernel{Root: fixture(t, "guest"), own: map[string]string{address: "virtio-pci"}}
			defer k.run(t)()
			j := Journal(filepath.Join(inMemory(t), "journal"))
			n := mustCard(t, k.Root, address, stacks()["guest"])
			r, err := j.Bind(t.Context(), k.Root, n, Binding{}, "test")
			if err != nil {
				t.Fatal(err)
			}
			if is := k.driver(address); is != "vfio-pci" || k.override(address) != "vfio-pci" {
				t.Fatalf("bound to %q, driver_override %q", is, k.override(address))
			}
			entries, err := j.Entries()
			if err != nil || len(entries) != 1 || entries[0].Bound.Driver != "virtio-pci" {
				t.Fatalf("the journal has %+v, %v", entries, err)
			}
			n = mustCard(t, k.Root, address, Stack{})
			if again, err := j.Bind(t.Context(), k.Root, n, Binding{}, "test"); again != nil || err != nil {
				t.Errorf("bound once more: %v, %v", again, err)
			}
			switch how {
			case "undo":
				err = r.Undo(t.Context(), k.Root)
			case "unbind":
				if err := j.Unbind(t.Context(), k.Root, n); err == nil || !strings.Contains(err.Error(), "belongs to test") {
					t.Errorf("what another holds was taken: %v", err)
				}
				r.Release()
				err = j.Unbind(t.Context(), k.Root, n)
			case "clean":
				if done, err := j.Restore(t.Context(), k.Root); len(done) > 0 || err != nil {
					t.Errorf("what another holds was restored: %v, %v", done, err)
				}
				r.Release()
				var done []string
				if done, err = j.Restore(t.Context(), k.Root); !slices.Equal(done, []string{"the driver of 0000:00:04.0, which was virtio-pci"}) {
					t.Errorf("restored %q", done)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if is := k.driver(address); is != "virtio-pci" || k.override(address) != "" {
				t.Errorf("back at %q, driver_override %q", is, k.override(address))
			}
			if _, err := os.Stat(string(j)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the journal is left: %v", err)
			}
		})
	}
}

// A driver that does not take the card does not keep it, and nothing is left in the journal.
func TestBindFails(t *testing.T) {
	const address = "0000:00:04.0"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k := &kernel{Root: fixture(t, "guest"), own: map[string]string{address: "virtio-pci"}, fail: map[string]func(){"vfio-pci": cancel}}
	defer k.run(t)()
	j := Journal(filepath.Join(inMemory(t), "journal"))
	n := mustCard(t, k.Root, address, stacks()["guest"])
	if _, err := j.Bind(ctx, k.Root, n, Binding{}, "test"); err == nil || !strings.Contains(err.Error(), "the driver vfio-pci did not take 0000:00:04.0; see dmesg") {
		t.Errorf("error %v", err)
	}
	if is := k.driver(address); is != "virtio-pci" {
		t.Errorf("back at %q", is)
	}
	if entries, err := j.Entries(); len(entries) > 0 || err != nil {
		t.Errorf("in the journal: %v, %v", entries, err)
	}
	if _, err := j.Bind(t.Context(), k.Root, n, Binding{Driver: "igb_uio"}, "test"); err == nil || !strings.Contains(err.Error(), "modprobe igb_uio") {
		t.Errorf("a driver that is not loaded: %v", err)
	}
}

// Cards that something needs stay, unless that is forced.
func TestBindRefuses(t *testing.T) {
	for _, c := range []struct{ machine, address, want string }{
		{"guest", "0000:00:03.0", "the machine's default route is over eth0"},
		{"server", "0000:3b:00.0", "ens1f0 has an XDP program"},
		{"server", "0000:3b:00.1", "ens1f1 is up and has the address 192.0.2.1/24"},
		{"server", "0000:af:00.0", "eno1 is part of bond0"},
		{"desktop", "0000:02:00.0", "enp2s0 is part of br0"},
		{"desktop", "0000:00:1f.6", "0000:00:1f.3 in the same IOMMU group 9 has the driver snd_hda_intel"},
		{"server", "0000:86:00.0", "default route"},
	} {
		root, j := fixture(t, c.machine), Journal(filepath.Join(inMemory(t), "journal"))
		n := mustCard(t, root, c.address, stacks()[c.machine])
		_, err := j.Bind(t.Context(), root, n, Binding{Driver: "vfio-pci"}, "test")
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%s: error %v, want one with %q", c.address, err, c.want)
		}
		if entries, _ := j.Entries(); len(entries) > 0 {
			t.Errorf("%s: refused, but in the journal", c.address)
		}
		if why := n.InUse("0000:00:1f.3"); c.machine == "desktop" && strings.Contains(c.want, "group") && why != "" {
			t.Errorf("bound together with its group: %s", why)
		}
	}
	// A bifurcated card needs no other driver, and one with a program stays.
	server := fixture(t, "server")
	n := mustCard(t, server, "0000:86:00.0", Stack{})
	if _, err := Journal(inMemory(t)).Bind(t.Context(), server, n, Binding{}, "test"); err == nil || !strings.Contains(err.Error(), "there is nothing to bind") {
		t.Errorf("bifurcated: %v", err)
	}
	n = mustCard(t, server, "0000:3b:02.0", Stack{})
	if err := Journal(inMemory(t)).Unbind(t.Context(), server, n); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "dpdk-testpmd (4711)") {
		t.Errorf("unbind from below testpmd: %v", err)
	}
	n = mustCard(t, server, "0000:3b:00.1", Stack{})
	if err := Journal(inMemory(t)).Unbind(t.Context(), server, n); err == nil || !strings.Contains(err.Error(), "kernel driver i40e already") {
		t.Errorf("unbind of what is not bound: %v", err)
	}
}

// By force, in the kernel's order: override, unbind, probe.
func TestBindForce(t *testing.T) {
	const address = "0000:00:03.0"
	k := &kernel{Root: fixture(t, "guest"), own: map[string]string{address: "virtio-pci"}}
	os.WriteFile(k.path(devices, address, "driver_override"), []byte("(null)\n"), 0o644)
	stop := k.run(t)
	defer stop()
	n := mustCard(t, k.Root, address, stacks()["guest"])
	r, err := Journal(inMemory(t)).Bind(t.Context(), k.Root, n, Binding{Driver: "uio_pci_generic", Force: true}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Undo(t.Context(), k.Root); err != nil {
		t.Fatal(err)
	}
	stop()
	if k.log[len(k.log)-1] != "probe 0000:00:03.0 virtio-pci" || !slices.Contains(k.log, "probe 0000:00:03.0 uio_pci_generic") {
		t.Errorf("the kernel was asked for %q", k.log)
	}
}

// What somebody else bound goes to the driver that the kernel chooses, and what changed hands
// since stays.
func TestUnbindForeign(t *testing.T) {
	const address = "0000:00:04.0"
	k := &kernel{Root: fixture(t, "guest"), own: map[string]string{address: "virtio-pci"}}
	defer k.run(t)()
	j := Journal(filepath.Join(inMemory(t), "journal"))
	if err := k.give(t.Context(), address, "uio_pci_generic"); err != nil {
		t.Fatal(err)
	}
	if err := j.Unbind(t.Context(), k.Root, mustCard(t, k.Root, address, Stack{})); err != nil || k.driver(address) != "virtio-pci" {
		t.Errorf("at %s: %v", k.driver(address), err)
	}
	r, err := j.Bind(t.Context(), k.Root, mustCard(t, k.Root, address, stacks()["guest"]), Binding{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.give(t.Context(), address, "uio_pci_generic"); err != nil {
		t.Fatal(err)
	}
	if err := r.Undo(t.Context(), k.Root); err == nil || !strings.Contains(err.Error(), "which weft did not give it") || k.driver(address) != "uio_pci_generic" {
		t.Errorf("what another gave was taken away: %v", err)
	}
	// A card that was taken out cannot be put back, and need not be.
	os.RemoveAll(k.path(devices, address))
	if done, err := j.Restore(t.Context(), k.Root); len(done) != 1 || err != nil {
		t.Errorf("without the card: %v, %v", done, err)
	}
}
