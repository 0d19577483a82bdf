package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// featureAdmin is the power over one's own network namespace.
const featureAdmin = "admin"

// A feature is a part of the kernel that Probe tries out.
type feature struct {
	id     string
	module string // empty if it never is a module
	config string
	try    func() error
}

func features() []feature {
	return []feature{
		{"veth", "veth", "CONFIG_VETH", tryVeth},
		{"bridge", "bridge", "CONFIG_BRIDGE", tryBridge},
		{"tun", "tun", "CONFIG_TUN", tryTAP},
		{"netem", "sch_netem", "CONFIG_NET_SCH_NETEM", func() error { return tryQdisc("netem") }},
		{"tbf", "sch_tbf", "CONFIG_NET_SCH_TBF", func() error { return tryQdisc("tbf") }},
		{"ifb", "ifb", "CONFIG_IFB", tryIFB},
		{"afxdp", "", "CONFIG_XDP_SOCKETS", tryAFXDP},
		{"nftables", "nf_tables", "CONFIG_NF_TABLES", tryNftables},
		{"ovs", "openvswitch", "CONFIG_OPENVSWITCH", tryOVS},
	}
}

// Probe tries the features named by ids in the namespaces of the calling process,
// which must be its own, and writes a JSON object: feature to error, empty if it
// works. It is for the process that Examine starts as Options.Probe.
func Probe(ids []string, w io.Writer) error {
	if !slices.Contains(os.Environ(), probeEnv) {
		return errors.New("probe the kernel: only weft doctor starts this, in namespaces of its own")
	}
	outcomes := map[string]string{}
	record := func(id string, err error) {
		outcomes[id] = ""
		if err != nil {
			outcomes[id] = err.Error()
		}
	}
	if slices.Contains(ids, featureAdmin) {
		record(featureAdmin, tryAdmin())
	}
	for _, f := range features() {
		if slices.Contains(ids, f.id) {
			record(f.id, f.try())
		}
	}
	return json.NewEncoder(w).Encode(outcomes)
}

// probeEnv marks the process that runProbe starts.
const probeEnv = "WEFT_DOCTOR_PROBE=1"

// runProbe runs Probe in new namespaces.
func runProbe(ctx context.Context, command []string, newUser bool, ids []string) map[string]trial {
	cmd := exec.CommandContext(ctx, command[0], append(slices.Clone(command[1:]), ids...)...)
	cmd.Env = append(os.Environ(), probeEnv)
	cmd.SysProcAttr = namespaces(newUser)
	cmd.WaitDelay = 100 * time.Millisecond
	out, err := cmd.Output()
	var outcomes map[string]string
	if err == nil {
		err = json.Unmarshal(out, &outcomes)
	}
	trials := map[string]trial{}
	if err != nil {
		trials[featureAdmin] = outcome(err)
		return trials
	}
	for id, e := range outcomes {
		trials[id] = trial{true, e}
	}
	return trials
}

// namespaces are those of a sandbox, as root or, with newUser, as an ordinary user.
func namespaces(newUser bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if newUser {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// tryNamespaces starts a program that does nothing in new namespaces.
func tryNamespaces(ctx context.Context, newUser bool) error {
	cmd := exec.CommandContext(ctx, "/bin/true")
	cmd.SysProcAttr = namespaces(newUser)
	cmd.WaitDelay = 100 * time.Millisecond
	return cmd.Run()
}

// ovsVersion asks ovs-vswitchd for its version; "" if it does not say.
func ovsVersion(ctx context.Context, program string) string {
	if program == "" {
		return ""
	}
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.WaitDelay = 100 * time.Millisecond
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return parseOVSVersion(string(out))
}

// parseOVSVersion takes "ovs-vswitchd (Open vSwitch) 3.1.0\n..." to "3.1.0".
func parseOVSVersion(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	_, version, _ := strings.Cut(line, "(Open vSwitch)")
	return strings.TrimSpace(version)
}

func tryAdmin() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func tryVeth() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe0"
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "probe1"})
}

func tryIFB() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probeifb"
	return netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs})
}

func tryBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probebr"
	return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
}

func tryTAP() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("probetap")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("make a TAP interface: %w", err)
	}
	return nil
}

// tryQdisc puts a queueing discipline on lo and takes it off again.
func tryQdisc(kind string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	attrs := netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	var q netlink.Qdisc = &netlink.Tbf{QdiscAttrs: attrs, Rate: 1e6, Limit: 10_000, Buffer: 1e6}
	if kind == "netem" {
		q = netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{Latency: 1000})
	}
	if err := netlink.QdiscAdd(q); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return errors.New("this kernel has no sch_" + kind)
		}
		return fmt.Errorf("add a %s queue: %w", kind, err)
	}
	return netlink.QdiscDel(q)
}

func tryAFXDP() error {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open an AF_XDP socket: %w", err)
	}
	return unix.Close(fd)
}

// tryNftables asks nf_tables for its generation, the cheapest question it answers.
func tryNftables() error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
		return fmt.Errorf("ask nf_tables: %w", err)
	}
	return nil
}

// tryOVS asks for the generic netlink family of the openvswitch module.
func tryOVS() error {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	if errors.Is(err, unix.ENOENT) {
		return errors.New("this kernel has no openvswitch")
	}
	if err != nil {
		return fmt.Errorf("ask for the openvswitch module: %w", err)
	}
	return nil
}
