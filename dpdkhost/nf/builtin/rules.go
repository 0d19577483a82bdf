package builtin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"weft/dpdkhost/nf"
)

// A rule says what happens to packets that match all of it.
type rule struct {
	text   string
	place  string // FILE:LINE
	action action
	keep   bool // and answers pass

	version  uint8 // 4, 6; 0 for any, also what is not IP if ether is set
	ether    uint16
	protocol int // -1 for any
	src, dst netip.Prefix
	sport    []portRange // nil for any
	dport    []portRange
	icmp     int // type; -1 for any
	set, not uint8
	port     int // by which it came in; 0 for any
	vlan     int // -1 for any

	packets, bytes uint64
}

type portRange struct{ from, to uint16 }

type action uint8

const (
	actionDrop action = iota
	actionAllow
	actionReject
)

func (a action) String() string { return [...]string{"drop", "allow", "reject"}[a] }

// rules are a whole file.
type rules struct {
	list     []rule
	standard action
}

// maxRules bounds a file; every packet may meet all of them.
const maxRules = 4096

// parseRules reads rules. All that is wrong is reported, with place and line.
func parseRules(r io.Reader, name string) (*rules, error) {
	var errs []error
	set := &rules{standard: actionDrop}
	scanner := bufio.NewScanner(r)
	standardAt := 0
	for line := 1; scanner.Scan(); line++ {
		text, _, _ := strings.Cut(scanner.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		place := fmt.Sprintf("%s:%d", name, line)
		fail := func(err error) { errs = append(errs, fmt.Errorf("%s: %w", place, err)) }
		if words[0] == "default" {
			a, err := parseAction(strings.Join(words[1:], " "))
			switch {
			case err != nil:
				fail(err)
			case standardAt != 0:
				fail(fmt.Errorf("there is a default in line %d already", standardAt))
			default:
				set.standard, standardAt = a, line
			}
			continue
		}
		one, err := parseRule(words)
		if err != nil {
			fail(err)
			continue
		}
		one.place, one.text = place, strings.Join(words, " ")
		set.list = append(set.list, one)
		if len(set.list) > maxRules {
			fail(fmt.Errorf("more than %d rules", maxRules))
			break
		}
	}
	if err := scanner.Err(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return set, nil
}

func parseAction(word string) (action, error) {
	for _, a := range []action{actionAllow, actionDrop, actionReject} {
		if word == a.String() {
			return a, nil
		}
	}
	return 0, fmt.Errorf("%q: the action is allow, drop or reject", word)
}

// parseRule reads the words of one rule: an action, and what it is for in any order.
func parseRule(words []string) (r rule, err error) {
	r.protocol, r.icmp, r.vlan = -1, -1, -1
	if r.action, err = parseAction(words[0]); err != nil {
		return r, err
	}
	for words = words[1:]; len(words) > 0; {
		word := words[0]
		words = words[1:]
		if word == "keep" {
			r.keep = true
			continue
		}
		if known, err := r.parseProtocol(word); known {
			if err != nil {
				return r, err
			}
			continue
		}
		if !slices.Contains(keys(), word) {
			return r, fmt.Errorf("%q: expected a protocol (ip, ip6, arp, tcp, udp, sctp, icmp, icmp6, esp or a number), %s or keep", word, strings.Join(keys(), ", "))
		}
		if len(words) == 0 {
			return r, fmt.Errorf("%s: of what? a value is missing", word)
		}
		if err := r.parseField(word, words[0]); err != nil {
			return r, fmt.Errorf("%s %s: %w", word, words[0], err)
		}
		words = words[1:]
	}
	return r, r.check()
}

func keys() []string {
	return []string{"from", "to", "sport", "dport", "flags", "type", "port", "vlan"}
}

// parseProtocol reads a protocol. It reports whether the word is one.
func (r *rule) parseProtocol(word string) (known bool, err error) {
	protocol, version, ether := -1, uint8(0), uint16(0)
	switch word {
	case "ip":
		version = 4
	case "ip6":
		version = 6
	case "arp":
		ether = nf.TypeARP
	case "tcp":
		protocol = nf.ProtocolTCP
	case "udp":
		protocol = nf.ProtocolUDP
	case "sctp":
		protocol = nf.ProtocolSCTP
	case "esp":
		protocol = nf.ProtocolESP
	case "icmp":
		protocol, version = nf.ProtocolICMP, 4
	case "icmp6":
		protocol, version = nf.ProtocolICMPv6, 6
	default:
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil {
			return false, nil
		}
		protocol = int(n)
	}
	if protocol >= 0 && r.protocol >= 0 {
		return true, fmt.Errorf("%s: there is a protocol already", word)
	}
	if protocol >= 0 {
		r.protocol = protocol
	}
	r.ether = ether
	return true, r.setVersion(version)
}

func (r *rule) setVersion(v uint8) error {
	if v != 0 && r.version != 0 && v != r.version {
		return fmt.Errorf("IPv4 and IPv6 in one rule: no packet is both")
	}
	if v != 0 {
		r.version = v
	}
	return nil
}

func (r *rule) parseField(key, value string) (err error) {
	switch key {
	case "from", "to":
		p := &r.src
		if key == "to" {
			p = &r.dst
		}
		if p.IsValid() {
			return fmt.Errorf("there is one already")
		}
		if value == "any" {
			return nil
		}
		if *p, err = parsePrefix(value); err != nil {
			return err
		}
		version := uint8(6)
		if p.Addr().Is4() {
			version = 4
		}
		return r.setVersion(version)
	case "sport":
		r.sport, err = parsePorts(r.sport, value)
	case "dport":
		r.dport, err = parsePorts(r.dport, value)
	case "flags":
		return r.parseFlags(value)
	case "type":
		n, nerr := strconv.ParseUint(value, 10, 8)
		if nerr != nil {
			return fmt.Errorf("a number from 0 to 255")
		}
		r.icmp = int(n)
	case "port":
		r.port, err = parsePort(value)
	case "vlan":
		n, nerr := strconv.ParseUint(value, 10, 12)
		if nerr != nil {
			return fmt.Errorf("a number from 0, for none, to 4095")
		}
		r.vlan = int(n)
	}
	return err
}

// parsePrefix reads a network or an address. One with bits beyond its length is probably a
// mistake.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("no address or network, such as 10.0.0.0/8")
	}
	if p != p.Masked() {
		return p, fmt.Errorf("has bits beyond its length; did you mean %s or %s?", p.Masked(), p.Addr())
	}
	return p, nil
}

