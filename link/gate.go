package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"weft/internal/ns"
)

// A Gate says what happens to the frames that a device sends before they are on its link. It
// works with every kind of device, and changes neither the device nor what is in flight.
//
//	stack or switch ─► cut? ─► barred? ─► [through a wire beside the device] ─► device
type Gate struct {
	Device string
	// Cut drops all frames.
	Cut bool
	// Bar is the name of a Bar that drops frames; empty: none.
	Bar string
	// Through is the TAP device of a wire, in the same namespace, that frames pass on their way:
	// those that come out of it are sent by Device (Config.Return).
	Through string
}

func (g Gate) open() bool { return g == Gate{Device: g.Device} }

// A Bar is the senders whose frames a Gate drops: by their MACs, and where these are those of a
// router, by their addresses.
type Bar struct {
	MACs      []string
	Addresses []netip.Addr
}

// Gates are those of the devices in one network namespace. They are rules of nftables at the
// egress hook, which has been there since Linux 5.16, and which nft(8) sets. Methods may be
// called concurrently.
type Gates struct {
	net *ns.Net

	mu    sync.Mutex
	gates map[string]Gate
	bars  map[string]bool
	// through are the TAP devices whose frames are sent on by another.
	through map[string]bool
}

// NewGates returns the gates of a namespace, all open.
func NewGates(net *ns.Net) *Gates {
	return &Gates{net: net, gates: map[string]Gate{}, bars: map[string]bool{}, through: map[string]bool{}}
}

// gateTable is the table that the rules are in.
const gateTable = "weft"

// gateMark is the mark (SO_MARK) of frames that have passed the wire beside their device:
// "weft".
const gateMark = 0x77656674

// deviceCharacters are those that, beside letters and digits, mean only themselves between
// nft's quotes.
const deviceCharacters = "-_.@+=,~#"

func errDevice(name string) error {
	return fmt.Errorf("device %s: nft takes no such name; give the interface one of letters, digits and hyphens", name)
}

// made reports whether a name is made of letters, digits and some other characters.
func made(name, others string) bool {
	for _, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}

// label is the part of the names of chains and counters that stands for a device.
func label(device string) string {
	if made(device, "-_") {
		return device
	}
	return fmt.Sprintf("_%x", device)
}

// Set changes the gates of devices, all at once.
func (g *Gates) Set(gates ...Gate) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var text strings.Builder
	next := maps.Clone(g.gates)
	for _, gate := range gates {
		for _, name := range []string{gate.Device, gate.Through} {
			if !made(name, deviceCharacters) {
				return errDevice(name)
			}
		}
		writeGate(&text, g.gates[gate.Device], gate)
		next[gate.Device] = gate
		if gate.open() {
			delete(next, gate.Device)
		}
	}
	if text.Len() == 0 {
		return nil
	}
	if err := g.nft("add table netdev " + gateTable + "\n" + text.String()); err != nil {
		return err
	}
	g.gates = next
	for _, gate := range gates {
		if gate.Through != "" {
			g.through[gate.Through] = true
		}
	}
	return nil
}

// writeGate writes what makes is of was.
func writeGate(w *strings.Builder, was, is Gate) {
	if was == is || was.open() && is.open() {
		return
	}
	chain := fmt.Sprintf("netdev %s out-%s", gateTable, label(is.Device))
	drop := fmt.Sprintf("counter name drop-%s drop", label(is.Device))
	if !was.open() {
		fmt.Fprintf(w, "flush chain %s\n", chain)
	}
	if is.open() {
		fmt.Fprintf(w, "delete chain %s\n", chain)
		return
	}
	if was.open() {
		fmt.Fprintf(w, "add counter netdev %s drop-%s\n", gateTable, label(is.Device))
		fmt.Fprintf(w, "add chain %s { type filter hook egress device \"%s\" priority 0; }\n", chain, is.Device)
	}
	if is.Through != "" {
		fmt.Fprintf(w, "add rule %s meta mark %#x meta mark set 0 accept\n", chain, gateMark)
	}
	if is.Cut {
		fmt.Fprintf(w, "add rule %s %s\n", chain, drop)
	}
	if is.Bar != "" {
		for _, match := range []string{"ether saddr @%s-mac", "ip saddr @%s-ip", "ip6 saddr @%s-ip6"} {
			fmt.Fprintf(w, "add rule %s "+match+" %s\n", chain, is.Bar, drop)
		}
	}
	if is.Through == "" {
		return
	}
	if was.Through != is.Through {
		back := fmt.Sprintf("netdev %s in-%s", gateTable, label(is.Through))
		fmt.Fprintf(w, "add chain %s { type filter hook ingress device \"%s\" priority 0; }\n", back, is.Through)
		fmt.Fprintf(w, "add rule %s meta mark set %#x fwd to \"%s\"\n", back, gateMark, is.Device)
	}
	fmt.Fprintf(w, "add rule %s fwd to \"%s\"\n", chain, is.Through)
}

