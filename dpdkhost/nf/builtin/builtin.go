// Package builtin is the network functions (NFs) that come with weft: All lists them. Each is a
// small file, and an example of how to write one. It may import dpdkhost/nf and topo.
package builtin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
	"weft/topo"
)

// An NF is one that comes with weft.
type NF struct {
	Name    string
	Summary string // one line
	// ReadOnly says that it only looks at packets: it runs with memory that it cannot write.
	ReadOnly bool
	// Wire says that it needs packets as they are on a wire: checksums complete, super-frames
	// cut into segments before they come to it.
	Wire bool
	// Text says more, for people.
	Text string

	// define adds the NF's flags and returns what makes it of their values.
	define func(*pflag.FlagSet) func() (nf.Function, error)
}

// All returns the NFs by name.
func All() []NF {
	return []NF{
		{Name: "arp", Summary: "answers ARP requests and IPv6 neighbour solicitations", Text: arpText, define: defineARP},
		{Name: "balancer", Summary: "spreads the flows to one address over servers", Text: balancerText, define: defineBalancer},
		{Name: "bridge", Summary: "passes packets from one port to another", Text: bridgeText, define: defineBridge},
		{Name: "decrypt", Summary: "decrypts what encrypt encrypted, and drops what is not authentic", Text: decryptText, define: defineDecrypt, Wire: true},
		{Name: "encrypt", Summary: "encrypts what is above IP (ESP with AES-GCM)", Text: encryptText, define: defineEncrypt, Wire: true},
		{Name: "firewall", Summary: "lets packets pass by ordered rules", Text: firewallText, define: defineFirewall},
		{Name: "forward", Summary: "sends packets to a service or a port", Text: forwardText, define: defineForward},
		{Name: "generator", Summary: "sends packets at a rate, and measures those that come back", Text: generatorText, define: defineGenerator},
		{Name: "limiter", Summary: "drops what exceeds a rate, in all or per flow", Text: limiterText, define: defineLimiter, ReadOnly: true, Wire: true},
		{Name: "monitor", Summary: "counts packets by protocol and finds the top talkers", Text: monitorText, define: defineMonitor, ReadOnly: true},
		{Name: "nat", Summary: "hides addresses behind one (source NAT)", Text: natText, define: defineNAT},
		{Name: "pcap", Summary: "writes packets to a capture file", Text: pcapText, define: definePcap, ReadOnly: true},
		{Name: "router", Summary: "routes IPv4 and IPv6 by longest prefix", Text: routerText, define: defineRouter},
		{Name: "scan", Summary: "looks for patterns in payloads, and drops, counts or marks", Text: scanText, define: defineScan},
		{Name: "speed", Summary: "measures how fast packets pass NFs", Text: speedText, define: defineSpeed},
		{Name: "tracker", Summary: "keeps a table of flows and exports those that end", Text: trackerText, define: defineTracker, ReadOnly: true},
	}
}

// Find returns the NF of a name.
func Find(name string) (NF, error) {
	if _, err := topo.FindNFKind(name); err != nil {
		return NF{}, err
	}
	all := All()
	return all[slices.IndexFunc(all, func(f NF) bool { return f.Name == name })], nil
}

// New makes the NF with arguments, as words. It touches nothing but files that these name.
func (f NF) New(args []string) (nf.Function, error) {
	build, err := f.parse(args)
	if err != nil {
		return nil, err
	}
	made, err := build()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return made, nil
}

// Check says what is wrong with arguments as far as that can be known without making the NF: which
// flags there are, and what they take.
func (f NF) Check(args []string) error {
	_, err := f.parse(args)
	return err
}

// parse reads arguments and returns what makes the NF of them.
func (f NF) parse(args []string) (build func() (nf.Function, error), err error) {
	flags := f.flags()
	build = f.define(flags)
	err = flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return nil, fmt.Errorf("%s:\n%s", f.Name, f.Usage())
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: it takes flags only; weft nf help %s lists them", flags.Arg(0), f.Name)
	case err != nil:
		err = fmt.Errorf("%w; weft nf help %s lists what it takes", err, f.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return build, nil
}

func (f NF) flags() *pflag.FlagSet {
	flags := pflag.NewFlagSet(f.Name, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {}
	return flags
}

// Usage returns what a person needs to know to use the NF.
func (f NF) Usage() string {
	flags := f.flags()
	f.define(flags)
	text := f.Name + ": " + f.Summary + "\n\n" + strings.TrimSpace(f.Text) + "\n"
	if flags.HasFlags() {
		text += "\nFlags:\n" + flags.FlagUsages()
	}
	return text
}

// A counter of an NF, by name.
type counter struct {
	name  string
	value *uint64
}

func show(f func(name string, value uint64), list ...counter) {
	for _, c := range list {
		f(c.name, *c.value)
	}
}

// tickEvery is how often NFs look for what has timed out.
const tickEvery = time.Second

// A clock tells an NF the time: that of its last Tick.
type clock struct{ now time.Time }

// Tick sets the clock.
func (c *clock) Tick(now time.Time, _ []nf.Packet) (int, time.Duration) {
	c.now = now
	return 0, tickEvery
}

// noCommand answers a command that an NF does not know.
func noCommand(words []string, known string) error {
	if len(words) == 0 {
		return fmt.Errorf("say what to do: %s", known)
	}
	return fmt.Errorf("unknown command %q: there is %s", words[0], known)
}
