package shell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"weft/api"
	"weft/network"
	"weft/topo"
)

// fakeNetwork answers the API like a running network of two hosts and a switch. All
// that is real is the transport.
type fakeNetwork struct {
	state    network.State
	loss     bool // h1 and h2 do not hear each other
	missing  bool // s1 is not connected
	hangPing bool // ping lasts until its caller gives up
	channel  network.ChannelState
	faults   []network.Fault
	looks    atomic.Int64 // at DPDK nodes
}

func newFakeNetwork() *fakeNetwork {
	end := func(node, ifname string) topo.PlannedEnd { return topo.PlannedEnd{Node: node, Interface: ifname} }
	host := func(n int) topo.PlannedHost {
		name := fmt.Sprintf("h%d", n)
		return topo.PlannedHost{Name: name, Interfaces: []topo.Interface{{
			Name: name + "-eth0", Device: name + "-eth0", MAC: fmt.Sprintf("00:00:00:00:00:%02x", n),
			IP:   netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/8", n)),
			IP6:  netip.MustParsePrefix(fmt.Sprintf("fd00::%d/64", n)),
			Link: n,
		}}}
	}
	port := func(n int) topo.Interface {
		name := fmt.Sprintf("s1-eth%d", n)
		return topo.Interface{Name: name, Device: name, Port: n, MAC: fmt.Sprintf("00:00:00:00:01:%02x", n), Link: n}
	}
	plan := &topo.Plan{
		Name:  "lab",
		Hosts: []topo.PlannedHost{host(1), host(2)},
		Switches: []topo.PlannedSwitch{{Name: "s1", Driver: topo.DriverOVS, Device: "s1", DPID: 1, FailMode: "secure",
			Protocols: []string{"OpenFlow13"}, Controllers: []string{"c0"}, Interfaces: []topo.Interface{port(1), port(2)}}},
		Controllers: []topo.PlannedController{{Name: "c0", Kind: topo.ControllerOVS, Address: "127.0.0.1", Port: 6653}},
		Links: []topo.PlannedLink{
			{ID: 1, A: end("h1", "h1-eth0"), B: end("s1", "s1-eth1"), LinkSettings: topo.LinkSettings{Driver: topo.LinkVeth}},
			{ID: 2, A: end("h2", "h2-eth0"), B: end("s1", "s1-eth2"), LinkSettings: topo.LinkSettings{Driver: topo.LinkVeth}},
		},
	}
	st := network.State{
		Name: "lab", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Plan: plan, Datapath: topo.DatapathUser,
		Hosts: []network.HostState{{Name: "h1", PID: 101}, {Name: "h2", PID: 102}},
		Switches: []network.SwitchState{{Name: "s1", Running: true, Connections: []network.ControlConnection{
			{Switch: "s1", Controller: "c0", Connected: true, Version: "1.3"}}}},
		Controllers: []network.ControllerState{{Name: "c0", Address: "127.0.0.1:6653", PID: 100}},
	}
	for _, l := range plan.Links {
		st.Links = append(st.Links, network.LinkState{ID: l.ID, A: l.A, B: l.B, Up: [2]bool{true, true}, OK: [2]bool{true, true}})
	}
	return &fakeNetwork{state: st}
}

// serve answers on a Unix socket and returns a client.
func (f *fakeNetwork) serve(dir string) (client *fakeClient, stop func(), err error) {
	path := filepath.Join(dir, "api.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, nil, err
	}
	srv := &http.Server{Handler: f.handler()}
	go srv.Serve(l)
	return &fakeClient{api.Dial(path)}, func() { srv.Close() }, nil
}

func (f *fakeNetwork) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/control/messages", f.messages)
	ok := func(*http.Request) (any, error) { return struct{}{}, nil }
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /v1/network":                          func(*http.Request) (any, error) { return f.state, nil },
		"POST /v1/wait":                            f.wait,
		"POST /v1/ping":                            f.ping,
		"POST /v1/iperf":                           f.iperf,
		"POST /v1/hosts":                           f.addHost,
		"POST /v1/switches":                        f.addSwitch,
		"POST /v1/links":                           f.addLink,
		"DELETE /v1/nodes/{name}":                  ok,
		"GET /v1/links":                            f.links,
		"PATCH /v1/links/{a}":                      f.changeLink,
		"POST /v1/links/verify":                    f.verify,
		"GET /v1/faults":                           func(*http.Request) (any, error) { return f.faults, nil },
		"POST /v1/faults":                          f.startFault,
		"DELETE /v1/faults":                        f.stopFaults,
		"PATCH /v1/links/{a}/{b}":                  f.changeLink,
		"DELETE /v1/links/{a}/{b}":                 ok,
		"PATCH /v1/switches/{name}":                ok,
		"GET /v1/channels":                         func(*http.Request) (any, error) { return []network.ChannelState{f.channel}, nil },
		"GET /v1/dpdk/{name}":                      f.nfs,
		"PATCH /v1/channels/{switch}/{controller}": f.setChannel,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := answer(r)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				v = api.Error{Message: err.Error()}
			}
			json.NewEncoder(w).Encode(v)
		})
	}
	return mux
}

func body[T any](r *http.Request) (v T) {
	json.NewDecoder(r.Body).Decode(&v)
	return v
}

