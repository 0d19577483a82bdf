package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weft/internal/sandbox"
	"weft/topo"
)

// controllerTimeout bounds the wait for a controller that weft starts to listen: those in
// Python take seconds.
const controllerTimeout = 30 * time.Second

// A DialFunc connects to HOST:PORT.
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

// The ports of a controller, in the order tried: IANA's, and the one from before 2013.
const (
	portOpenFlow = 6653
	portLegacy   = 6633
)

// RemoteAddress returns what people call a remote controller: HOST:PORT.
func RemoteAddress(c topo.PlannedController) string {
	return join(c, max(c.Port, 0))
}

func join(c topo.PlannedController, port int) string {
	if port == 0 {
		port = portOpenFlow
	}
	return net.JoinHostPort(c.Address, strconv.Itoa(port))
}

// RemoteDialer returns a function that makes one connection to a controller that already
// runs, over TLS if its transport is ssl.
func RemoteDialer(c topo.PlannedController, dial DialFunc) (func(context.Context) (net.Conn, error), error) {
	ports := []int{c.Port}
	if c.Port == 0 {
		ports = []int{portOpenFlow, portLegacy}
	}
	var secure *tls.Config
	if c.Transport == "ssl" {
		var err error
		if secure, err = tlsConfig(c); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) (net.Conn, error) {
		var errs []error
		for _, p := range ports {
			conn, err := dial(ctx, join(c, p))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if secure == nil {
				return conn, nil
			}
			t := tls.Client(conn, secure)
			if err := t.HandshakeContext(ctx); err != nil {
				conn.Close()
				return nil, fmt.Errorf("TLS with %s: %w", join(c, p), err)
			}
			return t, nil
		}
		// One line; a name that is not found is not found twice.
		if len(errs) == 2 && errs[0].Error() != errs[1].Error() {
			return nil, fmt.Errorf("%w; %w", errs[0], errs[1])
		}
		return nil, errs[0]
	}, nil
}

