package shell

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"weft/network"
)

const option6 = "-6"

func pingOptions() []option {
	return []option{
		{option6, "", "over IPv6"},
		{"--timeout", "SPAN", "wait for each reply (1s)"},
		{"--tries", "N", "how often an echo is tried before it counts as lost (3; 1 if a timeout is given)"},
		{"--count", "N", "echoes per pair (1)"},
	}
}

func iperfOptions() []option {
	return []option{
		{option6, "", "over IPv6"},
		{"--time", "SPAN", "how long to measure (5s)"},
	}
}

// pingRequest takes what the options say.
func (c *call) pingRequest() (network.PingRequest, error) {
	r := network.PingRequest{IPv6: c.opts[option6] != ""}
	var errs [3]error
	if v, ok := c.opts["--timeout"]; ok {
		r.Timeout, errs[0] = parseSpan(v)
		r.Tries = 1
	}
	if v, ok := c.opts["--tries"]; ok {
		r.Tries, errs[1] = parseCount(v)
	}
	if v, ok := c.opts["--count"]; ok {
		r.Count, errs[2] = parseCount(v)
	}
	return r, errors.Join(errs[:]...)
}

func runPing(ctx context.Context, c *call) error {
	if len(c.args) != 2 || c.args[0] == c.args[1] {
		return c.misuse("usage: ping host1 host2")
	}
	r, err := c.pingRequest()
	if err != nil {
		return err
	}
	hosts, err := c.hosts(ctx, c.args)
	if err != nil {
		return err
	}
	r.Pairs = [][2]string{{hosts[0], hosts[1]}}
	return c.ping(ctx, r, hosts, true)
}

// runPingMatrix returns the run function of pingall and its three relatives.
func runPingMatrix(pair, full bool) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if len(c.args) > 0 && isNumber(c.args[0]) {
			if _, ok := c.opts["--timeout"]; ok {
				return errors.New("the timeout is given twice")
			}
			c.opts["--timeout"], c.args = c.args[0], c.args[1:]
		}
		r, err := c.pingRequest()
		if err != nil {
			return err
		}
		hosts, err := c.hosts(ctx, c.args)
		if err != nil {
			return err
		}
		switch {
		case pair && len(c.args) > 0:
			return c.misuse("usage: " + c.name)
		case pair && len(hosts) < 2:
			return fmt.Errorf("%s needs two hosts, the network has %d", c.name, len(hosts))
		case pair:
			hosts = hosts[:2]
		case len(c.args) == 0:
			c.announce("*** Ping: testing ping reachability\n")
		}
		if pair || len(c.args) > 0 {
			r.Hosts = hosts
		}
		return c.ping(ctx, r, hosts, full)
	}
}

// ping asks for pings and shows the result; a lost echo is a failure.
func (c *call) ping(ctx context.Context, r network.PingRequest, hosts []string, full bool) error {
	res, err := c.net.Ping(ctx, r)
	if err != nil {
		return err
	}
	c.show(pingView(res, hosts, full))
	if lost := res.Lost(); lost > 0 {
		return shown{fmt.Errorf("%d of %d pings lost", lost, res.Sent)}
	}
	return unsent(res)
}

// unsent returns an error if some pair could not even try.
func unsent(res network.PingResult) error {
	i := slices.IndexFunc(res.Pairs, func(p network.PingPair) bool { return p.Error != "" })
	if i < 0 {
		return nil
	}
	p := res.Pairs[i]
	return shown{fmt.Errorf("%s cannot ping %s: %s", p.Src, p.Dst, p.Error)}
}

// hosts returns all hosts if names is empty, else names if all are hosts.
func (c *call) hosts(ctx context.Context, names []string) ([]string, error) {
	st, err := c.state(ctx)
	if err != nil {
		return nil, err
	}
	all := hostNames(st.Plan)
	if len(names) == 0 {
		return all, nil
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, wantNode(all, "host", n))
	}
	return names, joinMistakes(errs)
}

// joinMistakes joins errors, of which some are mistakes, for both dialects.
func joinMistakes(errs []error) error {
	var mininet, native []string
	for _, err := range errs {
		var m mistake
		switch {
		case errors.As(err, &m):
			mininet, native = append(mininet, m.mininet), append(native, m.native)
		case err != nil:
			return errors.Join(errs...)
		}
	}
	if native == nil {
		return nil
	}
	return mistake{strings.Join(mininet, "\n"), strings.Join(native, "\n")}
}

func runIperf(ctx context.Context, c *call) error {
	if len(c.args) != 0 && len(c.args) != 2 {
		return c.misuse("invalid number of args: iperf src dst")
	}
	return c.iperf(ctx, network.IperfRequest{}, "")
}

func runIperfUDP(ctx context.Context, c *call) error {
	rate, given := c.opts["--rate"]
	if len(c.args) == 1 || len(c.args) == 3 {
		if given {
			return errors.New("the rate is given twice")
		}
		rate, given = c.args[0], true
		c.args = c.args[1:]
	}
	if !given {
		rate = "10M"
	}
	if len(c.args) != 0 && len(c.args) != 2 {
		return c.misuse("invalid number of args: iperfudp bw src dst\nbw examples: 10M")
	}
	bps, err := parseRate(rate)
	if err != nil {
		if len(c.args) == 0 && c.cfg.Dialect == Mininet {
			return c.misuse("invalid number of args: iperfudp bw src dst\nbw examples: 10M")
		}
		return err
	}
	return c.iperf(ctx, network.IperfRequest{UDP: true, Rate: bps}, rate)
}

// iperf measures between the two hosts in c.args, or the first and the last; asked is
// how the user wrote the rate for UDP.
func (c *call) iperf(ctx context.Context, r network.IperfRequest, asked string) error {
	hosts, err := c.hosts(ctx, c.args)
	if err != nil {
		return err
	}
	if len(hosts) < 2 || hosts[0] == hosts[len(hosts)-1] {
		return fmt.Errorf("%s needs two different hosts", c.name)
	}
	r.Client, r.Server = hosts[0], hosts[len(hosts)-1]
	r.IPv6 = c.opts[option6] != ""
	if v, ok := c.opts["--time"]; ok {
		if r.Duration, err = parseSpan(v); err != nil {
			return err
		}
	}
	c.announce("*** Iperf: testing %s bandwidth between %s and %s \n", protocolName(r.UDP), r.Client, r.Server)
	res, err := c.net.Iperf(ctx, r)
	if err != nil {
		return err
	}
	c.show(iperfView(res, asked))
	return nil
}

func protocolName(udp bool) string {
	if udp {
		return "UDP"
	}
	return "TCP"
}

// waitDefault is how long wait waits if nothing else is asked. Mininet has no bound.
const waitDefault = 30 * time.Second

func runWait(ctx context.Context, c *call) error {
	timeout := waitDefault
	if len(c.args) > 1 {
		return c.misuse("usage: wait [seconds]")
	}
	if len(c.args) == 1 {
		var err error
		if timeout, err = parseSpan(c.args[0]); err != nil {
			return err
		}
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	c.announce("*** Waiting for switches to connect\n")
	missing, err := c.net.Wait(ctx, timeout)
	if err != nil {
		return err
	}
	c.show(waitView(switchNames(st.Plan), missing, timeout))
	if len(missing) > 0 {
		return shown{fmt.Errorf("%s is not connected to %s", missing[0].Switch, missing[0].Controller)}
	}
	return nil
}
