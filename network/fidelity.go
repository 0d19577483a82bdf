package network

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"weft/internal/timing"
	"weft/topo"
)

// A Timing says how well the machine kept its time in an interval.
type Timing = timing.Sample

// WatchTiming calls report for each interval until ctx ends or report returns an error.
func (n *Network) WatchTiming(ctx context.Context, interval time.Duration, report func(Timing) error) error {
	return timing.Watch(ctx, timing.Config{Interval: interval}, report)
}

// A Drop counts frames or datagrams that were lost where none should be: not on a link that
// was asked to lose some, but for want of time or memory.
type Drop struct {
	// Place is an interface, a host, or a part of weft's.
	Place string `json:"place"`
	// Why says what was too small or too slow.
	Why   string `json:"why"`
	Count uint64 `json:"count"`
}

// Drops returns the counters of all places that should not drop, those that are not zero. It
// costs a look into each host.
func (n *Network) Drops(ctx context.Context) ([]Drop, error) {
	n.mu.Lock()
	plan, sw := n.plan, n.ovs
	n.mu.Unlock()
	drops := []Drop{}
	add := func(place, why string, count uint64) {
		if count > 0 {
			drops = append(drops, Drop{place, why, count})
		}
	}
	for _, s := range plan.Switches {
		n.deviceDrops(n.nl, s.Interfaces, add)
	}
	for _, h := range plan.Hosts {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := n.hostDrops(h, add); err != nil {
			return nil, err
		}
	}
	for _, l := range plan.Links {
		if r, runs := n.lookAtLink(l.ID); runs {
			if shaper := r.current(); shaper != nil {
				if c, err := shaper.Counters(); err == nil {
					add("link "+l.A.Node+"-"+l.B.Node, "no memory for the frames under way", c[0].NoMemory+c[1].NoMemory)
				}
			}
		}
	}
	if sw != nil {
		add("Open vSwitch", "its packet sockets were full", sw.SocketDrops())
		add("Open vSwitch", "packets for its slow path were lost", n.lostUpcalls(ctx))
	}
	return drops, nil
}

// hostDrops counts what a host's devices and UDP sockets lost.
func (n *Network) hostDrops(h topo.PlannedHost, add func(place, why string, count uint64)) error {
	n.mu.Lock()
	host := n.hosts[h.Name]
	n.mu.Unlock()
	if host == nil {
		return nil
	}
	nl, err := host.Net().Handle()
	if err != nil {
		return err
	}
	defer nl.Close()
	n.deviceDrops(nl, h.Interfaces, add)
	return host.Net().Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
		receive, send := udpErrors(string(text))
		add("host "+h.Name, "a UDP socket's receive buffer was full", receive)
		add("host "+h.Name, "a UDP socket's send buffer was full", send)
		return nil
	})
}

// deviceDrops counts frames that devices did not send: the queue of the CPU that would have
// received them, or of the TAP device, was full.
func (n *Network) deviceDrops(nl *netlink.Handle, interfaces []topo.Interface, add func(place, why string, count uint64)) {
	links, err := nl.LinkList()
	if err != nil {
		return // the network is going down
	}
	byName := make(map[string]netlink.Link, len(links))
	for _, l := range links {
		byName[l.Attrs().Name] = l
	}
	for _, i := range interfaces {
		if l := byName[i.Device]; l != nil && l.Attrs().Statistics != nil {
			add(i.Name, "the queue to the other end was full", l.Attrs().Statistics.TxDropped)
		}
	}
}

// udpErrors reads RcvbufErrors and SndbufErrors of UDP from /proc/net/snmp.
func udpErrors(text string) (receive, send uint64) {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, v := range f {
			if i >= len(names) {
				break
			}
			count, _ := strconv.ParseUint(v, 10, 64)
			switch names[i] {
			case "RcvbufErrors":
				receive = count
			case "SndbufErrors":
				send = count
			}
		}
		break
	}
	return receive, send
}

// lostUpcalls counts the packets that a datapath could not hand to ovs-vswitchd.
func (n *Network) lostUpcalls(ctx context.Context) (lost uint64) {
	cmd := exec.CommandContext(ctx, "ovs-appctl", "dpctl/show")
	cmd.Env = append(cmd.Environ(), n.programEnv()...)
	out, err := cmd.Output()
	if err != nil {
		return 0
	}
	return parseLost(string(out))
}

// parseLost adds up "lookups: hit:1 missed:2 lost:0" of all datapaths.
func parseLost(text string) (lost uint64) {
	for _, word := range strings.Fields(text) {
		if v, ok := strings.CutPrefix(word, "lost:"); ok {
			n, _ := strconv.ParseUint(v, 10, 64)
			lost += n
		}
	}
	return lost
}
