package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weft/api"
	"weft/network"
	"weft/topo"
)

// An Observer tells what a network is.
type Observer interface {
	State(ctx context.Context) (network.State, error)
	Wait(ctx context.Context, timeout time.Duration) ([]network.ControlConnection, error)
}

// A Measurer measures a network.
type Measurer interface {
	Ping(ctx context.Context, r network.PingRequest) (network.PingResult, error)
	Iperf(ctx context.Context, r network.IperfRequest) (network.IperfResult, error)
}

// A Builder changes what a network consists of.
type Builder interface {
	AddHost(ctx context.Context, h topo.Host) (topo.PlannedHost, error)
	AddSwitch(ctx context.Context, s topo.Switch) (topo.PlannedSwitch, error)
	AddLink(ctx context.Context, l topo.Link) (topo.PlannedLink, error)
	DeleteNode(ctx context.Context, name string) error
	DeleteLink(ctx context.Context, a, b string) error
}

// An Operator switches parts of a network on and off, and runs commands on nodes.
type Operator interface {
	ChangeLink(ctx context.Context, a, b string, c network.LinkChange) ([]network.LinkState, error)
	SetSwitch(ctx context.Context, name string, running bool) error
	Shell(ctx context.Context, r api.ShellRequest, stdin io.Reader, stdout io.Writer, interrupt <-chan struct{}, resize <-chan api.Size) (int, error)
}

// A Client is a running network: an *api.Client.
type Client interface {
	Observer
	Measurer
	Builder
	Operator
	Functions
}

var _ Client = (*api.Client)(nil)

// A live network is the backend of a world whose network runs.
//
// Scripts may do several things at a time, but one at a time evaluates: the turn, a lock of
// each evaluation, is held by the one that does, and given up by what waits for the network.
type live struct {
	w      *world
	client Client
	show   func(Measured)
	// file returns the absolute path of a file that a link is to read or, as a record, to
	// write: what may be written depends on whose script it is.
	file func(name string, record bool) (string, error)
	// changed, if not nil, is told of a plan after nodes or links have come or gone.
	changed func(*topo.Plan)

	mu    sync.Mutex
	ctx   context.Context // of the evaluation that runs
	state network.State
	asked time.Time
	// What scripts have given interfaces since they were planned.
	ips  map[topo.PlannedEnd]netip.Addr
	macs map[topo.PlannedEnd]string
	jobs map[string]*job // of sendCmd, by node
}

func newLive(client Client, show func(Measured)) *live {
	if show == nil {
		show = func(Measured) {}
	}
	return &live{client: client, show: show, file: ownFile, ctx: context.Background(),
		ips: map[topo.PlannedEnd]netip.Addr{}, macs: map[topo.PlannedEnd]string{}, jobs: map[string]*job{}}
}

var _ backend = (*live)(nil)

// ownFile is for those who type what they want: any file.
func ownFile(name string, _ bool) (string, error) { return filepath.Abs(name) }

// options returns options of links with the absolute paths of their files.
func (l *live) options(list []string) ([]string, error) {
	list = slices.Clone(list)
	for i, o := range list {
		key, name, _ := strings.Cut(o, "=")
		bare := key[strings.IndexByte(key, ':')+1:]
		if bare != "record" && bare != "trace" || name == "" || name == "none" || name == "0" {
			continue
		}
		path, err := l.file(name, bare == "record")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", bare, err)
		}
		list[i] = key + "=" + path
	}
	return list, nil
}

// begin sets the context of what is evaluated next.
func (l *live) begin(ctx context.Context) {
	l.mu.Lock()
	l.ctx = ctx
	l.mu.Unlock()
}

// turnKey is where a thread keeps the lock that it shares with others of its evaluation.
const turnKey = "turn"

// wait calls f, which waits for the network, and lets others evaluate meanwhile.
func (l *live) wait(c *call, f func() error) error {
	turn := c.thread.Local(turnKey).(*sync.Mutex)
	turn.Unlock()
	defer turn.Lock()
	return f()
}

// do calls f, which changes the network.
func (l *live) do(c *call, f func() error) error {
	err := l.wait(c, f)
	l.mu.Lock()
	l.asked = time.Time{}
	l.mu.Unlock()
	return err
}

