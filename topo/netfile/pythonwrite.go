package netfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"weft/topo"
)

// Python writes a network as a custom topology of Mininet's, and tells note what Mininet does
// not have.
func Python(s topo.Spec, note func(string)) ([]byte, error) {
	var b strings.Builder
	leave := func(format string, args ...any) { note(fmt.Sprintf(format, args...)) }
	b.WriteString("# Made by weft convert. Try it: mn --custom FILE --topo network\n\nfrom mininet.topo import Topo\n")
	if anyImpaired(s.Links) {
		b.WriteString("from mininet.link import TCLink\n")
	}
	b.WriteString("\n\nclass Network(Topo):\n    def build(self):\n")
	for _, w := range s.Switches {
		args := pyArgs{pyText(w.Name)}
		if w.DPID != 0 {
			args.text("dpid", fmt.Sprintf("%016x", w.DPID))
		}
		if len(w.Protocols) > 0 {
			args.text("protocols", strings.Join(w.Protocols, ","))
		}
		if w.FailMode != "" {
			args.text("failMode", w.FailMode)
		}
		if w.STP {
			args = append(args, "stp=True")
		}
		if w.Driver == topo.DriverLinux || w.Driver == topo.DriverOVSBridge {
			leave("switch %s: Mininet's topologies do not say the driver %s; use mn --switch %s", w.Name, w.Driver, w.Driver)
		}
		if w.Driver == topo.DriverDPDK {
			leave("switch %s: Mininet has no DPDK nodes; it is a plain switch there%s", w.Name, without(w.DPDK))
		}
		fmt.Fprintf(&b, "        self.addSwitch(%s)\n", args)
	}
	for _, h := range s.Hosts {
		args := pyArgs{pyText(h.Name)}
		if h.IP.IsValid() {
			args.text("ip", h.IP.String())
		}
		if h.MAC != "" {
			args.text("mac", h.MAC)
		}
		if h.DefaultRoute.IsValid() {
			args.text("defaultRoute", "via "+h.DefaultRoute.String())
		}
		if len(h.PrivateDirs) > 0 {
			var dirs []string
			for _, d := range h.PrivateDirs {
				dirs = append(dirs, pyText(d))
			}
			args = append(args, "privateDirs=["+strings.Join(dirs, ", ")+"]")
		}
		if h.NAT != nil || h.IP6.IsValid() || len(h.Files) > 0 {
			leave("host %s: nat, ip6 and files are left out", h.Name)
		}
		fmt.Fprintf(&b, "        self.addHost(%s)\n", args)
	}
	for _, l := range s.Links {
		if nic, node, ok := lent(l); ok {
			leave("link %s-%s is left out; Mininet's programs write Intf(%s, node=net[%s]) before the start", l.A.Node, l.B.Node, pyText(nic), pyText(node))
			continue
		}
		fmt.Fprintf(&b, "        self.addLink(%s)\n", pyLink(l, leave))
	}
	if len(s.Hosts)+len(s.Switches)+len(s.Links) == 0 {
		b.WriteString("        pass\n")
	}
	b.WriteString("\n\ntopos = {'network': Network}\n")
	if len(s.Commands) > 0 {
		leave("commands are left out")
	}
	if s.Seed != nil {
		leave("the seed is left out; Mininet's links have none")
	}
	if s.Addressing.IP6Base.IsValid() {
		leave("IPv6 addresses are left out")
	}
	for _, o := range []struct {
		asked  bool
		option string
	}{
		{s.Addressing.IPBase.IsValid() && s.Addressing.IPBase.String() != topo.DefaultIPBase, "--ipbase " + s.Addressing.IPBase.String()},
		{s.Addressing.AutoMAC, "--mac"}, {s.Addressing.StaticARP, "--arp"},
	} {
		if o.asked {
			leave("addressing is left out; use mn %s", o.option)
		}
	}
	open := func(h topo.Host) bool { return !h.IP.IsValid() }
	if slices.ContainsFunc(s.Hosts, open) && !slices.IsSortedFunc(s.Hosts, func(a, b topo.Host) int { return topo.CompareNames(a.Name, b.Name) }) {
		leave("Mininet numbers hosts in the order of their names, which is another one here: give them addresses if they are to keep theirs")
	}
	if !isDefaultController(s.Controllers) {
		leave("controllers are left out; use mn --controller")
	}
	return []byte(b.String()), nil
}