func tlsConfig(c topo.PlannedController) (*tls.Config, error) {
	t := &tls.Config{ServerName: c.Address}
	if c.CACert == "" {
		t.InsecureSkipVerify = true // nothing to verify with; see topo.Controller
	} else {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("CA certificate: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", c.CACert)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// A Process is a controller that weft runs.
type Process struct {
	Address string
	PID     int

	dial  DialFunc
	out   io.ReadCloser
	log   io.Writer
	ended chan struct{}

	mu   sync.Mutex
	said []byte // the last of its output
}

// StartController runs a controller and waits until it listens. It runs in the user's own
// namespaces, or in the sandbox if its plan says Inside. What it writes goes to log.
func StartController(ctx context.Context, c topo.PlannedController, broker *sandbox.Broker, env []string, log io.Writer) (*Process, error) {
	p := &Process{dial: broker.DialTCP, log: log, ended: make(chan struct{})}
	listen := broker.ListenTCP
	if c.Inside {
		p.dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
		listen = func(ctx context.Context, addr string) (net.Listener, error) {
			var lc net.ListenConfig
			return lc.Listen(ctx, "tcp", addr)
		}
	}
	// A port that is free now; or a clear error, if the one asked for is not.
	l, err := listen(ctx, net.JoinHostPort(c.Address, strconv.Itoa(c.Port)))
	if err != nil {
		return nil, err
	}
	p.Address = l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()

	argv := controllerCommand(c, port)
	if c.Inside {
		err = p.runInside(argv, env)
	} else {
		var run *sandbox.Process
		if run, err = broker.Run(ctx, argv); err == nil {
			p.PID, p.out = run.PID, run.Output
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w%s", argv[0], err, installHint(c.Kind))
	}
	go p.read()
	if err := p.await(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("%s: %w", strings.TrimSpace(string(c.Kind)+" "+c.Command), err)
	}
	return p, nil
}

// controllerCommand is the argument vector of a controller that listens at port.
func controllerCommand(c topo.PlannedController, port int) []string {
	num := strconv.Itoa(port)
	switch c.Kind {
	case topo.ControllerOVS:
		// Its control socket would be in a directory that only root may write, and what it
		// says in OpenFlow 1.5 is often refused (Open vSwitch 3.1: OFPBMC_BAD_MASK).
		return append([]string{"ovs-testcontroller", "--unixctl=none",
			"--protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14", "ptcp:" + num + ":" + c.Address}, strings.Fields(c.Command)...)
	case topo.ControllerRyu, topo.ControllerOSKen:
		tool := []string{"ryu-manager"}
		if c.Kind == topo.ControllerOSKen {
			tool = osKenManager()
		}
		return append(append(tool, "--ofp-listen-host", c.Address, "--ofp-tcp-listen-port", num), strings.Fields(c.Command)...)
	}
	return []string{"/bin/sh", "-c", strings.ReplaceAll(c.Command, "{port}", num)}
}

// osKenManager is what runs os-ken's apps: its own program, which newer versions (4.0)
// lack, or what that did.
func osKenManager() []string {
	if _, err := exec.LookPath("osken-manager"); err == nil {
		return []string{"osken-manager"}
	}
	return []string{"python3", "-c", `
import sys
try:
    from os_ken.base.app_manager import AppManager
    from os_ken import cfg
except ModuleNotFoundError as e:
    sys.exit("%s: pip install os-ken" % e)
cfg.CONF.register_cli_opts([cfg.MultiStrOpt("app", positional=True)])
cfg.CONF(args=sys.argv[1:], project="os_ken")
AppManager.run_apps(cfg.CONF.app)
`}
}

func installHint(kind topo.ControllerKind) string {
	switch kind {
	case topo.ControllerOVS:
		return ": sudo apt-get install openvswitch-testcontroller"
	case topo.ControllerRyu:
		return ": pip install ryu (or take osken, its successor)"
	case topo.ControllerOSKen:
		return ": pip install os-ken"
	}
	return ""
}

// runInside starts argv in the calling process's namespaces.
func (p *Process) runInside(argv, env []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		r.Close()
		return err
	}
	p.PID, p.out = cmd.Process.Pid, insideOutput{r, cmd}
	go cmd.Wait()
	return nil
}

// insideOutput kills its process's group when it is closed.
type insideOutput struct {
	*os.File
	cmd *exec.Cmd
}

func (o insideOutput) Close() error {
	unix.Kill(-o.cmd.Process.Pid, unix.SIGKILL)
	return o.File.Close()
}

func (p *Process) read() {
	defer close(p.ended)
	buf := make([]byte, 4096)
	for {
		n, err := p.out.Read(buf)
		if n > 0 {
			p.log.Write(buf[:n]) // one that is lost is no reason to stop it
		}
		p.mu.Lock()
		p.said = append(p.said, buf[:n]...)
		p.said = p.said[max(0, len(p.said)-8192):]
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *Process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controllerTimeout)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		if conn, err := p.dial(ctx, p.Address); err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended without listening at %s%s", p.Address, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("it does not listen at %s (%w)%s", p.Address, ctx.Err(), p.lastWords())
		case <-time.After(pause):
		}
	}
}

func (p *Process) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(p.said), []byte("\n"))
	lines = lines[max(0, len(lines)-5):]
	if len(lines[0]) == 0 {
		return ""
	}
	return ": " + string(bytes.Join(lines, []byte("\n  ")))
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Dial connects to the controller.
func (p *Process) Dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-p.ended:
		return nil, fmt.Errorf("the controller has ended%s", p.lastWords())
	default:
		return p.dial(ctx, p.Address)
	}
}

// Close ends the process and waits until it has ended, at most 5 s.
func (p *Process) Close() error {
	p.out.Close()
	select {
	case <-p.ended:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("controller at %s has not ended", p.Address)
	}
}
