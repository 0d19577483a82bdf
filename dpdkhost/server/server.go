package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/agent"
	"weft/dpdkhost/manager"
	"weft/dpdkhost/port"
	"weft/topo"
)

// A server is a manager with its ports, NFs and sockets.
type server struct {
	config  Config
	log     *slog.Logger
	m       *manager.Manager
	agent   *agent.Agent // nil without OpenFlow
	spawner *spawner
	cpus    []int // that this process may use
	near    []int // those of them that it uses, and NFs without a core of their own
	numa    numa
	end     context.CancelFunc
	opener  *port.Opener
	plug    sync.Mutex // one change of the ports after the other

	mu        sync.Mutex
	ports     []openPort
	instances []*instance // in the order of their starts
	keys      map[string]*instance
	closing   bool
	others    sync.WaitGroup // goroutines of connections and processes
}

// forever is longer than any manager runs.
const forever = 1 << 62

// Run runs a manager until ctx ends or it is told to end. It calls ready when all ports are open
// and all NFs take packets; if that cannot be, it ends at once with the error.
func Run(ctx context.Context, c Config, log *slog.Logger, ready func()) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{config: c, log: log, end: cancel, keys: map[string]*instance{}}
	if s.cpus, err = processors(); err != nil {
		return err
	}
	mc := manager.Config{Frames: c.Frames, Large: c.Large, Flows: c.Flows, Log: log}
	if c.Spin {
		if len(s.cpus) < 2 {
			return errors.New("spin: the manager would take the only processor that it may use; leave it out")
		}
		mc.Spin = forever
	}
	if err := s.settle(); err != nil {
		return err
	}
	if s.m, err = s.numa.makeManager(mc); err != nil {
		return err
	}
	if s.spawner, err = newSpawner(); err != nil {
		return err
	}
	defer s.spawner.close()
	// The manager outlives ctx: NFs are drained first.
	mctx, mend := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.m.Run(mctx) }()
	defer func() {
		mend()
		err = errors.Join(err, <-ended)
	}()
	control, err := listen("unix", filepath.Join(c.Dir, controlName))
	if err != nil {
		return err
	}
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	defer web.Close()
	nfs, err := listen("unixpacket", c.NFSocket())
	if err != nil {
		return errors.Join(err, control.Close())
	}
	// The directory keeps others out. A container's NF, which may be of another user, has the
	// socket alone.
	if err := os.Chmod(c.NFSocket(), 0o666); err != nil {
		return errors.Join(err, control.Close(), nfs.Close())
	}
	go s.accept(nfs)
	defer nfs.Close()
	if c.Outside != nil {
		l, err := net.FileListener(c.Outside)
		if err != nil {
			return errors.Join(fmt.Errorf("socket of NFs outside: %w", err), control.Close())
		}
		defer l.Close()
		go s.accept(l.(*net.UnixListener))
	}
	defer s.closeInstances()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	if err := s.watchInterfaces(watching); err != nil {
		log.Warn("the manager will not notice when interfaces of its ports vanish", "error", err)
	}
	if err := s.setUp(ctx); err != nil {
		return errors.Join(err, control.Close())
	}
	if c.OpenFlow != nil {
		if err := s.startAgent(ctx); err != nil {
			return err
		}
		defer func() {
			cancel()
			err = errors.Join(err, s.agent.Wait())
		}()
	}
	go web.Serve(control)
	ready()
	<-ctx.Done()
	return nil
}

// listen makes a Unix socket anew: a manager that was killed left one.
func listen(network, path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
}

// setUp starts what the configuration names and opens the ports.
func (s *server) setUp(ctx context.Context) error {
	for _, c := range s.config.Chains {
		if err := s.setChain(c); err != nil {
			return err
		}
	}
	var errs []error
	for _, f := range s.config.NFs { // in their order, so that their numbers are the same each time
		_, err := s.start(ctx, f)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, text := range s.config.Rules {
		if err := s.addFlow(text); err != nil {
			return err
		}
	}
	// Last, so that no packet comes before who takes it.
	s.opener = port.NewOpener(s.m)
	return s.addPorts(s.config.Ports)
}

func (s *server) addFlow(text string) error {
	f, err := manager.ParseFlow(text)
	if err == nil {
		err = s.m.AddFlow(f)
	}
	if err != nil {
		return fmt.Errorf("flow %q: %w", text, err)
	}
	return nil
}

func (s *server) setChain(c topo.Chain) error {
	m := manager.Chain{Name: c.Name, Out: uint16(c.Out)}
	if c.Out < 0 || c.Out > manager.MaxPort {
		return fmt.Errorf("chain %s: it ends at port %d: ports have numbers from 1 to %d", c.Name, c.Out, manager.MaxPort)
	}
	for _, id := range c.Services {
		m.Services = append(m.Services, uint16(min(max(id, 0), 1<<16-1))) // beyond: refused
	}
	return s.m.SetChain(m)
}

// processors returns the numbers of the processors that this process may use.
func processors() (list []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for cpu := range 8 * len(set) * 8 {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	return list, nil
}
