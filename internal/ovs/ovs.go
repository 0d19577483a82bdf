// Package ovs runs a private Open vSwitch: an ovsdb-server and an ovs-vswitchd of one
// network's own, with their files in one directory, configured by OVSDB transactions
// (RFC 7047). It may import nothing of weft.
package ovs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/digitalocean/go-openvswitch/ovsdb"
)

// ErrNotInstalled is matched by the error of Start when a program is missing.
var ErrNotInstalled = errors.New("Open vSwitch is not installed: sudo apt-get install openvswitch-switch")

// schemaFile is where packages put the schema of the Open_vSwitch database.
const schemaFile = "/usr/share/openvswitch/vswitch.ovsschema"

// Bounds of waiting.
const (
	startTimeout = 20 * time.Second
	applyTimeout = 120 * time.Second // 1,000 ports under load
	maxRestarts  = 3                 // of one daemon, per minute
)

// Config says how an Instance runs.
type Config struct {
	// Dir holds all files: database, sockets, logs. It must exist.
	Dir string
	// Dummy leaves the local ports of bridges of the user datapath without devices, which
	// saves a tap each and 100 ms of ovs-vswitchd's start (it measures the clock's rate
	// for statistics). The bridges' datapath must be DatapathDummy.
	Dummy bool
	// Ignore is an EtherType whose frames ports of the user datapath do not take; 0: none.
	Ignore uint16
	// UserTSO lets the user datapath pass segments of up to 64 KiB between ports.
	UserTSO bool
	Log     *slog.Logger
	// OnRestart, if not nil, is told when a daemon ended and was started again.
	OnRestart func(daemon string, cause error)
	// OnFailure, if not nil, is told when a daemon ended too often and stays down.
	OnFailure func(error)
}

// An Instance is a running private Open vSwitch.
type Instance struct {
	cfg Config
	db  *client

	mu      sync.Mutex
	server  *daemon
	vswitch *daemon
	closed  bool
	failed  error // a daemon that could not be kept running

	// tended are the ports' sockets that TendPorts has seen, by inode, of one run of
	// ovs-vswitchd.
	tended   map[uint64]bool
	tendedOf *daemon
}

// Env returns the variables that make ovs-vsctl, ovs-ofctl and ovs-appctl speak to the
// instance whose files are in dir.
func Env(dir string) []string {
	return []string{"OVS_RUNDIR=" + dir, "OVS_DBDIR=" + dir, "OVS_SYSCONFDIR=" + dir, "OVS_LOGDIR=" + dir}
}

// Start starts ovsdb-server. ovs-vswitchd starts with the first bridges: it would follow
// each change of the devices that are to be their ports, which costs more than a second
// for 1,000 of them.
func Start(ctx context.Context, cfg Config) (*Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, p := range []string{"ovsdb-tool", "ovsdb-server", "ovs-vswitchd"} {
		if _, err := exec.LookPath(p); err != nil {
			return nil, fmt.Errorf("%w (%s is missing)", ErrNotInstalled, p)
		}
	}
	i := &Instance{cfg: cfg}
	create := i.command(ctx, "ovsdb-tool", "create", i.path("conf.db"), schemaFile)
	if out, err := create.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("create the switch database: %w: %s", err, strings.TrimSpace(string(out)))
	}
	var err error
	if i.server, err = i.launch(serverArgs); err != nil {
		return nil, err
	}
	if err := i.connect(ctx); err != nil {
		i.Close()
		return nil, err
	}
	other := map[string]string{"stats-update-interval": "10000"}
	if cfg.UserTSO {
		other["userspace-tso-enable"] = "true"
	}
	if err := i.db.transact(ctx, insert{Table: "Open_vSwitch", Row: row{"other_config": dict(other)}}); err != nil {
		i.Close()
		return nil, fmt.Errorf("initialise the switch database: %w", err)
	}
	go i.supervise(serverArgs, &i.server)
	return i, nil
}

func (i *Instance) path(name string) string { return filepath.Join(i.cfg.Dir, name) }

func (i *Instance) remote() string { return "unix:" + i.path("db.sock") }

func serverArgs(i *Instance) []string {
	return []string{"ovsdb-server", "-vconsole:emer", "-vsyslog:off", i.path("conf.db"), "--remote=p" + i.remote(),
		"--unixctl=" + i.path("ovsdb-server.ctl"), "--log-file=" + i.path("ovsdb-server.log"), "--no-chdir"}
}

