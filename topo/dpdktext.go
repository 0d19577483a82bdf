package topo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kballard/go-shellquote"
)

// ParseNF reads an NF as people write it: its name, with @ and its service if that is not the
// next, and its arguments as a shell takes them: "bridge", "firewall@2 --rule 'allow tcp'".
func ParseNF(text string) (NF, error) {
	words, err := shellquote.Split(text)
	switch {
	case err != nil:
		return NF{}, fmt.Errorf("NF %q: a quote or backslash has no end; write an argument with blanks as 'a b'", text)
	case len(words) == 0:
		return NF{}, errors.New("the NF has no name; write for example bridge, or bridge@1 for service 1")
	}
	if slices.Contains(words, "→") || slices.Contains(words, "->") {
		return NF{}, fmt.Errorf("%q are several NFs; write a list: [firewall, bridge]", text)
	}
	name, service, given := strings.Cut(words[0], "@")
	n := NF{Name: name}
	if len(words) > 1 {
		n.Args = words[1:]
	}
	if len(n.Args) > 0 && n.Args[0] == "--" { // as on a command line
		n.Args = n.Args[1:]
	}
	if given {
		if n.Service, err = parseService(service); err != nil {
			return NF{}, fmt.Errorf("NF %s: %w", name, err)
		}
	}
	if err := checkName(name); err != nil {
		return NF{}, fmt.Errorf("NF: %w", err)
	}
	return n, nil
}

// MaxService is the highest number of a service.
const MaxService = 4095

func parseService(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxService {
		return 0, fmt.Errorf("%q is not a service from 1 to %d", text, MaxService)
	}
	return n, nil
}

// String writes an NF as ParseNF reads it. What else it has is left out.
func (n NF) String() string {
	text := n.Name
	if n.Service != 0 {
		text += "@" + strconv.Itoa(n.Service)
	}
	if len(n.Args) > 0 {
		text += " " + shellquote.Join(n.Args...)
	}
	return text
}

// Brief reports whether String says all of n, and ParseNF reads it again.
func (n NF) Brief() bool {
	again, err := ParseNF(n.String())
	return err == nil && equalNF(again, n)
}

func equalNF(a, b NF) bool {
	args := slices.Equal(a.Args, b.Args)
	a.Args, b.Args = nil, nil
	return args && a.Name == b.Name && a.Command == b.Command && a.Dir == b.Dir && a.Image == b.Image && a.RootFS == b.RootFS && a.Host == b.Host && a.Outside == b.Outside && a.Service == b.Service && a.Instances == b.Instances &&
		a.Weight == b.Weight && a.Core == b.Core && a.Fused == b.Fused && a.ReadOnly == b.ReadOnly && a.Copy == b.Copy &&
		a.Restart == b.Restart && a.OnDeath == b.OnDeath
}

// SplitChain splits a chain as people write it into its steps: "1→3→2", "1->3->2", "1,3,2".
func SplitChain(text string) []string {
	text = strings.NewReplacer("->", " ", "→", " ", ",", " ").Replace(text)
	return strings.Fields(text)
}

// outPrefix begins the step of a chain that names the port by which packets leave.
const outPrefix = "port:"

// ParseChain reads the steps of a chain: numbers of services, or names of NFs among nfs, and last
// perhaps the port by which packets leave (port:2). Services of NFs must be known.
func ParseChain(name string, steps []string, nfs []NF) (Chain, error) {
	c := Chain{Name: name, Services: []int{}}
	for i, step := range steps {
		if port, ok := strings.CutPrefix(step, outPrefix); ok {
			n, err := strconv.Atoi(port)
			switch {
			case err != nil || n < 1 || n > maxPort:
				return Chain{}, fmt.Errorf("chain %s: %q is not a port from 1 to %d", name, port, maxPort)
			case i != len(steps)-1:
				return Chain{}, fmt.Errorf("chain %s: %s ends the chain; write it last", name, step)
			}
			c.Out = n
			continue
		}
		service, err := findService(step, nfs)
		if err != nil {
			return Chain{}, fmt.Errorf("chain %s: %w", name, err)
		}
		c.Services = append(c.Services, service)
	}
	if len(steps) == 0 {
		return Chain{}, fmt.Errorf("chain %s has no steps; write services, such as 1→3→2", name)
	}
	return c, nil
}

// findService returns the service that a number or the name of an NF stands for.
func findService(step string, nfs []NF) (int, error) {
	if step != "" && strings.Trim(step, "0123456789") == "" {
		return parseService(step)
	}
	service := 0
	var names []string
	for _, n := range nfs {
		names = append(names, n.Name)
		switch {
		case n.Name != step || n.Service == service:
		case service != 0:
			return 0, fmt.Errorf("the NF %s is in services %d and %d; write the number", step, service, n.Service)
		default:
			service = n.Service
		}
	}
	if service == 0 {
		return 0, unknown("NF", step, names)
	}
	return service, nil
}