// SetBar defines a bar; gates that have it change too.
func (g *Gates) SetBar(name string, b Bar) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var text strings.Builder
	var ip, ip6 []string
	for _, a := range b.Addresses {
		if a.Is4() {
			ip = append(ip, a.String())
		} else {
			ip6 = append(ip6, a.String())
		}
	}
	fmt.Fprintf(&text, "add table netdev %s\n", gateTable)
	for _, s := range []struct {
		suffix, kind string
		elements     []string
	}{{"mac", "ether_addr", b.MACs}, {"ip", "ipv4_addr", ip}, {"ip6", "ipv6_addr", ip6}} {
		set := fmt.Sprintf("netdev %s %s-%s", gateTable, name, s.suffix)
		fmt.Fprintf(&text, "add set %s { type %s; }\nflush set %s\n", set, s.kind, set)
		for part := range slices.Chunk(s.elements, 512) {
			fmt.Fprintf(&text, "add element %s { %s }\n", set, strings.Join(part, ", "))
		}
	}
	if err := g.nft(text.String()); err != nil {
		return err
	}
	g.bars[name] = true
	return nil
}

// DeleteBars removes the bars, which no gate may have any more.
func (g *Gates) DeleteBars() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var text strings.Builder
	for name := range g.bars {
		for _, suffix := range []string{"mac", "ip", "ip6"} {
			fmt.Fprintf(&text, "delete set netdev %s %s-%s\n", gateTable, name, suffix)
		}
	}
	if text.Len() == 0 {
		return nil
	}
	if err := g.nft(text.String()); err != nil {
		return err
	}
	clear(g.bars)
	return nil
}

// Deafen keeps the frames of an EtherType that devices receive from all but packet sockets: from
// a bridge or Open vSwitch's kernel datapath that the devices are ports of. undo ends that.
func (g *Gates) Deafen(etherType uint16, devices ...string) (undo func() error, err error) {
	var do, back strings.Builder
	fmt.Fprintf(&do, "add table netdev %s\n", gateTable)
	for _, device := range devices {
		if !made(device, deviceCharacters) {
			return nil, errDevice(device)
		}
		chain := fmt.Sprintf("netdev %s deaf-%s", gateTable, label(device))
		fmt.Fprintf(&do, "add chain %s { type filter hook ingress device \"%s\" priority 0; }\nflush chain %s\n", chain, device, chain)
		fmt.Fprintf(&do, "add rule %s ether type %#x drop\n", chain, etherType)
		fmt.Fprintf(&back, "flush chain %s\ndelete chain %s\n", chain, chain)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.nft(do.String()); err != nil {
		return nil, err
	}
	return func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.nft(back.String())
	}, nil
}

// Forget removes all that is known of devices: of one that goes, and of the TAP device of a
// wire that no frame is in any more. (A gate that no longer leads through a wire leaves the
// way out of it open, for the frames that are still on their way.)
func (g *Gates) Forget(devices ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var text strings.Builder
	for _, device := range devices {
		_, known := g.gates[device]
		if !known && !g.through[device] {
			continue
		}
		delete(g.gates, device)
		delete(g.through, device)
		// Some kernels remove the chain with the device: make sure that there is one to delete.
		for _, chain := range []string{"out-" + label(device), "in-" + label(device)} {
			fmt.Fprintf(&text, "add chain netdev %[1]s %[2]s\nflush chain netdev %[1]s %[2]s\ndelete chain netdev %[1]s %[2]s\n", gateTable, chain)
		}
		fmt.Fprintf(&text, "add counter netdev %[1]s drop-%[2]s\ndelete counter netdev %[1]s drop-%[2]s\n", gateTable, label(device))
	}
	if text.Len() == 0 {
		return nil
	}
	return g.nft(text.String())
}

// Dropped counts the frames that gates have dropped, by device.
func (g *Gates) Dropped() (map[string]uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.gates) == 0 {
		return nil, nil
	}
	out, err := g.run("", "-j", "list", "counters", "table", "netdev", gateTable)
	if err != nil {
		return nil, err
	}
	var list struct {
		Nftables []struct {
			Counter *struct {
				Name    string `json:"name"`
				Packets uint64 `json:"packets"`
			} `json:"counter"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	dropped := map[string]uint64{}
	devices := map[string]string{}
	for device := range g.gates {
		devices["drop-"+label(device)] = device
	}
	for _, item := range list.Nftables {
		if item.Counter != nil {
			dropped[devices[item.Counter.Name]] = item.Counter.Packets
		}
	}
	return dropped, nil
}

// nft applies commands, all or none.
func (g *Gates) nft(text string) error {
	_, err := g.run(text, "-f", "-")
	return err
}

func (g *Gates) run(input string, args ...string) ([]byte, error) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil, errors.New("this needs nft: sudo apt-get install nftables")
	}
	cmd := exec.Command(nft, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := g.net.Do(cmd.Run); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return nil, fmt.Errorf("this needs nftables at the egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS): nft: %w: %s", err, line)
	}
	return out.Bytes(), nil
}
