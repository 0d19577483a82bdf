package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/dpdkhost/port"
	"weft/internal/ns"
	"weft/internal/vnet"
	"weft/link"
)

// A bed is two hosts, 10.0.0.1 and 10.0.0.2, and a node between them with an interface to each.
type bed struct {
	place *ns.Net // of the node
	hosts [2]*ns.Net
	node  [2]string // the node's interfaces; of TAP ports what to make, for the hosts
	log   string    // where the node's program writes to
}

const hostDevice = "eth0"

// newBed makes a bed; without offloads the hosts send frames as on a wire.
func newBed(tap, plain bool) (*bed, error) {
	b := &bed{node: [2]string{"n-eth1", "n-eth2"}}
	var err error
	for _, n := range []**ns.Net{&b.place, &b.hosts[0], &b.hosts[1]} {
		var nerr error
		*n, nerr = ns.New(nil)
		err = errors.Join(err, nerr)
	}
	if err != nil || tap {
		return b, err
	}
	keep := vnet.Expressible
	if plain {
		keep = port.Plain
	}
	for i, host := range b.hosts {
		err = errors.Join(err, b.place.Do(func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.Flags = b.node[i], unix.IFF_UP
			attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
			v := netlink.NewVeth(attrs)
			v.PeerName, v.PeerNamespace = hostDevice, netlink.NsFd(host.FD())
			if err := netlink.LinkAdd(v); err != nil {
				return err
			}
			if plain {
				return link.KeepFeatures(b.node[i], keep)
			}
			return nil
		}), host.Do(func() error {
			if err := link.KeepFeatures(hostDevice, keep); err != nil || !plain {
				return err
			}
			return link.Gather(hostDevice) // as networks do
		}))
	}
	return b, err
}

func (b *bed) close() {
	for _, n := range append(b.hosts[:], b.place) {
		if n != nil {
			n.Close()
		}
	}
}

// logged waits until the node's program has written a text.
func (b *bed) logged(ctx context.Context, what string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(b.log)
		switch {
		case err != nil || bytes.Contains(text, []byte(what)):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("the program does not start:\n%s", text)
		}
	}
}

// configure gives the hosts their interfaces, addresses and each other's MAC.
func (b *bed) configure() error {
	var err error
	for i, host := range b.hosts {
		err = errors.Join(err, b.place.Do(func() error {
			l, err := netlink.LinkByName(b.node[i])
			if err != nil || l.Type() != "tuntap" {
				return err
			}
			return errors.Join(netlink.LinkSetName(l, hostDevice), netlink.LinkSetNsFd(l, host.FD()))
		}), host.Do(func() error {
			l, err := netlink.LinkByName(hostDevice)
			if err != nil {
				return err
			}
			address, err := netlink.ParseAddr(fmt.Sprintf("10.0.0.%d/24", i+1))
			if err != nil {
				return err
			}
			return errors.Join(
				netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}),
				netlink.AddrAdd(l, address), netlink.LinkSetUp(l),
				netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
					IP: net.IPv4(10, 0, 0, byte(2-i)), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, byte(2 - i)}}),
			)
		}))
	}
	return err
}

// reach waits until the hosts reach each other.
func (b *bed) reach(ctx context.Context) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := b.hosts[0].Do(func() error { return exec.CommandContext(ctx, "ping", "-c1", "-W1", "10.0.0.2").Run() })
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			text, _ := os.ReadFile(b.log)
			return fmt.Errorf("the hosts do not reach each other: %w\n%s", err, text)
		}
	}
}

var pingTimes = regexp.MustCompile(`time=([0-9.]+) ms`)

// ping returns the median of the round trips, seconds, of one every 2 ms.
func (b *bed) ping(ctx context.Context, length time.Duration) (float64, error) {
	var out []byte
	err := b.hosts[0].Do(func() (err error) {
		out, err = exec.CommandContext(ctx, "ping", "-i", "0.002", "-c", fmt.Sprint(int(length/(2*time.Millisecond))), "10.0.0.2").Output()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ping: %w\n%s", err, out)
	}
	var times []float64
	for _, m := range pingTimes.FindAllSubmatch(out, -1) {
		t, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, err
		}
		times = append(times, t/1e3)
	}
	if len(times) == 0 {
		return 0, fmt.Errorf("ping: %s", out)
	}
	return median(times), nil
}

// tcp returns the bits per second of one stream, by threads that block, as iperf's do.
func (b *bed) tcp(length time.Duration) (float64, error) {
	var listener, from, to int
	address := &unix.SockaddrInet4{Port: 5001, Addr: [4]byte{10, 0, 0, 2}}
	err := errors.Join(b.hosts[1].Do(func() (err error) {
		if listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(listener, address), unix.Listen(listener, 1))
	}), b.hosts[0].Do(func() (err error) {
		if from, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Connect(from, address)
	}))
	if err != nil {
		return 0, err
	}
	defer unix.Close(listener)
	if to, _, err = unix.Accept(listener); err != nil {
		return 0, err
	}
	defer unix.Close(to)
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer unix.Close(from)
		buffer := make([]byte, 128<<10)
		for end := time.Now().Add(length + length/4); time.Now().Before(end); {
			if _, err := unix.Write(from, buffer); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	buffer := make([]byte, 256<<10)
	begin := time.Now()
	var start time.Time
	total := 0
	for {
		n, err := unix.Read(to, buffer)
		if err != nil {
			return 0, err
		}
		now := time.Now()
		if start.IsZero() && now.Sub(begin) > length/4 { // it has found its speed
			start, total = now, 0
		}
		total += n
		if n == 0 {
			break
		}
		if !start.IsZero() && now.Sub(start) >= length {
			break
		}
	}
	rate := float64(total) * 8 / time.Since(start).Seconds()
	unix.Shutdown(to, unix.SHUT_RDWR)
	<-ended
	return rate, nil
}

// flood sends UDP packets of 64 bytes, with frame check sequence, as fast as it can, and returns how
// many arrive in a second. They are for another MAC: the host drops them at once.
func (b *bed) flood(length time.Duration) (float64, error) {
	const segments, payload = 64, 18 // the kernel makes so many packets of what one system call sends
	var fd int
	err := b.hosts[0].Do(func() error {
		l, err := netlink.LinkByName(hostDevice)
		if err != nil {
			return err
		}
		if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: net.IPv4(10, 0, 0, 9), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}); err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, payload),
			unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{10, 0, 0, 9}}))
	})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	data := make([]byte, segments*payload)
	if _, err := unix.Write(fd, data); err != nil {
		return 0, fmt.Errorf("UDP segments: %w", err)
	}
	arrived := func() (n uint64, err error) {
		err = b.hosts[1].Do(func() error {
			l, err := netlink.LinkByName(hostDevice)
			if err == nil {
				n = l.Attrs().Statistics.RxPackets
			}
			return err
		})
		return n, err
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.Write(fd, data)
		}
	}()
	defer func() { close(stop); <-ended }()
	time.Sleep(length / 4)
	before, err := arrived()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	time.Sleep(length)
	after, err := arrived()
	return float64(after-before) / time.Since(start).Seconds(), err
}