func parsePorts(list []portRange, text string) ([]portRange, error) {
	if list != nil {
		return nil, fmt.Errorf("there are some already; write them with commas")
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if err != nil || err2 != nil || a > b {
			return nil, fmt.Errorf("%q is no port or range, such as 80 or 8000-8100", part)
		}
		list = append(list, portRange{uint16(a), uint16(b)})
	}
	return list, nil
}

func (r *rule) parseFlags(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		name, unset := strings.CutPrefix(part, "!")
		bit := map[string]uint8{"fin": tcpFIN, "syn": tcpSYN, "rst": tcpRST, "psh": tcpPSH, "ack": tcpACK, "urg": tcpURG}[name]
		switch {
		case bit == 0:
			return fmt.Errorf("%q: TCP's flags are fin, syn, rst, psh, ack and urg, with ! for not set", part)
		case unset:
			r.not |= bit
		default:
			r.set |= bit
		}
	}
	return nil
}

// check refuses rules that no packet matches.
func (r *rule) check() error {
	ports := r.sport != nil || r.dport != nil
	switch {
	case r.ether != 0 && (r.version != 0 || r.protocol >= 0 || ports):
		return fmt.Errorf("arp: such packets have no IP header")
	case ports && r.protocol != nf.ProtocolTCP && r.protocol != nf.ProtocolUDP && r.protocol != nf.ProtocolSCTP:
		return fmt.Errorf("ports: of tcp, udp or sctp?")
	case r.set|r.not != 0 && r.protocol != nf.ProtocolTCP:
		return fmt.Errorf("flags: only tcp has them")
	case r.set&r.not != 0:
		return fmt.Errorf("flags: one is to be set and not set")
	case r.icmp >= 0 && r.protocol != nf.ProtocolICMP && r.protocol != nf.ProtocolICMPv6:
		return fmt.Errorf("type: of icmp or icmp6?")
	case r.keep && r.action != actionAllow:
		return fmt.Errorf("keep: only what is allowed has answers")
	case r.action == actionReject && r.ether != 0:
		return fmt.Errorf("reject: only IP can be told; drop it")
	}
	return nil
}

// A subject is what rules look at of a packet.
type subject struct {
	headers nf.Headers
	frame   []byte
	port    int
	flow    nf.Flow
}

func (r *rule) matches(s *subject) bool {
	h := &s.headers
	switch {
	case r.port != 0 && r.port != s.port, r.vlan >= 0 && r.vlan != int(h.VLAN):
		return false
	case r.ether != 0:
		return h.Type == r.ether
	case h.Version == 0: // a rule that does not say arp is about IP
		return false
	case r.version != 0 && r.version != h.Version, r.protocol >= 0 && r.protocol != int(h.Protocol):
		return false
	case r.src.IsValid() && !r.src.Contains(s.flow.Source()), r.dst.IsValid() && !r.dst.Contains(s.flow.Destination()):
		return false
	}
	if r.sport == nil && r.dport == nil && r.set|r.not == 0 && r.icmp < 0 {
		return true
	}
	if h.Payload == 0 { // a later fragment
		return false
	}
	t := s.frame[h.Transport:]
	return (r.sport == nil || within(r.sport, s.flow.SrcPort)) && (r.dport == nil || within(r.dport, s.flow.DstPort)) &&
		(r.set|r.not == 0 || t[13]&r.set == r.set && t[13]&r.not == 0) && (r.icmp < 0 || int(t[0]) == r.icmp)
}

func within(list []portRange, port uint16) bool {
	for _, r := range list {
		if r.from <= port && port <= r.to {
			return true
		}
	}
	return false
}
