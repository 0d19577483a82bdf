package netfile

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"weft/topo"
)

// A Python file of Mininet's is run by the user's python3, with a package mininet that only
// notes what is made. That process can write no file (Landlock), and is bounded in time,
// memory and what it says.
//
//	python3 ── mininet.py ── runs FILE ──► recording (JSON, file descriptor 3) ──► topo.Spec

//go:embed mininet.py
var standIn string

// Bounds of a Python file.
const (
	pythonTime   = 20 * time.Second
	pythonMemory = 2 << 30
	pythonOutput = 64 << 20 // of the recording
	pythonSays   = 4 << 10  // of what it prints
)

// A recording is what the stand-in notes.
type recording struct {
	Nodes []struct {
		Kind   string
		Name   string
		Line   int
		Params map[string]any
		Cmds   [][2]any // command, line
		// What the class says.
		Driver, Controller, Cls string
		NAT                     bool
	}
	Links []struct {
		A, B   string
		Line   int
		Params map[string]any
	}
	Options struct {
		IPBase             string
		AutoMAC, StaticARP bool
	}
	Notes        []string
	Topos        []string
	Unknown      string
	Uncontrolled bool
	Custom       bool
	Error        string
	Line         int
}

// readPython reads a Python file that describes a network for Mininet.
func readPython(ctx context.Context, path string, text []byte, p Params) (topo.Spec, error) {
	b := newForeign(path, p)
	if line, column, what := firstIllegal(text); what != "" {
		b.at(line, column, "%s", what)
		return b.finish()
	}
	r, err := record(ctx, path, p)
	if err != nil {
		return topo.Spec{}, &Error{Position{File: path}, err.Error()}
	}
	switch {
	case r.Error != "":
		b.at(r.Line, 0, "%s", r.Error)
	case r.Unknown != "":
		b.at(0, 0, "%s", unknown("topology % in this file", r.Unknown, r.Topos))
	case len(r.Nodes) == 0 && len(r.Topos) > 1:
		b.at(0, 0, "this file has several topologies; choose one of them by --topo or topo=NAME: %s", strings.Join(r.Topos, ", "))
	case len(r.Nodes) == 0:
		b.at(0, 0, "this file makes no network; write for example topos = {'mytopo': MyTopo}")
	default:
		b.recording(r)
	}
	for _, n := range r.Notes {
		b.note("%s", n)
	}
	return b.finish()
}

// record runs a Python file.
func record(ctx context.Context, path string, p Params) (*recording, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return nil, errors.New("a Python file is run by python3, which is not installed; install it, or write the network as YAML")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pythonTime)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	says := &bounded{most: pythonSays}
	cmd := exec.CommandContext(ctx, python, "-B", "-c", standIn, abs, p.Topo)
	cmd.Dir = filepath.Dir(abs)
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = says, says
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = startConfined(cmd)
	w.Close()
	if err != nil {
		return nil, err
	}
	for what, most := range map[int]uint64{unix.RLIMIT_AS: pythonMemory, unix.RLIMIT_CPU: uint64(pythonTime/time.Second) + 5, unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: pythonOutput} {
		limit := unix.Rlimit{Cur: most, Max: most}
		if err := unix.Prlimit(cmd.Process.Pid, what, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			cmd.Cancel()
			cmd.Wait()
			return nil, fmt.Errorf("limit python3: %w", err)
		}
	}
	read := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, pythonOutput+1))
		read <- b
	}()
	waited := cmd.Wait()
	unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it left in the background
	var said []byte
	select {
	case said = <-read:
	case <-time.After(time.Second):
		r.SetReadDeadline(time.Now())
		said = <-read
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("the script did not end within %s; a file that describes a network should only make it", pythonTime)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(said) > pythonOutput:
		return nil, errors.New("the script makes a network that is too large")
	}
	var rec recording
	if err := json.Unmarshal(said, &rec); err != nil {
		if waited == nil {
			waited = errors.New("it ended without a network")
		}
		return nil, fmt.Errorf("python3: %w%s", waited, says)
	}
	return &rec, nil
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, b.most-b.Len()))])
	return len(p), nil
}

func (b *bounded) String() string {
	text := strings.TrimSpace(b.Buffer.String())
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	return ": " + strings.TrimSpace(lines[len(lines)-1])
}

// startConfined starts a program that can write no file. The thread that does so is not used
// again.
func startConfined(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: what it may not do, it may never again
		if err := writeNothing(); err != nil {
			done <- err
			return
		}
		done <- cmd.Start()
	}()
	return <-done
}

