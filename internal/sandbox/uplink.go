package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// UplinkDevice is the interface of an uplink in the namespace that it joins.
const UplinkDevice = "uplink0"

// uplinkRange is where uplinks take their addresses: RFC 2544's block for tests of network
// devices, which no ordinary network uses.
var uplinkRange = netip.MustParsePrefix("198.18.0.0/15")

// An Uplink joins a network namespace to the user's own network: by a veth pair and
// nftables (root), or by slirp4netns or pasta in user space.
type Uplink struct {
	// DNS is a name server that answers through the uplink; invalid if the user's
	// own do.
	DNS  netip.Addr
	life io.Closer
}

// Close takes the uplink down.
func (u *Uplink) Close() error { return u.life.Close() }

// Uplink joins the network namespace with descriptor fd to the user's network, whose routes
// must not overlap inside.
func (b *Broker) Uplink(ctx context.Context, fd int, inside netip.Prefix) (*Uplink, error) {
	r, err := b.do(ctx, request{Op: opUplink, Addr: inside.String(), FD: fd})
	if err != nil {
		return nil, err
	}
	defer r.fd.Close()
	if err := awaitDefaultRoute(ctx, fd, r.fd); err != nil {
		return nil, err
	}
	life, err := net.FileConn(r.fd)
	if err != nil {
		return nil, err
	}
	go io.Copy(io.Discard, life)     // what the program says must not stop it
	dns, _ := netip.ParseAddr(r.DNS) // empty: none
	return &Uplink{DNS: dns, life: life}, nil
}

// uplink is the keeper's part of Uplink: it returns a descriptor whose end, when the other
// side closes it, takes the uplink down.
func (s *server) uplink(ctx context.Context, q request) (f *os.File, r reply, err error) {
	if q.lent == nil {
		return nil, r, errors.New("no network namespace was lent")
	}
	inside, err := netip.ParsePrefix(q.Addr)
	if err != nil {
		return nil, r, err
	}
	if err := checkOverlap(inside); err != nil {
		return nil, r, err
	}
	if s.rootless {
		return s.slirp(q)
	}
	return s.masquerade(ctx, q.lent)
}

// checkOverlap refuses an inside network that the user's own routes lead to.
func checkOverlap(inside netip.Prefix) error {
	used, err := routes()
	if err != nil {
		return err
	}
	for _, p := range used {
		if p.Overlaps(inside) {
			return fmt.Errorf("the network's %s overlaps %s, which this machine has a route to: choose another --ipbase", inside, p)
		}
	}
	return nil
}

// routes lists the destinations, but the default, of the machine's routes.
func routes() ([]netip.Prefix, error) {
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("routes of this machine: %w", err)
	}
	var used []netip.Prefix
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		if ok && bits > 0 {
			used = append(used, netip.PrefixFrom(ip, bits))
		}
	}
	return used, nil
}

// masquerade makes an uplink with the kernel's means:
//
//	inside namespace: uplink0 ──veth── weft-HASH ─► forwarding, nftables ─► user's network
//
// The nftables table is owned by an nft process (nft(8), "flags owner") that lives as long
// as its input, the keeper's pipe: the kernel removes the table. The veth pair goes with
// the inside namespace. What forwarding must be set back to is in the state directory.
func (s *server) masquerade(ctx context.Context, inside *os.File) (f *os.File, r reply, err error) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return nil, r, errors.New("NAT needs nft: sudo apt-get install nftables")
	}
	// One network at a time: addresses and what forwarding was are shared.
	unlock, err := lockBase(s.state)
	if err != nil {
		return nil, r, err
	}
	defer unlock()
	subnet, err := freeSubnet()
	if err != nil {
		return nil, r, err
	}
	device := deviceName(s.state.name)
	if err := joinNamespace(inside, device, subnet); err != nil {
		return nil, r, err
	}
	undo := func() { deleteDevice(device) }
	defer func() {
		if err != nil {
			undo()
		}
	}()
	if err := s.state.forward(device); err != nil {
		return nil, r, err
	}
	rules := fmt.Sprintf(`add table inet %[1]s { flags owner ; }
add chain inet %[1]s post { type nat hook postrouting priority srcnat ; }
add rule inet %[1]s post ip saddr %[2]s oifname != "%[3]s" masquerade
`, device, subnet.Masked(), device)
	stop, err := ownTable(ctx, nft, device, rules)
	if err != nil {
		return nil, r, err
	}
	theirs, ours, err := streamPair()
	if err != nil {
		stop()
		return nil, r, err
	}
	s.wg.Go(func() {
		s.awaitClose(ours)
		stop()
		undo()
	})
	return theirs, r, nil
}

