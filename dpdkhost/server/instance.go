package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/manager"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/builtin"
	"weft/topo"
)

// The states of an instance.
//
//	starting ──► running ──► draining ──► (gone)
//	    ▲           │ dies
//	    └── dead ◄──┘ by its restart policy, after a pause
const (
	stateStarting = "starting"
	stateRunning  = "running"
	stateDraining = "draining"
	stateDead     = "dead"
)

// An instance is one NF. Its fields are guarded by the server's lock.
type instance struct {
	nf       topo.NF // Core as it is now
	parent   *instance
	external bool // somebody else started its process
	logPath  string

	mi       *manager.Instance // nil until it takes packets for the first time
	function nf.Function       // of a fused one
	state    string
	restarts int
	failures int // since it last ran for long
	stopping bool
	pid      int // of the process that was started, or of the external one
	worker   int // of the process that takes packets, which may be another
	started  time.Time
	conn     *connection   // nil when there is none
	taken    chan error    // where its start is waited for; has room for one
	gone     chan struct{} // closed when its process has ended, or for want of one its connection
	counters map[string]uint64
}

const (
	startTimeout = 10 * time.Second // for an NF to connect
	// containerTimeout is the same with a container to be made first.
	containerTimeout = 20 * time.Second
	drainTimeout     = 5 * time.Second // for its last packets
	stopTimeout      = 2 * time.Second // to end by itself
	termTimeout      = time.Second     // to end after SIGTERM
)

// start starts the instances of an NF and waits until they take packets. If one cannot, those
// that this call started are stopped.
func (s *server) start(ctx context.Context, f topo.NF) (list []*instance, err error) {
	if err := validateNF(f); err != nil {
		return nil, err
	}
	if f.Outside {
		return nil, nil // who starts it says which service it is
	}
	for range max(1, f.Instances) {
		var i *instance
		if i, err = s.add(f); err == nil {
			list = append(list, i)
			err = s.launch(ctx, i)
		}
		if err != nil {
			for _, i := range list {
				err = errors.Join(err, s.remove(i, true))
			}
			return nil, err
		}
	}
	return list, nil
}

// add makes an instance that does not run yet.
func (s *server) add(f topo.NF) (*instance, error) {
	f.Instances = 0
	i := &instance{nf: f, state: stateStarting}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, errors.New("the NF manager is ending")
	}
	if f.Core != 0 && !slices.Contains(s.cpus, f.Core-1) {
		return nil, fmt.Errorf("NF %s: core %d: weft may use %s", f.Name, f.Core, coresText(s.cpus))
	}
	if len(s.instances) >= maxAll {
		return nil, fmt.Errorf("NF %s: there are %d instances already", f.Name, len(s.instances))
	}
	number := 1
	for _, o := range s.instances {
		if o.nf.Name == f.Name {
			number++
			if o.nf.Service == f.Service && o.parent == nil && i.parent == nil {
				i.parent = o
			}
		}
	}
	for ; slices.ContainsFunc(s.instances, func(o *instance) bool { return o.logPath == s.logPath(f.Name, number) }); number++ {
	}
	i.logPath = s.logPath(f.Name, number)
	s.instances = append(s.instances, i)
	return i, nil
}

// maxAll bounds the instances of a manager.
const maxAll = 4096

func (s *server) logPath(name string, number int) string {
	return filepath.Join(s.config.Dir, fmt.Sprintf("%s-%d.log", name, number))
}

func coresText(cpus []int) string {
	var words []string
	for _, c := range cpus {
		words = append(words, fmt.Sprint(c+1))
	}
	return "core " + strings.Join(words, ", ")
}

// launch starts an instance, for the first time or again, and waits until it takes packets.
func (s *server) launch(ctx context.Context, i *instance) error {
	if i.nf.Fused {
		return s.fuse(i)
	}
	var said int64 // before
	if st, err := os.Stat(i.logPath); err == nil {
		said = st.Size()
	}
	taken, gone, err := s.run(i)
	if err != nil {
		return fmt.Errorf("NF %s: %w", i.nf.Name, err)
	}
	wait := startTimeout
	if i.nf.Contained() {
		wait = containerTimeout
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case err = <-taken:
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C:
		err = fmt.Errorf("it did not connect to %s within %v", s.config.NFSocket(), wait)
	}
	if err == nil {
		return nil
	}
	s.mu.Lock()
	pid := i.pid
	s.mu.Unlock()
	signalGroup(pid, syscall.SIGKILL)
	<-gone
	return fmt.Errorf("NF %s: %w%s", i.nf.Name, err, lastLines(i.logPath, said))
}