// alter calls f, which adds or removes nodes or links.
func (l *live) alter(c *call, f func() error) error {
	err := l.do(c, f)
	if err != nil || l.changed == nil {
		return err
	}
	p, err := l.plan()
	if err == nil {
		l.changed(p)
	}
	return err
}

// fresh is how long a state is believed that nobody here has changed.
const fresh = 200 * time.Millisecond

// now returns the network's state; its plan is not nil.
func (l *live) now() (network.State, error) {
	l.mu.Lock()
	st, ctx, ok := l.state, l.ctx, time.Since(l.asked) < fresh
	l.mu.Unlock()
	if ok {
		return st, nil
	}
	st, err := l.client.State(ctx)
	if err != nil {
		return st, err
	}
	if st.Plan == nil {
		return st, errors.New("the network is not built yet")
	}
	l.mu.Lock()
	l.state, l.asked = st, time.Now()
	l.mu.Unlock()
	return st, nil
}

func (l *live) plan() (*topo.Plan, error) {
	st, err := l.now()
	return st.Plan, err
}

func (l *live) kindOf(name string) (kind, error) {
	p, err := l.plan()
	switch {
	case err != nil:
		return "", err
	case p.Host(name) != nil:
		return hostKind, nil
	case p.Switch(name) != nil:
		return switchKind, nil
	case p.Controller(name) != nil:
		return controllerKind, nil
	}
	var names []string
	for _, k := range []kind{hostKind, switchKind, controllerKind} {
		more, err := l.list(k)
		if err != nil {
			return "", err
		}
		names = append(names, more...)
	}
	return "", unknown("node", name, names)
}

func (l *live) list(k kind) ([]string, error) {
	p, err := l.plan()
	if err != nil {
		return nil, err
	}
	var names []string
	switch k {
	case hostKind:
		for _, h := range p.Hosts {
			names = append(names, h.Name)
		}
	case switchKind:
		for _, s := range p.Switches {
			names = append(names, s.Name)
		}
	case controllerKind:
		for _, c := range p.Controllers {
			names = append(names, c.Name)
		}
	}
	return names, nil
}

func (l *live) links() ([]*link, error) {
	p, err := l.plan()
	if err != nil {
		return nil, err
	}
	var all []*link
	for _, x := range p.Links {
		all = append(all, l.link(x))
	}
	return all, nil
}

func (l *live) link(p topo.PlannedLink) *link {
	return &link{l.w, &wire{id: p.ID, a: p.A.Node, b: p.B.Node, ends: [2]string{p.A.Interface, p.B.Interface}}}
}

func (l *live) addNode(c *call, what any) error {
	return l.alter(c, func() (err error) {
		switch n := what.(type) {
		case topo.Host:
			_, err = l.client.AddHost(c.ctx(), n)
		case topo.Switch:
			_, err = l.client.AddSwitch(c.ctx(), n)
		default:
			err = errors.New("the network runs, and its controllers cannot change any more")
		}
		return err
	})
}

func (l *live) addLink(c *call, t topo.Link) (made *link, err error) {
	options, err := l.options(t.Options())
	if err != nil {
		return nil, err
	}
	driver := t.Driver
	t.LinkSettings = topo.LinkSettings{}
	if err := t.Set(options...); err != nil {
		return nil, err
	}
	t.Driver = driver
	err = l.alter(c, func() error {
		p, err := l.client.AddLink(c.ctx(), t)
		made = l.link(p)
		return err
	})
	return made, err
}

func (l *live) removeNode(c *call, name string) error {
	return l.alter(c, func() error { return l.client.DeleteNode(c.ctx(), name) })
}

func (l *live) removeLink(c *call, x *link) error {
	found, err := l.w.between(x.a, x.b)
	switch {
	case err != nil:
		return err
	case len(found) > 1:
		return fmt.Errorf("%d links join %s and %s; net.delLinkBetween removes all of them", len(found), x.a, x.b)
	}
	return l.alter(c, func() error { return l.client.DeleteLink(c.ctx(), x.a, x.b) })
}

// changeLink changes a link.
func (l *live) changeLink(c *call, x *link, change network.LinkChange) error {
	var err error
	if change.Options, err = l.options(change.Options); err != nil {
		return err
	}
	return l.do(c, func() error {
		_, err := l.client.ChangeLink(c.ctx(), strconv.Itoa(x.id), "", change)
		return err
	})
}