// String writes the steps of a chain as ParseChain reads them.
func (c Chain) String() string {
	var steps []string
	for _, s := range c.Services {
		steps = append(steps, strconv.Itoa(s))
	}
	if c.Out != 0 {
		steps = append(steps, outPrefix+strconv.Itoa(c.Out))
	}
	return strings.Join(steps, "→")
}

// NumberServices returns NFs in which all have a service: those that name none have the one
// after the NF before them, the first 1.
func NumberServices(nfs []NF) []NF {
	nfs = slices.Clone(nfs)
	last := 0
	for i := range nfs {
		if nfs[i].Service == 0 {
			nfs[i].Service = last + 1
		}
		last = nfs[i].Service
	}
	return nfs
}

// SplitFlow splits a flow into its match and its actions: "tcp,actions=chain:web" into "tcp" and
// "chain:web".
func SplitFlow(flow string) (match, actions string, err error) {
	match, actions, ok := strings.Cut(flow, "actions=")
	match = strings.TrimRight(strings.TrimSpace(match), ", ")
	if actions = strings.TrimSpace(actions); !ok || actions == "" {
		return "", "", fmt.Errorf("the flow %q has no actions; write for example tcp,nw_dst=10.0.0.2,actions=chain:web", flow)
	}
	return match, actions, nil
}

// flowWords are what a flow's match may have without a value.
var flowWords = []string{"ip", "ipv6", "arp", "tcp", "udp", "icmp", "sctp", "tcp6", "udp6", "icmp6", "sctp6"}

// flowFields are what a flow's match may have with a value, and what is said beside it.
var flowFields = []string{"in_port", "dl_src", "dl_dst", "dl_type", "dl_vlan", "dl_vlan_pcp", "vlan_tci", "vlan_vid",
	"nw_src", "nw_dst", "ip_src", "ip_dst", "ipv6_src", "ipv6_dst", "nw_proto", "ip_proto", "nw_tos", "ip_dscp",
	"tp_src", "tp_dst", "tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst",
	"eth_src", "eth_dst", "eth_type", "arp_spa", "arp_tpa", "arp_op",
	"priority", "cookie", "idle_timeout", "hard_timeout"}

// checkFlow says what is wrong with a flow, as far as that can be known without its node.
func (d *DPDK) checkFlow(flow string) error {
	match, actions, err := SplitFlow(flow)
	if err != nil {
		return err
	}
	for part := range strings.SplitSeq(match, ",") {
		part = strings.TrimSpace(part)
		key, _, valued := strings.Cut(part, "=")
		switch {
		case part == "":
		case valued && !slices.Contains(flowFields, key):
			return fmt.Errorf("flow %q: %w", flow, unknown("field", key, flowFields))
		case !valued && !slices.Contains(flowWords, key):
			return fmt.Errorf("flow %q: %w", flow, unknown("word", key, flowWords))
		}
	}
	for action := range strings.SplitSeq(actions, ",") {
		verb, value, _ := strings.Cut(strings.TrimSpace(action), ":")
		switch strings.ToLower(verb) {
		case "chain":
			if !slices.ContainsFunc(d.Chains, func(c Chain) bool { return c.Name == value }) {
				return fmt.Errorf("flow %q: %w", flow, unknown("chain", value, d.chainNames()))
			}
		case "service":
			n, err := parseService(value)
			if err != nil {
				return fmt.Errorf("flow %q: %w", flow, err)
			}
			if !d.hasService(n) {
				return fmt.Errorf("flow %q: no NF is in service %d", flow, n)
			}
		case "output":
			if n, err := strconv.Atoi(value); err != nil || n < 1 || n > maxPort {
				return fmt.Errorf("flow %q: %q is not a port from 1 to %d", flow, value, maxPort)
			}
		case "controller", "drop":
		default:
			return fmt.Errorf("flow %q: %w", flow, unknown("action", verb, []string{"chain:NAME", "service:N", "output:PORT", "controller", "drop"}))
		}
	}
	return nil
}

func (d *DPDK) chainNames() (names []string) {
	for _, c := range d.Chains {
		names = append(names, c.Name)
	}
	return names
}

func (d *DPDK) hasService(service int) bool {
	return slices.ContainsFunc(d.NFs, func(n NF) bool { return n.Service == service })
}

// setters are those of the option --switch dpdk.
func (d *DPDK) setters() []setter {
	return []setter{
		{"manager", setString(&d.Manager, ManagerWeft, ManagerONVM, ManagerDPDK)},
		{"portKind", setString(&d.PortKind, portKinds...)},
		{"nfs", func(value string) error {
			for part := range strings.SplitSeq(value, "+") {
				n, err := ParseNF(part)
				if err != nil {
					return err
				}
				d.NFs = append(d.NFs, n)
			}
			return nil
		}},
		{"command", setString[string](&d.Command)},
		{"spin", setBool(&d.Spin)},
		{"hugepages", func(value string) (err error) {
			if d.Hugepages, err = strconv.Atoi(value); err != nil || d.Hugepages < 0 || d.Hugepages > maxHugepages {
				return fmt.Errorf("%q is not from 0 to %d MB", value, maxHugepages)
			}
			return nil
		}},
	}
}
