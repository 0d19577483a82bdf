package nic

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What people and programs are told of machines that nobody here has.
func TestStatus(t *testing.T) {
	for name, stack := range stacks() {
		t.Run(name, func(t *testing.T) {
			root, j := fixture(t, name), Journal(inMemory(t))
			if e, ok := map[string]Entry{
				"server": {For: "network net1", Lent: &Lent{Settings: Settings{Name: "ens1f0"}, Address: "0000:3b:00.0"}},
				"guest":  {For: "weft dpdk", Pages: &Pages{Node: -1, Size: 2048, Total: 7}},
			}[name]; ok {
				r, err := j.Write(e)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Release()
			}
			s, err := root.Status(stack, j)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := s.Write(&b); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(b.String()) {
				if strings.TrimRight(line, "\n ")+"\n" != line {
					t.Errorf("a blank at the end of %q", line)
				}
			}
			golden(t, name+".golden", b.String())
			text, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", string(text)+"\n")
		})
	}
}

// A primary that lives has its config locked; only what the dead left is stale.
func TestStale(t *testing.T) {
	root := fixture(t, "server")
	want := []string{"/var/run/dpdk/old", "/dev/hugepages/oldmap_0", "/dev/hugepages/rtemap_0"}
	if got := root.Machine().Stale; !slices.Equal(got, want) {
		t.Errorf("stale: %v, want %v", got, want)
	}
	if err := os.Mkdir(root.path("var/run/dpdk/rte"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(root.path("var/run/dpdk/rte/config"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// As another process would: a lock of the open file conflicts with those of this process.
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if got := root.Machine().Stale; !slices.Equal(got, want[:2]) {
		t.Errorf("with a primary that lives: %v, want %v", got, want[:2])
	}
}

func TestWay(t *testing.T) {
	all := Machine{IOMMU: true, VFIO: true, AFXDP: true, UIO: []string{"uio_pci_generic"}}
	card := func(driver, group string) NIC { return NIC{Bus: pci, Driver: driver, Group: group} }
	for name, c := range map[string]struct {
		m      Machine
		n      NIC
		way    Way
		driver string
	}{
		"bifurcated before all":          {all, card("mlx5_core", "1"), WayBifurcated, ""},
		"AF_XDP without copies":          {all, card("ice", "1"), WayXDP, ""},
		"no AF_XDP in the kernel":        {Machine{IOMMU: true, VFIO: true}, card("ice", "1"), WayVFIO, "vfio-pci"},
		"AF_XDP with copies":             {all, card("e1000e", "1"), WayVFIO, "vfio-pci"},
		"no driver":                      {all, card("", "1"), WayVFIO, "vfio-pci"},
		"without IOMMU":                  {Machine{VFIO: true, NoIOMMU: true, UIO: all.UIO}, card("e1000e", ""), WayNoIOMMU, "vfio-pci"},
		"without IOMMU, in vfio's group": {Machine{VFIO: true, NoIOMMU: true}, card("vfio-pci", "0"), WayNoIOMMU, "vfio-pci"},
		"vfio that wants an IOMMU":       {Machine{VFIO: true, UIO: all.UIO}, card("e1000e", ""), WayUIO, "uio_pci_generic"},
		"only vfio, no IOMMU":            {Machine{VFIO: true}, card("e1000e", ""), WayNone, ""},
		"IOMMU, nothing loaded":          {Machine{IOMMU: true}, card("e1000e", "1"), WayNone, ""},
		"AF_XDP is better than nothing":  {Machine{IOMMU: true, AFXDP: true}, card("e1000e", "1"), WayXDP, ""},
		"AF_XDP needs a kernel driver":   {Machine{IOMMU: true, AFXDP: true}, card("", "1"), WayNone, ""},
		"nothing":                        {Machine{}, card("e1000e", ""), WayNone, ""},
		"as it is: vfio":                 {Machine{IOMMU: true}, card("vfio-pci", "1"), WayVFIO, "vfio-pci"},
		"as it is: uio":                  {all, card("igb_uio", "1"), WayUIO, "igb_uio"},
		"USB":                            {all, NIC{Bus: "usb", Driver: "r8152"}, WayXDP, ""},
		"USB, no AF_XDP":                 {Machine{VFIO: true, IOMMU: true}, NIC{Bus: "usb", Driver: "r8152"}, WayNone, ""},
	} {
		got := c.m.Way(c.n)
		if got.Way != c.way || got.Driver != c.driver || got.Why == "" || got.Mend == "" && got.Way == WayNone {
			t.Errorf("%s: %+v, want %s %q", name, got, c.way, c.driver)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"0000:03:00.0": "0000:03:00.0", "03:00.0": "0000:03:00.0", " 0000:AF:1f.7 ": "0000:af:1f.7", "10000:03:00.0": "10000:03:00.0",
		"": "", "eth0": "", "0000:03:00.8": "", "3:0.0": "", "0000:03:00.0x": "",
	} {
		got, err := ParseAddress(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseAddress(%q) = %q, %v", in, got, err)
		}
	}
}

func TestFind(t *testing.T) {
	list, err := fixture(t, "desktop").List()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"eno1": "0000:00:1f.6", "00:1f.6": "0000:00:1f.6",
		"enx00": "error: enx00 is on the bus usb; only NICs on the PCI bus can get another driver",
		"eth7":  "error: there is no NIC eth7 (there are: 0000:00:1f.6, 0000:02:00.0)",
	} {
		n, err := Find(list, in)
		got := n.Address
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("Find(%q) = %q, want %q", in, got, want)
		}
	}
	if _, err := Find(nil, "eth0"); err == nil || !strings.Contains(err.Error(), "none on a PCI bus") {
		t.Errorf("on a machine without NICs: %v", err)
	}
}