// fuse makes an NF that runs in this process.
func (s *server) fuse(i *instance) error {
	b, err := builtin.Find(i.nf.Name)
	if err != nil {
		return err
	}
	f, err := b.New(i.nf.Args)
	if err != nil {
		return fmt.Errorf("NF %w", err)
	}
	mi, err := s.m.AttachFused(manager.Instance{Name: i.nf.Name, Service: uint16(i.nf.Service), Weight: i.nf.Weight, Wire: b.Wire}, f)
	if err != nil {
		return errors.Join(err, closeFunction(f))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i.mi, i.function, i.state, i.started = mi, f, stateRunning, time.Now()
	i.gone = make(chan struct{})
	close(i.gone)
	return nil
}

func closeFunction(f nf.Function) error {
	if c, ok := f.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// run starts the process of an instance.
func (s *server) run(i *instance) (taken chan error, gone chan struct{}, err error) {
	cmd, err := s.command(i.nf)
	if err != nil {
		return nil, nil, err
	}
	out, err := os.OpenFile(i.logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	defer out.Close()
	key := newKey()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), nf.SocketVariable+"="+s.config.NFSocket(), nf.KeyVariable+"="+key)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	taken, gone = make(chan error, 1), make(chan struct{})
	s.mu.Lock()
	if s.closing || i.stopping {
		s.mu.Unlock()
		return nil, nil, errors.New("it is being stopped")
	}
	s.others.Add(1)
	s.keys[key] = i
	i.taken, i.gone, i.state, i.started = taken, gone, stateStarting, time.Now()
	core := i.nf.Core
	s.mu.Unlock()
	if err := s.spawner.start(cmd, core-1); err != nil {
		s.mu.Lock()
		delete(s.keys, key)
		i.state, i.taken = stateDead, nil
		s.mu.Unlock()
		close(gone)
		s.others.Done()
		return nil, nil, err
	}
	s.mu.Lock()
	i.pid = cmd.Process.Pid
	late := i.stopping // meanwhile: who stops it did not know the process
	s.mu.Unlock()
	if late {
		signalGroup(cmd.Process.Pid, syscall.SIGKILL)
	}
	go func() {
		defer s.others.Done()
		cmd.Wait()                                    // what it returns is in the state
		signalGroup(cmd.Process.Pid, syscall.SIGKILL) // what a shell left
		s.exited(i, key, cmd.ProcessState)
		close(gone)
	}()
	return taken, gone, nil
}

// exited notes that the process of an instance has ended, and starts another if its policy
// says so.
func (s *server) exited(i *instance, key string, state *os.ProcessState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
	if i.conn != nil {
		s.lost(i)
	}
	i.pid, i.worker, i.state = 0, 0, stateDead
	if i.taken != nil { // it did not come as far as taking packets
		i.taken <- errors.New(exitText(state))
		i.taken = nil
	}
	if i.mi == nil || i.stopping || s.closing {
		return
	}
	s.log.Warn("NF ended", "nf", i.nf.Name, "instance", i.mi.ID, "how", exitText(state))
	policy, _ := restartOf(i.nf) // validated
	if policy == restartNo || policy == restartOnFailure && state.Success() {
		return
	}
	if time.Since(i.started) > steady {
		i.failures = 0
	}
	pause := min(firstPause<<min(i.failures, 16), lastPause)
	i.failures++
	i.restarts++
	s.others.Add(1)
	go s.restart(i, pause)
}

// Pauses before a restart: doubled each time, until an instance ran so long that it counts
// as steady.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
	steady     = 10 * time.Second
)

func (s *server) restart(i *instance, pause time.Duration) {
	defer s.others.Done()
	for end := time.Now().Add(pause); time.Now().Before(end); time.Sleep(min(pause, 50*time.Millisecond)) {
		s.mu.Lock()
		given := s.closing || i.stopping
		s.mu.Unlock()
		if given {
			return
		}
	}
	if err := s.launch(context.Background(), i); err != nil {
		s.log.Warn("NF not restarted", "error", err) // exited tries again
	}
}

// lost takes back what an instance has whose process is gone, or left its manager. The caller
// has the lock.
func (s *server) lost(i *instance) {
	i.conn.close()
	i.conn, i.state = nil, stateDead
	if i.stopping {
		return // Detach takes it
	}
	reclaimed, err := s.m.Suspend(i.mi, i.nf.OnDeath != onDeathDrop)
	if err != nil && !errors.Is(err, manager.ErrClosed) {
		s.log.Warn("NF gone", "nf", i.nf.Name, "error", err)
	}
	s.log.Info("NF gone", "nf", i.nf.Name, "instance", i.mi.ID, "frames", reclaimed)
}

