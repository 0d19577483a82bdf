package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
	"weft/link"
	"weft/link/netem"
	"weft/link/wire"
)

// A pair is two hosts with a link between them.
type pair struct {
	hosts  [2]*ns.Net
	engine *wire.Engine  // nil with veth and netem
	netem  *netem.Driver // likewise
	link   link.Shaper
}

func newPair(driver string, record io.Writer, options ...string) (*pair, error) {
	p := &pair{}
	var ends [2]link.End
	for i := range p.hosts {
		n, err := ns.New(func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(lo)
		})
		if err != nil {
			return nil, err
		}
		p.hosts[i] = n
		ends[i] = link.End{Net: n, Device: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}}
	}
	c := link.Config{A: ends[0], B: ends[1], Name: "link", Record: record}
	if err := c.Settings.Set(options...); err != nil {
		return nil, err
	}
	var err error
	switch driver {
	case "veth":
		h, err := netlink.NewHandle()
		if err != nil {
			return nil, err
		}
		defer h.Close()
		if err := link.Veth(h, ends[0], ends[1], 0, 1500); err != nil {
			return nil, err
		}
	case "netem":
		home, err := ns.Current()
		if err != nil {
			return nil, err
		}
		defer home.Close()
		if p.netem, err = netem.New(home, 1<<20); err != nil {
			return nil, err
		}
		if p.link, err = p.netem.Add(c); err != nil {
			return nil, err
		}
	default:
		if p.engine, err = wire.NewEngine(slog.Default()); err != nil {
			return nil, err
		}
		if p.link, err = p.engine.Add(c); err != nil {
			return nil, err
		}
	}
	for i, n := range p.hosts {
		h, err := n.Handle()
		if err != nil {
			return nil, err
		}
		d, err := h.LinkByName("eth0")
		if err != nil {
			return nil, err
		}
		a, err := netlink.ParseAddr(fmt.Sprintf("10.0.0.%d/24", i+1))
		if err != nil {
			return nil, err
		}
		if err := h.AddrAdd(d, a); err != nil {
			return nil, err
		}
		if err := h.LinkSetUp(d); err != nil {
			return nil, err
		}
		// No frame that nobody sent: neighbours are known.
		peer := &netlink.Neigh{LinkIndex: d.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(10, 0, 0, byte(2-i)), HardwareAddr: ends[1-i].MAC}
		if err := h.NeighSet(peer); err != nil {
			return nil, err
		}
		h.Close()
	}
	return p, nil
}

func (p *pair) close() {
	if p.engine != nil {
		p.engine.Close()
	}
	if p.netem != nil {
		p.link.Close()
		p.netem.Close()
	}
	for _, n := range p.hosts {
		n.Close()
	}
}

// A load is this program running in a host.
type load struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// loadCommand makes this program a load.
const loadCommand = "load"

// start runs a load in a host, and waits until it is ready if it receives.
func (p *pair) start(ctx context.Context, host int, args ...string) (*load, error) {
	l := &load{cmd: exec.CommandContext(ctx, "/proc/self/exe", append([]string{loadCommand}, args...)...)}
	l.cmd.Stdout = &l.out
	stderr, err := l.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.hosts[host].Do(l.cmd.Start); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(stderr)
	if args[0] == "tcp-sink" || args[0] == "udp-sink" {
		if _, err := lines.ReadString('\n'); err != nil {
			return nil, fmt.Errorf("%v: %w", args, err)
		}
	}
	go lines.WriteTo(os.Stderr)
	return l, nil
}

// result waits for the end of a load.
func (l *load) result(v any) error {
	if err := l.cmd.Wait(); err != nil {
		return fmt.Errorf("%v: %w", l.cmd.Args, err)
	}
	return json.Unmarshal(l.out.Bytes(), v)
}

// stop ends a load whose report is not wanted.
func (l *load) stop() {
	l.cmd.Process.Kill()
	l.cmd.Wait()
}

// cpu returns the processor time of this process so far.
func cpu() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// received returns how many frames the second host's device has received.
func (p *pair) received() uint64 {
	h, err := p.hosts[1].Handle()
	if err != nil {
		return 0
	}
	defer h.Close()
	d, err := h.LinkByName("eth0")
	if err != nil {
		return 0
	}
	return d.Attrs().Statistics.RxPackets
}

// busyInterval is how often a link is asked whether it has frames to carry.
const busyInterval = 5 * time.Millisecond

// busy returns the share of times, from skip on until stop is closed, at which frames waited for
// the link's rate.
func (p *pair) busy(skip time.Duration, stop chan struct{}) float64 {
	asked, waiting := 0, 0
	for at := time.After(skip); ; at = time.After(busyInterval) {
		select {
		case <-stop:
			return float64(waiting) / float64(max(1, asked))
		case <-at:
		}
		if p.link == nil {
			continue
		}
		if c, err := p.link.Counters(); err == nil {
			asked++
			if c[0].Queued > 0 {
				waiting++
			}
		}
	}
}