func vswitchArgs(i *Instance) []string {
	// The control socket's usual name has the PID in it; ovs-appctl -t finds this one by
	// the pidfile.
	args := []string{"ovs-vswitchd", "-vconsole:emer", "-vsyslog:off", i.remote(), "--pidfile=" + i.path("ovs-vswitchd.pid"),
		"--log-file=" + i.path("ovs-vswitchd.log"), "--no-chdir"}
	if i.cfg.Dummy {
		args = append(args, "--enable-dummy")
	}
	return args
}

func (i *Instance) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), Env(i.cfg.Dir)...)
	return cmd
}

// A daemon is one run of a program.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid after done
}

func (i *Instance) launch(args func(*Instance) []string) (*daemon, error) {
	argv := args(i)
	cmd := i.command(context.Background(), argv[0], argv[1:]...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	d := &daemon{cmd: cmd, done: make(chan struct{})}
	go func() {
		said, _ := io.ReadAll(io.LimitReader(bufio.NewReader(stderr), 4096))
		io.Copy(io.Discard, stderr)
		d.err = cmd.Wait()
		if d.err == nil {
			d.err = errors.New("ended by itself")
		}
		if s := strings.TrimSpace(string(said)); s != "" {
			d.err = fmt.Errorf("%w: %s", d.err, s)
		}
		close(d.done)
	}()
	return d, nil
}

// connect waits for ovsdb-server's socket.
func (i *Instance) connect(ctx context.Context) error {
	for {
		conn, err := net.Dial("unix", i.path("db.sock"))
		if err == nil {
			i.db, err = newClient(conn)
			return err
		}
		select {
		case <-i.server.done:
			return fmt.Errorf("ovsdb-server: %w", i.server.err)
		case <-ctx.Done():
			return fmt.Errorf("ovsdb-server does not answer: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// supervise starts a daemon again when it dies, as its packages' monitor does.
func (i *Instance) supervise(args func(*Instance) []string, slot **daemon) {
	var deaths []time.Time
	for {
		i.mu.Lock()
		d := *slot
		i.mu.Unlock()
		<-d.done
		i.mu.Lock()
		if i.closed {
			i.mu.Unlock()
			return
		}
		name := args(i)[0]
		now := time.Now()
		for len(deaths) > 0 && now.Sub(deaths[0]) > time.Minute {
			deaths = deaths[1:]
		}
		deaths = append(deaths, now)
		var next *daemon
		err := fmt.Errorf("%s died %d times within a minute, last: %w", name, len(deaths), d.err)
		if len(deaths) <= maxRestarts {
			if next, err = i.launch(args); err == nil {
				*slot = next
			}
		}
		if err != nil {
			i.failed = err
		}
		i.mu.Unlock()
		if err != nil {
			i.cfg.Log.Error("Open vSwitch stays down", "err", err)
			if i.cfg.OnFailure != nil {
				i.cfg.OnFailure(err)
			}
			return
		}
		i.cfg.Log.Warn("Open vSwitch daemon restarted", "daemon", name, "cause", d.err)
		if slot == &i.server {
			ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
			if err := i.reconnect(ctx); err != nil {
				i.cfg.Log.Error("ovsdb-server", "err", err)
			}
			cancel()
		}
		go i.restarted(name, d.err)
	}
}

// restarted waits until a daemon that was started again has done its work, and tells.
func (i *Instance) restarted(daemon string, cause error) {
	// An empty change: a new ovs-vswitchd answers once it has done it all.
	if err := i.commit(context.Background(), &builder{}); err != nil {
		i.cfg.Log.Warn("Open vSwitch daemon restarted, but", "daemon", daemon, "err", err)
		return
	}
	if i.cfg.OnRestart != nil {
		i.cfg.OnRestart(daemon, cause)
	}
}

func (i *Instance) reconnect(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.db.close()
	return i.connect(ctx)
}

// commit applies ops in one transaction and waits until ovs-vswitchd has done so.
func (i *Instance) commit(ctx context.Context, b *builder) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	db, err := i.connection(ctx)
	if err != nil {
		return err
	}
	if err := db.transact(ctx, b.ops...); err != nil {
		return err
	}
	if err := i.startSwitch(); err != nil {
		return err
	}
	if err := i.applied(ctx, b.ports); err != nil {
		return err
	}
	i.TendPorts()
	return nil
}

// startSwitch starts ovs-vswitchd if it has not been started.
func (i *Instance) startSwitch() (err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.vswitch != nil || i.closed {
		return nil
	}
	if i.vswitch, err = i.launch(vswitchArgs); err == nil {
		go i.supervise(vswitchArgs, &i.vswitch)
	}
	return err
}

// connection returns a client whose ovsdb-server lives; supervise brings it back.
func (i *Instance) connection(ctx context.Context) (*client, error) {
	for {
		i.mu.Lock()
		db, failed, closed := i.db, i.failed, i.closed
		i.mu.Unlock()
		switch {
		case failed != nil:
			return nil, failed
		case closed:
			return nil, errLost
		case !db.lost():
			return db, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, and does not answer again: %w", errLost, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TendPorts gives ports of the user datapath that have come up room for bursts, and keeps from
// them what they are to ignore. All changes do so too.
func (i *Instance) TendPorts() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed && i.vswitch != nil {
		if i.tendedOf != i.vswitch {
			i.tended, i.tendedOf = map[uint64]bool{}, i.vswitch
		}
		tendPacketSockets(i.vswitch.cmd.Process.Pid, i.cfg.Ignore, i.tended)
	}
}

// applied waits until ovs-vswitchd's cur_cfg has reached the database's next_cfg
// (ovs-vswitchd.conf.db(5)), and reports which of ports it could not open.
func (i *Instance) applied(ctx context.Context, ports []string) error {
	want := -1.0
	for {
		db, err := i.connection(ctx)
		if err != nil {
			return err
		}
		rows, err := db.Transact(ctx, database, []ovsdb.TransactOp{
			query{Table: "Open_vSwitch", Columns: []string{"cur_cfg", "next_cfg"}}})
		if errors.Is(err, errLost) {
			continue // with the next one: what was committed is in its file
		}
		if err != nil || len(rows) != 1 {
			return fmt.Errorf("switch database: %w", orElse(err, errNoRow))
		}
		cur, _ := rows[0]["cur_cfg"].(float64)
		next, _ := rows[0]["next_cfg"].(float64)
		if want < 0 {
			want = next
		}
		switch {
		case cur >= want:
			return interfaceErrors(ctx, db, ports)
		case ctx.Err() != nil:
			return fmt.Errorf("ovs-vswitchd has not applied the configuration: %w", ctx.Err())
		}
		// A failed wait shows in the next round's query.
		db.Transact(ctx, database, []ovsdb.TransactOp{
			wait{Table: "Open_vSwitch", Timeout: 500, Not: row{"cur_cfg": cur}}})
	}
}

// interfaceErrors reports which of ports ovs-vswitchd could not open.
func interfaceErrors(ctx context.Context, db *client, ports []string) error {
	if len(ports) == 0 {
		return nil
	}
	rows, err := db.Transact(ctx, database, []ovsdb.TransactOp{query{Table: "Interface",
		Where: []cond{{"error", "!=", set[string](nil)}}, Columns: []string{"name", "error"}}})
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range rows {
		if name, _ := r["name"].(string); slices.Contains(ports, name) {
			errs = append(errs, fmt.Errorf("switch port %s: %v", name, r["error"]))
		}
	}
	return errors.Join(errs...)
}

// Close ends both daemons. It is bounded: what does not end is killed.
func (i *Instance) Close() error {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return nil
	}
	i.closed = true
	server, vswitch := i.server, i.vswitch
	i.mu.Unlock()
	if i.db != nil {
		i.db.close()
	}
	var errs []error
	var release func()
	if vswitch != nil {
		release = holdPacketSockets(vswitch.cmd.Process.Pid)
	}
	for _, d := range []*daemon{vswitch, server} {
		if d == nil {
			continue
		}
		d.cmd.Process.Kill()
		select {
		case <-d.done:
		case <-time.After(10 * time.Second):
			errs = append(errs, fmt.Errorf("%s has not ended after SIGKILL", d.cmd.Args[0]))
		}
	}
	if release != nil {
		release()
	}
	return errors.Join(errs...)
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