// find returns the instance of a number.
func (s *server) find(id int) (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, i := range s.instances {
		if i.mi != nil && int(i.mi.ID) == id {
			return i, nil
		}
		if i.mi != nil {
			ids = append(ids, fmt.Sprint(i.mi.ID))
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("there is no instance %d, nor any other", id)
	}
	return nil, fmt.Errorf("there is no instance %d; there are %s", id, strings.Join(ids, ", "))
}

// remove stops an instance and forgets it.
func (s *server) remove(i *instance, atOnce bool) error {
	s.mu.Lock()
	if i.stopping {
		s.mu.Unlock()
		return fmt.Errorf("NF %s is being stopped already", i.nf.Name)
	}
	i.stopping = true
	running := i.state == stateRunning
	if running {
		i.state = stateDraining
	}
	mi, conn, gone := i.mi, i.conn, i.gone
	s.mu.Unlock()
	var errs []error
	if running && !atOnce && mi != nil {
		drained, err := s.m.Drain(mi, drainTimeout)
		if errs = append(errs, err); err == nil && !drained {
			s.log.Warn("NF does not give its last packets back", "nf", i.nf.Name, "instance", mi.ID)
		}
	}
	s.endProcess(i, conn, gone, atOnce)
	if mi != nil {
		_, err := s.m.Detach(mi)
		errs = append(errs, err)
	}
	if i.function != nil {
		errs = append(errs, closeFunction(i.function))
	}
	s.mu.Lock()
	s.instances = slices.DeleteFunc(s.instances, func(o *instance) bool { return o == i })
	for _, o := range s.instances {
		if o.parent == i {
			o.parent = nil
		}
	}
	s.mu.Unlock()
	return errors.Join(append(errs, s.rearrange())...)
}

// endProcess asks the process of an instance to end, and makes it.
func (s *server) endProcess(i *instance, conn *connection, gone chan struct{}, atOnce bool) {
	if gone == nil {
		return
	}
	ended := func(wait time.Duration) bool {
		select {
		case <-gone:
			return true
		case <-time.After(wait):
			return false
		}
	}
	if conn != nil {
		conn.send(nf.Request{Stop: true})
		if !atOnce && ended(stopTimeout) || ended(stopTimeout/10) {
			return
		}
	}
	s.mu.Lock()
	pid := i.pid
	s.mu.Unlock()
	switch {
	case i.external && conn != nil:
		conn.close()
	case i.external:
	case pid == 0:
	default:
		signalGroup(pid, syscall.SIGTERM)
		if ended(termTimeout) {
			return
		}
		signalGroup(pid, syscall.SIGKILL)
	}
	<-gone
}

// closeInstances stops all instances at the manager's end.
func (s *server) closeInstances() {
	s.mu.Lock()
	s.closing = true
	list := slices.Clone(s.instances)
	s.mu.Unlock()
	done := make(chan struct{})
	for _, i := range list {
		go func() {
			if err := s.remove(i, true); err != nil {
				s.log.Warn("NF", "nf", i.nf.Name, "error", err)
			}
			done <- struct{}{}
		}()
	}
	for range list {
		<-done
	}
	s.others.Wait()
}

// move puts an instance on another core; 0 for any.
func (s *server) move(i *instance, core int) error {
	set := s.spawner.all
	if core != 0 {
		if !slices.Contains(s.cpus, core-1) {
			return fmt.Errorf("core %d: weft may use %s", core, coresText(s.cpus))
		}
		set.Zero()
		set.Set(core - 1)
	}
	s.mu.Lock()
	pid := cmp.Or(i.worker, i.pid)
	fused := i.nf.Fused
	s.mu.Unlock()
	switch {
	case fused:
		return fmt.Errorf("NF %s is fused: it runs on the manager's thread", i.nf.Name)
	case pid == 0:
		return fmt.Errorf("NF %s does not run now", i.nf.Name)
	}
	if err := place(pid, &set); err != nil {
		return fmt.Errorf("NF %s: process %d on core %d: %w", i.nf.Name, pid, core, err)
	}
	s.mu.Lock()
	i.nf.Core = core
	s.mu.Unlock()
	return s.rearrange()
}

// own reports whether an instance has a core of its own. The caller has the lock.
func (s *server) own(i *instance) bool {
	return i.nf.Core != 0 && len(s.cpus) > 1 &&
		!slices.ContainsFunc(s.instances, func(o *instance) bool { return o != i && o.nf.Core == i.nf.Core })
}

// rearrange keeps the manager's thread off the cores that instances have for themselves, as far
// as there are others, and wakes instances at once that are not in its way.
func (s *server) rearrange() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.spawner.all
	shared := map[*manager.Instance]bool{}
	for _, i := range s.instances {
		cpu := i.nf.Core - 1
		alone := s.own(i) && (!set.IsSet(cpu) || set.Count() > 1)
		if alone {
			set.Clear(cpu)
		}
		if i.mi != nil {
			shared[i.mi] = !alone
		}
	}
	var failed error
	err := s.m.Do(func() {
		failed = unix.SchedSetaffinity(0, &set)
		for mi, is := range shared {
			mi.Shared = is
		}
	})
	if err == nil && failed != nil {
		err = fmt.Errorf("the manager's cores: %w", failed)
	}
	return err
}

// lastLines returns the end of what a log has from an offset on, for an error message.
func lastLines(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 2000
	if info, err := f.Stat(); err == nil && info.Size()-from > most {
		from = info.Size() - most
	}
	f.Seek(from, io.SeekStart)
	text, _ := io.ReadAll(io.LimitReader(f, most))
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(text), "?")), "\n")
	lines = lines[max(0, len(lines)-5):]
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return "; it said: " + strings.Join(lines, "\n  ")
}