// without says what of a DPDK node is left out.
func without(d *topo.DPDK) string {
	if d == nil {
		return ", without its NF bridge"
	}
	var what []string
	for _, n := range d.NFs {
		what = append(what, n.Name)
	}
	text := ""
	if len(what) > 0 {
		text = ", without its NFs " + strings.Join(what, ", ")
	}
	if d.Command != "" {
		text = ", without its program " + d.Command
	}
	if len(d.Chains)+len(d.Flows) > 0 {
		text += " and without its chains and flows"
	}
	if len(d.NICs) > 0 {
		text += " and without the NICs " + strings.Join(d.NICs, ", ")
	}
	return text
}

func anyImpaired(links []topo.Link) bool {
	for _, l := range links {
		if l.Impaired() {
			return true
		}
	}
	return false
}

// pyArgs are arguments of a call.
type pyArgs []string

func (a *pyArgs) text(name, value string) { *a = append(*a, name+"="+pyText(value)) }

func (a pyArgs) String() string { return strings.Join(a, ", ") }

// pyText writes a text as Python does.
func pyText(s string) string {
	q := strconv.QuoteToASCII(s)
	return "'" + strings.ReplaceAll(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`), "'", `\'`) + "'"
}

// mininetKeys are the settings of links that Mininet's TCLink has, and its names for them.
func mininetKeys() map[string]string {
	return map[string]string{"bw": "bw", "delay": "delay", "jitter": "jitter", "loss": "loss", "queue": "max_queue_size"}
}

func pyLink(l topo.Link, leave func(string, ...any)) pyArgs {
	args := pyArgs{pyText(l.A.Node), pyText(l.B.Node)}
	for i, e := range []topo.LinkEnd{l.A, l.B} {
		if e.Port != nil {
			args = append(args, fmt.Sprintf("port%d=%d", i+1, *e.Port))
		}
		if e.Interface != "" {
			args.text(fmt.Sprintf("intfName%d", i+1), e.Interface)
		}
		if e.MAC != "" {
			args.text(fmt.Sprintf("addr%d", i+1), e.MAC)
		}
		if e.IP.IsValid() || e.IP6.IsValid() {
			leave("link %s-%s: the address of %s is left out", l.A.Node, l.B.Node, e.Node)
		}
	}
	ways := map[string]pyArgs{}
	for _, o := range l.Options() {
		name, value, _ := strings.Cut(o, "=")
		way, key := "", name
		if w, k, ok := strings.Cut(name, ":"); ok {
			way, key = w, k
		}
		known := mininetKeys()[key]
		switch {
		case key == "driver":
			continue
		case known == "" || key == "queue" && strings.Trim(value, "0123456789") != "":
			leave("link %s-%s: %s is left out", l.A.Node, l.B.Node, name)
			continue
		}
		switch key {
		case "bw":
			rate, err := topo.ParseRate(value)
			if err != nil {
				continue // it was checked
			}
			value = strconv.FormatFloat(float64(rate)/1e6, 'f', -1, 64)
		case "delay", "jitter":
			value = pyText(value)
		}
		switch way {
		case "":
			ways["ab"] = append(ways["ab"], fmt.Sprintf("%s: %s", pyText(known), value))
			ways["ba"] = append(ways["ba"], fmt.Sprintf("%s: %s", pyText(known), value))
		default:
			ways[way] = append(ways[way], fmt.Sprintf("%s: %s", pyText(known), value))
		}
	}
	for i, end := range []topo.LinkEnd{l.A, l.B} {
		way := []string{"ab", "ba"}[i]
		if end.IP.IsValid() {
			ways[way] = append(ways[way], "'ip': "+pyText(end.IP.String()))
		}
	}
	if l.Impaired() {
		args = append(args, "cls=TCLink")
	}
	for i, way := range []string{"ab", "ba"} {
		if list := ways[way]; len(list) > 0 {
			args = append(args, fmt.Sprintf("params%d={%s}", i+1, list))
		}
	}
	return args
}

// lent returns the NIC that a link lends, and to which node.
func lent(l topo.Link) (nic, node string, ok bool) {
	if nic, ok := topo.NIC(l.B.Node); ok {
		return nic, l.A.Node, true
	}
	nic, ok = topo.NIC(l.A.Node)
	return nic, l.B.Node, ok
}
