package builtin

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
	"weft/topo"
)

var update = flag.Bool("update", false, "rewrite golden files")

// start makes an NF at a moment.
func start(t testing.TB, name string, args ...string) nf.Function {
	t.Helper()
	f, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	made, err := f.New(args)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := made.(io.Closer); ok {
		t.Cleanup(func() { c.Close() })
	}
	tick(made, 0)
	return made
}

// tick lets a time be, since some beginning, and returns what the NF sends by itself.
func tick(f nf.Function, at time.Duration) []nf.Packet {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	t, ok := f.(nf.Ticker)
	if !ok {
		return nil
	}
	send := make([]nf.Packet, nf.Batch)
	n, _ := t.Tick(begin.Add(at), send)
	return send[:n]
}

func verdicts(results []nftest.Result) string {
	var list []string
	for _, r := range results {
		list = append(list, r.Verdict)
	}
	return strings.Join(list, ", ")
}

// counted fails the test if a counter of an NF is not what it should be.
func counted(t *testing.T, f nf.Function, want map[string]uint64) {
	t.Helper()
	got := nftest.Counters(f.(nf.Counting))
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is %d, want %d; all: %v", name, got[name], n, got)
		}
	}
}

func TestTable(t *testing.T) {
	all := All()
	if !slices.IsSortedFunc(all, func(a, b NF) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not by name")
	}
	var text strings.Builder
	for _, f := range all {
		text.WriteString(f.Usage() + "\n")
	}
	golden := filepath.Join("testdata", "usage.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("the usage of NFs changed; go test -update, and look at the difference")
	}
}

// Every mistake is one line that says the NF, and what to write.
// What topo knows of the NFs is true.
func TestKinds(t *testing.T) {
	kinds := topo.NFKinds()
	if len(kinds) != len(All()) {
		t.Errorf("topo knows %d of %d NFs", len(kinds), len(All()))
	}
	for i, f := range All() {
		k := kinds[i]
		if k.Name != f.Name {
			t.Fatalf("topo has %s where %s is", k.Name, f.Name)
		}
		flags := f.flags()
		f.define(flags)
		for _, name := range slices.Concat(k.Reads, k.Writes, []string{k.Shared}) {
			if name != "" && flags.Lookup(name) == nil {
				t.Errorf("%s has no flag --%s", f.Name, name)
			}
		}
		flags.VisitAll(func(g *pflag.Flag) {
			what, _ := pflag.UnquoteUsage(g)
			if named := slices.Contains(slices.Concat(k.Reads, k.Writes), g.Name); named != (strings.ToLower(what) == "file") {
				t.Errorf("%s --%s is a %s, and topo says that it is a file: %v", f.Name, g.Name, what, named)
			}
		})
	}
}

// Arguments can be checked without making anything.
func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pcap")
	f, err := Find("pcap")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check([]string{"--file", file}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a look at the arguments made the capture file")
	}
	if err := f.Check([]string{"--fiel", file}); err == nil || err.Error() != "pcap: unknown flag: --fiel; weft nf help pcap lists what it takes" {
		t.Error(err)
	}
}

func TestMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"brigde":                           `no NF "brigde" comes with weft; did you mean bridge?`,
		"bridge 1 2":                       `bridge: unexpected argument "1": it takes flags only`,
		"bridge --pair 1":                  `bridge: --pair 1: port "": ports have numbers from 1 to 255`,
		"bridge --pair 1:2 --pair 2:3":     `bridge: --pair 2:3: a port is in two pairs, or twice in one`,
		"bridge --speed":                   `bridge: unknown flag: --speed`,
		"forward --service 1 --port 2":     `forward: --service and --port: one of them`,
		"forward --dst 1":                  `forward: --dst: "1" is no Ethernet address, such as 02:00:00:00:00:01`,
		"arp":                              `arp: tell it an --address at least`,
		"arp --address 10.0.0.1":           `arp: --address 10.0.0.1: "" is no Ethernet address, such as 02:00:00:00:00:01`,
		"monitor --by port":                `monitor: --by: "port": write source, destination, flow or total`,
		"limiter --rate 0bit":              `limiter: --rate`,
		"limiter --rate 1mbit --burst 100": `limiter: --burst 100: no full frame would ever pass; write 1518 at least`,
		"tracker --idle 0s":                `tracker: --idle 0s: longer than nothing`,
		"pcap":                             `pcap: tell it a --file`,
		"pcap --file /nowhere/x.pcap":      `pcap: --file: open /nowhere/x.pcap: no such file or directory`,
		"router":                           `router: tell it a --port at least`,
		"router --port 1":                  `router: --port 1: write N=ADDR/LEN, with N from 1 to 255`,
		"router --port 1=10.0.0.1":         `router: --port 1=10.0.0.1: "10.0.0.1" is no address with a length, such as 10.0.1.1/24`,
		"router --port 1=10.0.0.1/8 --port 2=10.1.2.3/8":       `router: --port 2=10.1.2.3/8: the network 10.0.0.0/8 is on a port already`,
		"router --port 1=10.0.0.1/8 --mac 2=02:00:00:00:00:01": `router: --mac 2=02:00:00:00:00:01: there is no --port 2`,
		"router --port 1=10.0.0.1/8 --route 0.0.0.0/0=1.2.3.4": `router: --route 0.0.0.0/0=1.2.3.4: 1.2.3.4 is in the network of no port`,
		"router --port 1=10.0.0.1/8 --neighbour 10.0.0.2":      `router: --neighbour 10.0.0.2: "" is no Ethernet address`,
		"balancer":                `balancer: --vip: "" is no address with or without a port`,
		"balancer --vip 10.0.0.9": `balancer: tell it a --server at least`,
		"balancer --vip 10.0.0.9 --server 10.0.0.8:80":       `balancer: --server 10.0.0.8:80: a port: of which? the virtual address has all`,
		"balancer --vip 10.0.0.9 --server fd00::8":           `balancer: --server fd00::8: it and the virtual address are IPv4 and IPv6`,
		"balancer --vip 10.0.0.9 --server 10.0.0.8,weight=0": `balancer: --server 10.0.0.8,weight=0: weight "0": from 1 to 1000`,
		"encrypt":                                 `encrypt: tell it a --key or a --key-file`,
		"encrypt --key 00":                        `encrypt: the key is no 20, 28 or 36 bytes in hex`,
		"encrypt --spi 5 --key " + testKey:        `encrypt: --spi 5: a number from 256`,
		"decrypt --replay maybe --key " + testKey: `decrypt: --replay maybe: iv, seq or off`,
		"scan":                          `scan: tell it a --pattern, --patterns FILE or a --regexp`,
		"scan --pattern x --action eat": `scan: --action eat: drop, count or mark`,
		"scan --regexp (":               `scan: --regexp: error parsing regexp`,
		"generator --size 20":           `generator: --size 20: from 60 to 1792`,
		"generator --rate 0":            `generator: --rate 0: more than 0, at most 1e9`,
		"generator --dst [fd00::1]:1":   `generator: --dst [fd00::1]:1: write ADDR:PORT, of the version of --src`,
		"speed":                         `speed: tell it a --service to send to`,
		"nat":                           `nat: tell it an --address at least`,
		"nat --address 10.0.0.1 --address 10.0.0.2": `nat: --address 10.0.0.2: there is 10.0.0.1 already; run an instance for each`,
		"nat --address 10.0.0.1 --ports 0-9":        `nat: --ports 0-9: write FROM-TO, from 1 to 65535`,
		"nat --address 10.0.0.1 --inside 2":         `nat: --inside and --outside are one port`,
		"firewall":                                  `firewall: tell it --rules FILE, or a --rule`,
		"firewall --rules /nowhere/x":               `firewall: open /nowhere/x: no such file or directory`,
		"firewall --rule allow --flows 0":           `firewall: --flows 0: from 1 to 4194304`,
		"tracker --export /nowhere/x --flows 100":   `tracker: --export: open /nowhere/x: no such file or directory`,
	} {
		words := strings.Fields(line)
		f, err := Find(words[0])
		if err == nil {
			_, err = f.New(words[1:])
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

// No NF that only passes packets on costs memory for each.
func TestNoAllocations(t *testing.T) {
	frames := [][]byte{
		nftest.UDP(t, "10.0.0.1:4000", "10.0.0.2:53", "hello"),
		nftest.TCP(t, "10.0.0.1:4000", "10.0.0.2:80", "A", "hello"),
		nftest.TCP(t, "[fd00::1]:4000", "[fd00::2]:80", "SA", ""),
		nftest.Echo(t, "10.0.0.1", "10.0.0.2", 7, true),
		nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", "\x00\x00\x00\x00\x00\x00", "10.0.0.2"),
	}
	for _, line := range []string{
		"bridge",
		"forward --swap --port 2",
		"monitor --by flow",
		"arp --address 10.0.0.2=02:00:00:00:00:07",
		"limiter --rate 10mbit --per flow",
		"tracker",
		"pcap --file " + filepath.Join(t.TempDir(), "x.pcap"),
		"router --port 1=10.0.0.9/24,fd00::9/64 --mac 1=02:00:00:00:00:02 --neighbour 10.0.0.2=02:00:00:00:00:07 --neighbour fd00::2=02:00:00:00:00:07",
		"balancer --vip 10.0.0.2 --server 10.0.0.9",
		"encrypt --key " + testKey,
		"decrypt --key " + testKey,
		"scan --pattern ell --regexp l+",
		"generator",
		"nat --address 10.0.0.99 --address fd00::99",
		"firewall --rule allow_tcp_dport_80_keep --rule reject_udp --rule allow",
	} {
		t.Run(line, func(t *testing.T) {
			words := strings.Fields(line)
			for i := range words {
				words[i] = strings.ReplaceAll(words[i], "_", " ")
			}
			f := start(t, words[0], words[1:]...)
			lab := nftest.New(t)
			lab.NoAllocations(f, func(into []nf.Packet) []nf.Packet {
				for _, b := range frames {
					into = append(into, lab.Packet(1, b))
				}
				return into
			})
		})
	}
}

// What is cut off anywhere hurts no NF.
func TestCutOff(t *testing.T) {
	whole := [][]byte{
		nftest.UDP(t, "10.0.0.1:4000", "10.0.0.2:53", "hello"),
		nftest.TCP(t, "[fd00::1]:4000", "[fd00::2]:80", "SA", "hello"),
		nftest.Echo(t, "fd00::1", "fd00::2", 7, true),
		nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", "\x00\x00\x00\x00\x00\x00", "10.0.0.2"),
		solicit(t, "fd00::1", "fd00::2"),
	}
	for _, line := range samples(t) {
		words := strings.Split(line, " ")
		f := start(t, words[0], words[1:]...)
		lab := nftest.New(t)
		for _, b := range whole {
			for n := range b {
				lab.Run(f, lab.Packet(1, b[:n]))
				for bit := range 8 { // and what is not what it says
					c := append([]byte{}, b...)
					c[n] ^= 1 << bit
					lab.Run(f, lab.Packet(1, c))
				}
			}
		}
		tick(f, time.Hour)
	}
}

// samples returns a way to run each NF.
func samples(t *testing.T) []string {
	dir := t.TempDir()
	lines := []string{
		"arp --address fd00::2=02:00:00:00:00:07 --address 10.0.0.2=02:00:00:00:00:07",
		"balancer --vip 10.0.0.2 --server 10.0.0.9",
		"bridge",
		"decrypt --only --key " + testKey,
		"encrypt --key " + testKey,
		"firewall --rule=default\treject --rule=allow\ttcp\tkeep",
		"forward --swap",
		"generator",
		"limiter --rate 10mbit --per flow",
		"monitor --by flow --talkers 10",
		"nat --address 10.0.0.2 --address fd00::2 --inside 2 --outside 1",
		"pcap --file " + filepath.Join(dir, "x.pcap"),
		"router --port 1=10.0.0.2/24,fd00::2/64 --port 2=10.0.1.2/24 --mac 1=02:00:00:00:00:02",
		"scan --pattern ell --regexp l+",
		"speed --service 2",
		"tracker --export " + filepath.Join(dir, "x.json"),
	}
	for i, f := range All() {
		if i >= len(lines) || !strings.HasPrefix(lines[i]+" ", f.Name+" ") {
			t.Fatalf("no sample of %s", f.Name)
		}
	}
	return lines
}

// What a packet costs in each NF: 64 bytes of UDP in 64 flows. The first row is what it costs to
// make the packets.
func BenchmarkNFs(b *testing.B) {
	frames := make([][]byte, 64)
	for i := range frames {
		frames[i] = nftest.UDP(b, fmt.Sprintf("10.0.0.1:%d", 1024+i), "10.0.0.2:53", "0123456789012345678901")
	}
	for _, line := range []string{
		"none", "bridge", "forward", "arp --address 10.0.0.9=02:00:00:00:00:07",
		"router --port 1=10.0.0.9/24 --mac 1=02:00:00:00:00:02 --neighbour 10.0.0.2=02:00:00:00:00:07",
		"firewall --rule=drop\ttcp\tdport\t22 --rule=allow\tudp\tdport\t53",
		"balancer --vip 10.0.0.2 --server 10.0.0.9", "nat --address 10.0.0.99", "monitor --by flow", "limiter --rate 40gbit --per flow", "tracker",
		"scan --pattern evil --action count", "encrypt --key " + testKey,
	} {
		words := strings.Split(line, " ")
		b.Run(words[0], func(b *testing.B) {
			f := nf.Function(nf.Handler(func([]nf.Packet) {}))
			if words[0] != "none" {
				f = start(b, words[0], words[1:]...)
			}
			lab := nftest.New(b)
			var batch [nf.Batch]nf.Packet
			for n := 0; n < b.N; n += nf.Batch {
				for i := range batch {
					batch[i] = lab.Packet(1, frames[i%len(frames)])
				}
				f.Handle(batch[:])
			}
		})
	}
}