// landlockAttr is struct landlock_ruleset_attr of linux/landlock.h, version 1.
type landlockAttr struct{ handledFS uint64 }

// writeNothing keeps the calling thread and what it starts from changing files (Landlock,
// Linux 5.13). A kernel without it is told of by an error.
func writeNothing() error {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if errno != 0 {
		return errors.New("this kernel cannot keep Python from writing files (Landlock), so Python files are not read; write the network as YAML")
	}
	attr := landlockAttr{unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM}
	if abi >= 3 {
		attr.handledFS |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	defer unix.Close(int(fd))
	if err := allowNull(int(fd)); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

// allowNull lets a Landlock ruleset write to /dev/null.
func allowNull(ruleset int) error {
	null, err := unix.Open(os.DevNull, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	// struct landlock_path_beneath_attr is packed: 12 bytes.
	var attr [12]byte
	binary.NativeEndian.PutUint64(attr[:], unix.LANDLOCK_ACCESS_FS_WRITE_FILE)
	binary.NativeEndian.PutUint32(attr[8:], uint32(null))
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// recording makes a network of what the stand-in noted.
func (b *foreign) recording(r *recording) {
	a := &b.spec.Addressing
	if base := r.Options.IPBase; base != "" && base != topo.DefaultIPBase {
		v, err := topo.ParseIPBase(base)
		if err != nil {
			b.at(0, 0, "%v", err)
		}
		a.IPBase = v
	}
	a.AutoMAC, a.StaticARP = r.Options.AutoMAC, r.Options.StaticARP
	b.uncontrolled = r.Uncontrolled
	for _, n := range r.Nodes {
		switch n.Kind {
		case "host":
			h := topo.Host{Name: n.Name}
			if n.NAT {
				h.NAT = &topo.NAT{}
			}
			b.mininetHost(&h, n.Params, n.Line)
			b.addHost(h, n.Line, 0)
		case "switch":
			s := topo.Switch{Name: n.Name, Driver: topo.SwitchDriver(n.Driver)}
			b.mininetSwitch(&s, n.Params, n.Line)
			b.addSwitch(s, n.Line, 0)
		case "controller":
			b.mininetController(n.Name, cmp.Or(n.Controller, "builtin"), n.Params, n.Line)
		}
		for _, c := range n.Cmds {
			line, _ := c[1].(float64)
			if text := fmt.Sprint(c[0]); n.Kind != "controller" && strings.TrimSpace(text) != "" && text != "None" {
				b.addCommand(topo.Command{Node: n.Name, Command: text}, int(line), 0)
			}
		}
	}
	for _, l := range r.Links {
		x := topo.Link{A: topo.LinkEnd{Node: l.A}, B: topo.LinkEnd{Node: l.B}}
		b.mininetLink(&x, l.Params, l.Line)
		b.addLink(x, l.Line, 0)
	}
	b.oneAddress()
}

// oneAddress takes from links' ends the address that their host has already.
func (b *foreign) oneAddress() {
	ip := map[string]netip.Prefix{}
	for _, h := range b.spec.Hosts {
		ip[h.Name] = h.IP
	}
	for i := range b.spec.Links {
		for _, e := range []*topo.LinkEnd{&b.spec.Links[i].A, &b.spec.Links[i].B} {
			if e.IP.IsValid() && e.IP == ip[e.Node] {
				e.IP = netip.Prefix{}
			}
		}
	}
}

func (b *foreign) mininetHost(h *topo.Host, params map[string]any, line int) {
	for _, name := range sortedNames(params) {
		v := params[name]
		if v == nil {
			continue
		}
		text := fmt.Sprint(v)
		switch name {
		case "ip":
			h.IP = b.prefix4(text, line)
		case "mac":
			h.MAC = text
		case "defaultRoute":
			if gateway, ok := strings.CutPrefix(text, "via "); ok {
				if h.DefaultRoute = b.address(gateway, line); !h.DefaultRoute.IsValid() {
					b.note("line %d: the default route %q of %s is left out", line, text, h.Name)
				}
			} else {
				b.note("line %d: the default route %q of %s is left out: it names no gateway", line, text, h.Name)
			}
		case "privateDirs":
			list, _ := v.([]any)
			for _, dir := range list {
				if pair, ok := dir.([]any); ok && len(pair) > 0 {
					dir = pair[0]
				}
				h.PrivateDirs = append(h.PrivateDirs, fmt.Sprint(dir))
			}
		case "nat":
			h.NAT = &topo.NAT{}
		case "subnet":
			h.NAT = &topo.NAT{Subnet: b.prefix4(text, line)}
		case "inNamespace", "localIntf", "flush", "isSwitch", "listenPort":
		default:
			b.leftOut("host", h.Name, name, line)
		}
	}
}

func (b *foreign) mininetSwitch(s *topo.Switch, params map[string]any, line int) {
	for _, name := range sortedNames(params) {
		v := params[name]
		if v == nil {
			continue
		}
		text := fmt.Sprint(v)
		switch name {
		case "dpid":
			id, err := strconv.ParseUint(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(text), "0x"), ":", ""), 16, 64)
			if err != nil {
				b.at(line, 0, "switch %s: dpid %q is not hexadecimal; write for example '000000000000000a'", s.Name, text)
			}
			s.DPID = id
		case "protocols":
			s.Protocols = strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []", r) })
		case "failMode":
			s.FailMode = text
		case "datapath":
			s.Datapath = topo.Datapath(text)
		case "stp":
			s.STP = text == "true" || text == "1"
		case "listenPort":
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				s.ListenPort = n
			}
		case "inNamespace", "ip", "batch", "reconnectms", "verbose", "opts", "dpopts", "isSwitch", "mac":
		default:
			b.leftOut("switch", s.Name, name, line)
		}
	}
	if s.Driver == topo.DriverLinux {
		s.DPID, s.Protocols, s.FailMode, s.Datapath = 0, nil, "", ""
	}
}

func (b *foreign) mininetController(name, kind string, params map[string]any, line int) {
	c := topo.Controller{Name: name, Kind: topo.ControllerKind(kind)}
	switch kind {
	case "none":
		b.uncontrolled = true
		return
	case "remote":
		c.Address, _ = params["ip"].(string)
		if port, ok := params["port"].(float64); ok {
			c.Port = int(port)
		}
	case "ryu":
		c.Command = strings.Join(strings.Fields(fmt.Sprint(cmp.Or(params["ryuArgs"], any("ryu.app.simple_switch_13")))), " ")
	case "nox":
		b.note("line %d: NOX is no longer made; %s is weft's own controller", line, name)
		c.Kind = topo.ControllerBuiltin
	}
	b.addController(c, line, 0)
}

// mininetLink reads the parameters of addLink.
func (b *foreign) mininetLink(l *topo.Link, params map[string]any, line int) {
	var options []string
	for _, name := range sortedNames(params) {
		v := params[name]
		if v == nil {
			continue
		}
		text := strings.ToLower(fmt.Sprint(v))
		switch name {
		case "port1", "port2":
			e := &l.A
			if name == "port2" {
				e = &l.B
			}
			if n, ok := v.(float64); ok {
				e.Port = new(int)
				*e.Port = int(n)
			}
		case "intfName1":
			l.A.Interface = fmt.Sprint(v)
		case "intfName2":
			l.B.Interface = fmt.Sprint(v)
		case "addr1":
			l.A.MAC = text
		case "addr2":
			l.B.MAC = text
		case "cls":
			switch text {
			case "ovslink":
				l.Driver = topo.LinkPatch
			case "link", "tclink", "tculink":
			default:
				b.note("line %d: the class %v of links is taken as Link", line, v)
			}
		case "params1", "params2":
			way, end := "ab:", &l.A
			if name == "params2" {
				way, end = "ba:", &l.B
			}
			inner, _ := v.(map[string]any)
			for _, k := range sortedNames(inner) {
				switch {
				case inner[k] == nil:
				case k == "ip":
					end.IP = b.prefix4(fmt.Sprint(inner[k]), line)
				case k == "mac":
					end.MAC = fmt.Sprint(inner[k])
				default:
					options = append(options, way+k+"="+strings.ToLower(fmt.Sprint(inner[k])))
				}
			}
		case "speedup", "gro", "txo", "rxo", "fast", "intf", "moveIntfFn", "isolated":
		default:
			options = append(options, name+"="+text)
		}
	}
	if err := l.LinkSettings.Set(options...); err != nil {
		b.at(line, 0, "link %s-%s: %v", l.A.Node, l.B.Node, err)
	}
}

// leftOut notes a parameter that weft does not have.
func (b *foreign) leftOut(kind, name, param string, line int) {
	b.note("line %d: %s of %s %s is left out", line, param, kind, name)
}

func sortedNames[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