// awaitClose waits until the other end of f is closed or the sandbox has ended, and
// closes f.
func (s *server) awaitClose(f *os.File) {
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return
	}
	stop := context.AfterFunc(s.ctx, func() { conn.Close() })
	defer stop()
	io.Copy(io.Discard, conn)
	conn.Close()
}

// deviceName is the outside device of a network's uplink: at most 15 bytes.
func deviceName(network string) string {
	return fmt.Sprintf("weft-%x", sha256.Sum256([]byte(network)))[:13]
}

// freeSubnet returns the outside address of a /30 that the machine has no route to; the
// inside address is the next.
func freeSubnet() (netip.Prefix, error) {
	used, err := routes()
	if err != nil {
		return netip.Prefix{}, err
	}
next:
	for a := uplinkRange.Addr(); uplinkRange.Contains(a); {
		p := netip.PrefixFrom(a, 30)
		for range 4 {
			a = a.Next()
		}
		for _, u := range used {
			if u.Overlaps(p) {
				continue next
			}
		}
		return netip.PrefixFrom(p.Addr().Next(), 30), nil
	}
	return netip.Prefix{}, fmt.Errorf("no free subnet for an uplink in %s", uplinkRange)
}

// joinNamespace makes the veth pair and configures both ends. outside is the address of
// device; the inside has the next one, and its default route to outside.
func joinNamespace(inside *os.File, device string, outside netip.Prefix) error {
	deleteDevice(device) // of a network of this name that was killed
	attrs := netlink.NewLinkAttrs()
	attrs.Name = device
	v := netlink.NewVeth(attrs)
	v.PeerName = UplinkDevice
	v.PeerNamespace = netlink.NsFd(inside.Fd())
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("uplink: make veth pair: %w", err)
	}
	in, err := netlink.NewHandleAt(netns.NsHandle(inside.Fd()))
	if err != nil {
		return err
	}
	defer in.Close()
	out := &netlink.Handle{} // this namespace
	for _, e := range []struct {
		h      *netlink.Handle
		device string
		addr   netip.Prefix
	}{{out, device, outside}, {in, UplinkDevice, netip.PrefixFrom(outside.Addr().Next(), outside.Bits())}} {
		dev, err := e.h.LinkByName(e.device)
		if err != nil {
			return fmt.Errorf("uplink: %w", err)
		}
		addr, err := netlink.ParseAddr(e.addr.String())
		if err != nil {
			return err
		}
		// As on all links of weft: no frame that nobody sent.
		if err := e.h.LinkSetIP6AddrGenMode(dev, 1); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return fmt.Errorf("uplink: %s: %w", e.device, err)
		}
		if err := e.h.AddrAdd(dev, addr); err != nil {
			return fmt.Errorf("uplink: address of %s: %w", e.device, err)
		}
		if err := e.h.LinkSetUp(dev); err != nil {
			return fmt.Errorf("uplink: %s up: %w", e.device, err)
		}
	}
	if err := in.RouteReplace(&netlink.Route{Gw: outside.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("uplink: default route: %w", err)
	}
	return nil
}

func deleteDevice(name string) {
	if dev, err := netlink.LinkByName(name); err == nil {
		netlink.LinkDel(dev)
	}
}

