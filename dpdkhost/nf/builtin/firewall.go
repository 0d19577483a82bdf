package builtin

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const firewallText = `
The first rule that matches a packet decides. A file has a rule in each line:

  # comment
  default drop
  allow tcp to 10.0.0.2 dport 80,443,8000-8100 keep
  reject udp from 10.1.0.0/16
  drop tcp flags syn,!ack port 2
  allow icmp type 8 keep
  allow icmp6
  drop arp vlan 7

A rule is allow, drop or reject (TCP is reset, others get an ICMP message), then any of: a
protocol (ip, ip6, arp, tcp, udp, sctp, icmp, icmp6, esp or a number), from and to a network or
address, sport, dport, flags, type (of ICMP), port (by which the packet came in), vlan, and
keep: answers to what was allowed pass, as long as the flow lives. A rule with ports, flags or
a type matches no later fragment. The default is drop. What is not IP passes unless a rule names
it: ARP works. Neighbour discovery of IPv6 is icmp6: allow it.

The commands "rules" and "reload" list the rules with what they matched, and read the file
again; a file that is wrong changes nothing.`

type firewall struct {
	clock
	file    string
	inline  []string
	rules   *rules
	kept    *table[nf.Flow, struct{}]
	idle    time.Duration
	sweep   time.Time
	counts  [3]uint64 // by action
	matched uint64    // by the default
	answers uint64    // by keep
	full    uint64
	replies replies
}

func defineFirewall(flags *pflag.FlagSet) func() (nf.Function, error) {
	file := flags.String("rules", "", "the `file` of rules")
	inline := flags.StringArray("rule", nil, "a `rule`, before those of the file; again for more")
	limit := flags.Int("flows", 65536, "how many flows keep may remember")
	idle := flags.Duration("idle", 5*time.Minute, "a kept flow is forgotten after so `long`")
	return func() (nf.Function, error) {
		if *file == "" && len(*inline) == 0 {
			return nil, fmt.Errorf("tell it --rules FILE, or a --rule")
		}
		if *limit < 1 || *limit > 1<<22 {
			return nil, fmt.Errorf("--flows %d: from 1 to %d", *limit, 1<<22)
		}
		if *idle <= 0 {
			return nil, fmt.Errorf("--idle %v: longer than nothing", *idle)
		}
		f := &firewall{file: *file, inline: *inline, kept: newTable[nf.Flow, struct{}](*limit), idle: *idle}
		var err error
		f.rules, err = f.read()
		return f, err
	}
}

// read reads all rules.
func (f *firewall) read() (*rules, error) {
	set, err := parseRules(strings.NewReader(strings.Join(f.inline, "\n")), "--rule")
	if err != nil || f.file == "" {
		return set, err
	}
	r, err := os.Open(f.file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	more, err := parseRules(r, f.file)
	if err != nil {
		return nil, err
	}
	more.list = append(set.list, more.list...)
	return more, nil
}

func (f *firewall) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		s := subject{frame: p.Data(), port: p.Port()}
		s.headers = nf.ParseHeaders(s.frame)
		s.flow = s.headers.Flow(s.frame)
		a := f.decide(&s)
		f.counts[a]++
		switch a {
		case actionAllow:
			p.Next()
		case actionReject:
			if !f.replies.refuse(p, &s.headers) {
				p.Drop()
			}
		default:
			p.Drop()
		}
	}
}

func (f *firewall) decide(s *subject) action {
	isIP := s.headers.Version != 0
	if isIP && f.kept.get(s.flow, f.now) != nil {
		f.answers++
		return actionAllow
	}
	for i := range f.rules.list {
		r := &f.rules.list[i]
		if !r.matches(s) {
			continue
		}
		r.packets++
		r.bytes += uint64(len(s.frame))
		if r.keep && isIP {
			f.keep(s.flow)
		}
		return r.action
	}
	if !isIP {
		return actionAllow
	}
	f.matched++
	return f.rules.standard
}

// keep lets the answers of a flow pass.
func (f *firewall) keep(flow nf.Flow) {
	back := flow.Reverse()
	if f.kept.get(back, f.now) == nil && f.kept.add(back, f.now) == nil {
		f.full++
	}
}

// Tick forgets flows that are idle.
func (f *firewall) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	if now.Sub(f.sweep) >= tickEvery {
		f.sweep = now
		f.kept.each(func(flow nf.Flow, _ *struct{}, used time.Time) {
			if now.Sub(used) >= f.idle {
				f.kept.remove(flow)
			}
		})
	}
	f.replies.tick(now)
	return f.clock.Tick(now, send)
}

// Counters shows verdicts, and packets by rule.
func (f *firewall) Counters(emit func(string, uint64)) {
	kept := uint64(f.kept.len())
	show(emit, counter{"allowed", &f.counts[actionAllow]}, counter{"dropped", &f.counts[actionDrop]}, counter{"rejected", &f.counts[actionReject]},
		counter{"default", &f.matched}, counter{"answers", &f.answers}, counter{"flows", &kept}, counter{"flowTableFull", &f.full})
	for i := range f.rules.list {
		emit(fmt.Sprint("rule", i+1), f.rules.list[i].packets)
	}
}

// Command knows "rules" and "reload".
func (f *firewall) Command(words []string) (string, error) {
	if len(words) != 1 {
		return "", noCommand(words, "rules, reload")
	}
	switch words[0] {
	case "rules":
		var out bytes.Buffer
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "packets\tbytes\trule\tplace")
		for i := range f.rules.list {
			r := &f.rules.list[i]
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\n", r.packets, r.bytes, r.text, r.place)
		}
		fmt.Fprintf(w, "%d\t\tdefault %s\t\n", f.matched, f.rules.standard)
		w.Flush()
		return out.String(), nil
	case "reload":
		set, err := f.read()
		if err != nil {
			return "", err
		}
		f.rules = set
		return fmt.Sprintf("%d rules\n", len(set.list)), nil
	}
	return "", noCommand(words, "rules, reload")
}
