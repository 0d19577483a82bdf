package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weft/topo"
)

func TestParseFolders(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"4.0", "Temp:                \t/tmp\nPersonal configuration:\t/home/u/.config/wireshark\nExtcap path:\t/usr/lib/wireshark/extcap\n", "/home/u/.config/wireshark/extcap"},
		{"4.2", "Personal configuration:\t/home/u/.config/wireshark\nPersonal Extcap path:\t/home/u/.local/lib/wireshark/extcap\nGlobal Extcap path:\t/usr/lib/wireshark/extcap\n", "/home/u/.local/lib/wireshark/extcap"},
		{"none", "Temp:\t/tmp\nnonsense\n", ""},
		{"empty", "", ""},
	} {
		if got := parseFolders(c.text); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzParseFolders(f *testing.F) {
	f.Add("Personal configuration:\t/x\nPersonal Extcap path:\t/y\n")
	f.Fuzz(func(t *testing.T, text string) { parseFolders(text) })
}

// What Wireshark asks without a network, and what people may get wrong.
func TestExtcapProtocol(t *testing.T) {
	var b strings.Builder
	for _, line := range []string{
		"weft extcap --extcap-interface weft:lab:h1-eth0 --extcap-dlts --extcap-version=4.4",
		"weft extcap --extcap-config --extcap-interface weft:lab:h1-eth0 --extcap-not-invented-yet=1",
		"weft extcap --extcap-interface eth0 --extcap-capture-filter tcp",
		"weft extcap --extcap-interface weft:lab --extcap-capture-filter tcp",
		"weft extcap --capture --extcap-interface weft:lab:h1-eth0",
		"weft extcap --capture --extcap-interface eth0 --fifo /dev/null",
		"weft extcap", "weft extcap remove", "weft extcap install now",
		"weft control --to nobody", "weft wireshark h1", "weft wireshark -s 0 h1 --tshark",
	} {
		t.Setenv("DISPLAY", "")
		t.Setenv("WAYLAND_DISPLAY", "")
		o := weft(t, strings.Fields(line)...)
		fmt.Fprintf(&b, "$ %s\n%s%s[exit %d]\n\n", line, o.out, o.err, o.status)
	}
	golden(t, "testdata/extcap.txt", b.String())
}

// The launcher is put where it belongs, replaced and removed, and what is not ours stays.
func TestLauncher(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "extcap")
	file := filepath.Join(dir, launcherName)
	for _, step := range []struct {
		args, want string
		status     int
		there      bool
	}{
		{"uninstall", "nothing to remove", 0, false},
		{"install", "Wireshark lists", 0, true},
		{"install --json", `"installed": true`, 0, true},
		{"uninstall", "removed", 0, false},
	} {
		o := weft(t, append([]string{"weft", "extcap", "--dir", dir}, strings.Fields(step.args)...)...)
		st, err := os.Stat(file)
		if o.status != step.status || !strings.Contains(o.out, step.want) || (err == nil) != step.there {
			t.Errorf("%s: %+v, %v", step.args, o, err)
		}
		if err == nil && st.Mode().Perm()&0o111 != 0o111 {
			t.Errorf("%s: mode %v", step.args, st.Mode())
		}
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho other\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"install", "uninstall"} {
		if o := weft(t, "weft", "extcap", action, "--dir", dir); o.status != 1 || !strings.Contains(o.err, "is not weft's") {
			t.Errorf("%s over another's file: %+v", action, o)
		}
	}
}

func TestExtcapInterfaces(t *testing.T) {
	list := func(switches int) []string {
		p := &topo.Plan{Hosts: []topo.PlannedHost{{Name: "h1", Interfaces: []topo.Interface{{Name: "h1-eth0"}}}}}
		for i := range switches {
			p.Switches = append(p.Switches, topo.PlannedSwitch{Name: fmt.Sprintf("s%d", i+1), Controllers: []string{"c0"},
				Interfaces: []topo.Interface{{Name: fmt.Sprintf("s%d-eth1", i+1)}}})
		}
		var names []string
		for _, i := range extcapInterfaces(p) {
			names = append(names, i.target)
		}
		return names
	}
	if got, want := strings.Join(list(1), " "), "s1:c0 all h1-eth0 s1-eth1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := strings.Join(list(2), " "), "control s1:c0 s2:c0 all h1-eth0 s1-eth1 s2-eth1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := len(list(1000)); n != mostExtcapInterfaces {
		t.Errorf("%d interfaces of a large network", n)
	}
}