func (f *fakeNetwork) wait(*http.Request) (any, error) {
	if f.missing {
		return []network.ControlConnection{{Switch: "s1", Controller: "c0", Reason: "connection refused"}}, nil
	}
	return nil, nil
}

func (f *fakeNetwork) ping(r *http.Request) (any, error) {
	if f.hangPing {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	req := body[network.PingRequest](r)
	if len(req.Hosts) == 0 {
		req.Hosts = hostNames(f.state.Plan)
	}
	if req.Pairs == nil {
		for _, a := range req.Hosts {
			for _, b := range req.Hosts {
				if a != b {
					req.Pairs = append(req.Pairs, [2]string{a, b})
				}
			}
		}
	}
	res := network.PingResult{Duration: 12345 * time.Microsecond}
	for i, p := range req.Pairs {
		pair := network.PingPair{Src: p[0], Dst: p[1], Sent: max(req.Count, 1)}
		a := interfaces(f.state.Plan, p[1])[0]
		pair.DstIP = a.IP.Addr()
		if req.IPv6 {
			pair.DstIP = a.IP6.Addr()
		}
		if !f.loss {
			pair.Received = pair.Sent
			for n := range pair.Sent {
				pair.RTT = append(pair.RTT, time.Duration(521+100*n)*time.Microsecond)
			}
			if req.Tries != 1 && i == 0 {
				pair.Retries = 1
			}
		}
		res.Sent += pair.Sent
		res.Received += pair.Received
		res.Pairs = append(res.Pairs, pair)
	}
	return res, nil
}

func (f *fakeNetwork) iperf(r *http.Request) (any, error) {
	req := body[network.IperfRequest](r)
	if req.Duration == 0 {
		req.Duration = 5 * time.Second
	}
	res := network.IperfResult{Client: req.Client, Server: req.Server, UDP: req.UDP, Duration: req.Duration,
		ServerBps: 33.3e9, ClientBps: 33.4e9, Bytes: 20812500000, Retransmits: 1}
	if req.UDP {
		res.ServerBps, res.ClientBps, res.Asked, res.Bytes = float64(req.Rate), float64(req.Rate), float64(req.Rate), req.Rate/8*5
		res.Sent, res.LostPackets, res.OutOfOrder, res.Jitter = 4252, 3, 0, 21*time.Microsecond
		res.Retransmits = 0
	}
	return res, nil
}

func (f *fakeNetwork) addHost(r *http.Request) (any, error) {
	h := body[topo.Host](r)
	if slices.Contains(nodeNames(f.state.Plan), h.Name) {
		return nil, fmt.Errorf("there is a node called %s already", h.Name)
	}
	return topo.PlannedHost{Name: h.Name, DefaultRoute: h.DefaultRoute, Interfaces: []topo.Interface{{Name: h.Name + "-eth0", IP: h.IP, MAC: h.MAC}}}, nil
}

func (f *fakeNetwork) addSwitch(r *http.Request) (any, error) {
	s := body[topo.Switch](r)
	return topo.PlannedSwitch{Name: s.Name, Driver: s.Driver, DPID: s.DPID, Protocols: s.Protocols, Controllers: s.Controllers}, nil
}

func (f *fakeNetwork) addLink(r *http.Request) (any, error) {
	l := body[topo.Link](r)
	return topo.PlannedLink{ID: 3,
		A: topo.PlannedEnd{Node: l.A.Node, Interface: l.A.Node + "-eth1"},
		B: topo.PlannedEnd{Node: l.B.Node, Interface: l.B.Node + "-eth3"}, LinkSettings: l.LinkSettings}, nil
}

// fakeClient is a client of a fakeNetwork whose nodes are this machine. Commands that
// start with ovs- are only shown.
type fakeClient struct{ *api.Client }

func (c *fakeClient) Shell(ctx context.Context, r api.ShellRequest, stdin io.Reader, stdout io.Writer, interrupt <-chan struct{}, resize <-chan api.Size) (int, error) {
	line := r.Command
	if strings.HasPrefix(line, "ovs-") {
		line = "echo " + line
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Env = append(os.Environ(), r.Env...)
	if !r.TTY {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Stdout, cmd.Stderr = stdout, stdout
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		over := make(chan struct{})
		defer close(over)
		go func() {
			for {
				select {
				case <-interrupt:
					syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
				case <-over:
					return
				}
			}
		}()
		return status(cmd.Wait())
	}
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: r.Rows, Cols: r.Cols})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	over, resized := make(chan struct{}), make(chan struct{})
	defer func() {
		close(over)
		<-resized
	}()
	go io.Copy(f, stdin)
	go func() {
		defer close(resized)
		for {
			select {
			case s := <-resize:
				pty.Setsize(f, &pty.Winsize{Rows: s.Rows, Cols: s.Cols})
			case <-over:
				return
			}
		}
	}()
	io.Copy(stdout, f)
	return status(cmd.Wait())
}

func status(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// session returns a Session of a fake network without input.
func session(t *testing.T, f *fakeNetwork, cfg Config) *Session {
	t.Helper()
	client, stop, err := f.serve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	cfg.Client = client
	return New(cfg)
}