// ownTable has an nft process load rules and hold its table until stop is called or this
// process ends.
func ownTable(ctx context.Context, nft, table, rules string) (stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := exec.Command(nft, "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("nft: %w", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop = func() {
		w.Close()
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	}
	w.WriteString(rules)
	for range 200 {
		out, err := exec.CommandContext(ctx, nft, "list", "table", "inet", table).CombinedOutput()
		if err == nil && strings.Contains(string(out), "masquerade") {
			return stop, nil
		}
		select {
		case <-ctx.Done():
			stop()
			return nil, ctx.Err()
		case <-ended:
			return nil, fmt.Errorf("nft refused the rules of the uplink: %s", strings.TrimSpace(said.String()))
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	return nil, fmt.Errorf("nft has not loaded the rules of the uplink: %s", strings.TrimSpace(said.String()))
}

// slirp makes an uplink in user space, for an ordinary user.
func (s *server) slirp(q request) (f *os.File, r reply, err error) {
	// The program opens the namespace by a path, in its own time, and pasta only after it
	// has joined the user namespace: by a path of a process in there.
	engine, err := s.enginePID()
	if err != nil {
		return nil, r, err
	}
	target := fmt.Sprintf("/proc/%d/fd/%d", engine, q.FD)
	users := fmt.Sprintf("/proc/%d/ns/user", s.initPID)
	subnet := netip.PrefixFrom(uplinkRange.Addr(), 24)
	var argv []string
	if path, err := exec.LookPath("slirp4netns"); err == nil {
		argv = []string{path, "--configure", "--mtu=65520", "--disable-host-loopback", "--cidr=" + subnet.String(),
			"--userns-path=" + users, "--netns-type=path", target, UplinkDevice}
		r.DNS = subnet.Addr().Next().Next().Next().String() // slirp4netns(1): .3 of the network
	} else if path, err := exec.LookPath("pasta"); err == nil {
		argv = []string{path, "--foreground", "--config-net", "--ns-ifname", UplinkDevice, "--no-map-gw",
			"--userns", users, "--netns", target}
	} else {
		return nil, r, errors.New("NAT without root needs slirp4netns or pasta: sudo apt-get install slirp4netns")
	}
	// Both programs need it, and say so badly.
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return nil, r, fmt.Errorf("NAT without root needs TUN/TAP: %w: sudo chmod 666 /dev/net/tun", err)
	}
	tun.Close()
	f, r.PID, err = s.run(argv)
	return f, r, err
}

// enginePID returns the engine's process ID as the keeper sees it. Init has other children
// too: orphans that it reaps.
func (s *server) enginePID() (int, error) {
	for _, pid := range children(strconv.Itoa(s.initPID)) {
		argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.HasPrefix(argv, []byte(engineName+"\x00")) {
			return pid, nil
		}
	}
	return 0, errors.New("the engine is gone")
}

// awaitDefaultRoute waits until the uplink of the namespace with descriptor fd leads
// somewhere; output tells if the program that makes it has ended.
func awaitDefaultRoute(ctx context.Context, fd int, output *os.File) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(fd))
	if err != nil {
		return err
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var said []byte
	for {
		if dev, err := h.LinkByName(UplinkDevice); err == nil {
			routes, _ := h.RouteList(dev, netlink.FAMILY_V4)
			for _, r := range routes {
				if r.Gw != nil {
					return nil
				}
			}
		}
		buf := make([]byte, 4096)
		n, _, err := unix.Recvfrom(int(output.Fd()), buf, unix.MSG_DONTWAIT)
		said = append(said, buf[:max(n, 0)]...)
		if n == 0 && err == nil {
			return fmt.Errorf("the uplink's program has ended: %s", line(said))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the uplink has no default route after 10 s: %s", line(said))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// line makes one line of what a program said.
func line(said []byte) string {
	return strings.ReplaceAll(strings.TrimSpace(string(said)), "\n", "; ")
}
