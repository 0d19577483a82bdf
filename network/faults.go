package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"weft/topo"
)

// A FaultRequest asks for one kind of trouble, which lasts until it is stopped, has done all
// that it was to do, or the network ends.
type FaultRequest struct {
	Flap *Flap `json:"flap,omitempty"`
	// Schedule is lines of what happens when; see ParseSchedule.
	Schedule string `json:"schedule,omitempty"`
	// Partition keeps hosts in different groups from hearing each other; it takes the place
	// of a partition that there is.
	Partition [][]string `json:"partition,omitempty"`
}

// A Flap takes links down and up again: every Period for Down; or by chance, with mean times
// between failures and to repair that are distributed exponentially. Each link fails for itself.
type Flap struct {
	Links  []string      `json:"links"` // names (topo.Plan.FindLinks)
	Period time.Duration `json:"periodNs,omitempty"`
	Down   time.Duration `json:"downNs,omitempty"`
	MTBF   time.Duration `json:"mtbfNs,omitempty"`
	MTTR   time.Duration `json:"mttrNs,omitempty"`
	// Seed makes chance repeatable; nil for a random one.
	Seed *uint64 `json:"seed,omitempty"`
	// Count is how often each link fails; 0: without end.
	Count int `json:"count,omitempty"`
	// Cut drops frames, rather than take both ends down.
	Cut bool `json:"cut,omitempty"`
}

// A Fault is trouble that is going on.
type Fault struct {
	ID   int    `json:"id"`
	Kind string `json:"kind"` // "flap", "schedule" or "partition"
	// Text says what it does, for people.
	Text    string    `json:"text"`
	Started time.Time `json:"started"`
	// Done counts what has happened: failures, lines of the schedule.
	Done int `json:"done"`
	// Next is when something will, if that is known.
	Next time.Time `json:"next,omitzero"`
}

// faults are those that go on.
type faults struct {
	mu      sync.Mutex
	running map[int]*fault
	next    int
	closed  bool
	wg      sync.WaitGroup
}

// A fault is one that goes on. Its state is guarded by faults.mu.
type fault struct {
	Fault
	link int
	stop func()        // may be called more than once
	over chan struct{} // closed when it has put right what it did
}

// shortest bounds how often links can fail: to take one down and up takes milliseconds.
const shortest = 10 * time.Millisecond

func (f Flap) check() error {
	periodic, random := f.Period != 0 || f.Down != 0, f.MTBF != 0 || f.MTTR != 0
	switch {
	case len(f.Links) == 0:
		return errors.New("flap: write which links")
	case periodic == random:
		return errors.New("flap: write period and down, or mtbf and mttr")
	case periodic && (f.Down < shortest || f.Period-f.Down < shortest):
		return fmt.Errorf("flap: down is at least %v, and period at least that much longer", shortest)
	case random && (f.MTBF < shortest || f.MTTR < shortest):
		return fmt.Errorf("flap: mtbf and mttr are at least %v", shortest)
	case f.Seed != nil && !random:
		return errors.New("flap: a seed is for mtbf and mttr")
	case f.Count < 0:
		return fmt.Errorf("flap: %d is not a number of failures", f.Count)
	}
	return nil
}

// text says what a flap does.
func (f Flap) text(link string) string {
	what := "down"
	if f.Cut {
		what = "cut"
	}
	how := fmt.Sprintf("%s every %v for %v", what, f.Period, f.Down)
	if f.MTBF != 0 {
		how = fmt.Sprintf("%s by chance: mtbf %v, mttr %v, seed %d", what, f.MTBF, f.MTTR, *f.Seed)
	}
	if f.Count > 0 {
		how += fmt.Sprintf(", %d times", f.Count)
	}
	return link + " " + how
}

// StartFault starts trouble and returns it: for a flap, one for each link.
func (n *Network) StartFault(ctx context.Context, r FaultRequest) ([]Fault, error) {
	kinds := 0
	for _, asked := range []bool{r.Flap != nil, r.Schedule != "", r.Partition != nil} {
		if asked {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, errors.New("a fault is one of flap, schedule, partition")
	}
	switch {
	case r.Flap != nil:
		return n.startFlap(*r.Flap)
	case r.Schedule != "":
		return n.startSchedule(r.Schedule)
	}
	f, err := n.startPartition(ctx, r.Partition)
	if err != nil {
		return nil, err
	}
	return []Fault{f}, nil
}

func (n *Network) startFlap(f Flap) ([]Fault, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.MTBF != 0 && f.Seed == nil {
		seed := rand.Uint64()
		f.Seed = &seed
	}
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	type target struct {
		view   topo.LinkView
		oneWay bool
	}
	var targets []target
	for _, name := range f.Links {
		views, oneWay, err := plan.FindLinks(name)
		if err != nil {
			return nil, err
		}
		for _, v := range views {
			if !slices.ContainsFunc(targets, func(t target) bool { return t.view.ID == v.ID }) {
				targets = append(targets, target{v, oneWay})
			}
		}
	}
	var started []Fault
	for _, t := range targets {
		f := f
		f.Cut = f.Cut || t.oneWay
		title := t.view.Near().Interface + "–" + t.view.Far().Interface
		if t.oneWay {
			title = t.view.Near().Interface + "→" + t.view.Far().Interface
		}
		fail := func(down bool) LinkChange {
			up := !down
			if !f.Cut {
				return LinkChange{Up: &up}
			}
			return LinkChange{Cut: &down, Way: map[bool]string{true: "ab"}[t.oneWay]}
		}
		st, err := n.startFault("flap", f.text(title), t.view.ID, func(ctx context.Context, note func(done int, next time.Time)) error {
			return n.flap(ctx, f, t.view, fail, note)
		})
		if err != nil {
			return started, err
		}
		started = append(started, st)
	}
	return started, nil
}

// startFault runs a fault beside the caller until it ends or is stopped. Run puts right what
// is to be put right when ctx ends. link is the ID of the link that it is about, 0 if there
// is no such.
func (n *Network) startFault(kind, text string, link int, run func(ctx context.Context, note func(done int, next time.Time)) error) (Fault, error) {
	l := &n.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Fault{}, errors.New("the network is going down")
	}
	if l.running == nil {
		l.running = map[int]*fault{}
	}
	for _, other := range l.running {
		if link != 0 && other.link == link {
			return Fault{}, fmt.Errorf("fault %d is about this link already: %s", other.ID, other.Text)
		}
	}
	l.next++
	ctx, cancel := context.WithCancel(context.Background())
	f := &fault{Fault{ID: l.next, Kind: kind, Text: text, Started: time.Now()}, link, cancel, make(chan struct{})}
	l.running[f.ID] = f
	n.events.emit("INFO", "", fmt.Sprintf("fault %d begins: %s", f.ID, text))
	l.wg.Go(func() {
		defer close(f.over)
		err := run(ctx, func(done int, next time.Time) {
			l.mu.Lock()
			f.Done, f.Next = done, next
			l.mu.Unlock()
		})
		l.mu.Lock()
		delete(l.running, f.ID)
		closed := l.closed
		l.mu.Unlock()
		switch {
		case closed:
		case err != nil:
			n.events.emit("WARN", "", fmt.Sprintf("fault %d (%s) has ended: %v", f.ID, text, err))
		default:
			n.events.emit("INFO", "", fmt.Sprintf("fault %d has ended: %s", f.ID, text))
		}
	})
	return f.Fault, nil
}

// Faults returns the trouble that is going on.
func (n *Network) Faults() []Fault {
	n.faults.mu.Lock()
	defer n.faults.mu.Unlock()
	list := []Fault{}
	for _, id := range slices.Sorted(maps.Keys(n.faults.running)) {
		list = append(list, n.faults.running[id].Fault)
	}
	return list
}

// StopFaults ends faults, all if none is named, and waits until they have put right what they
// did: a link that fails is up again.
func (n *Network) StopFaults(ctx context.Context, ids ...int) error {
	n.faults.mu.Lock()
	var stop []*fault
	if len(ids) == 0 {
		stop = slices.Collect(maps.Values(n.faults.running))
	}
	for _, id := range ids {
		f := n.faults.running[id]
		if f == nil {
			n.faults.mu.Unlock()
			return fmt.Errorf("there is no fault %d", id)
		}
		stop = append(stop, f)
	}
	n.faults.mu.Unlock()
	for _, f := range stop {
		f.stop()
	}
	for _, f := range stop {
		select {
		case <-f.over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stopFault tells a fault to end.
func (n *Network) stopFault(id int) {
	n.faults.mu.Lock()
	defer n.faults.mu.Unlock()
	if f := n.faults.running[id]; f != nil {
		f.stop()
	}
}

// closeFaults ends all faults for good, and puts nothing right any more.
func (n *Network) closeFaults() {
	n.faults.mu.Lock()
	n.faults.closed = true
	for _, f := range n.faults.running {
		f.stop()
	}
	n.faults.mu.Unlock()
	n.faults.wg.Wait()
}

func (n *Network) ending() bool {
	n.faults.mu.Lock()
	defer n.faults.mu.Unlock()
	return n.faults.closed
}

// flap makes a link fail until ctx ends.
func (n *Network) flap(ctx context.Context, f Flap, v topo.LinkView, fail func(down bool) LinkChange, note func(int, time.Time)) (err error) {
	chance := randomOf(f.Seed, v)
	isDown := false
	set := func(down bool) error {
		// A change that has begun is finished; how long it may take is bounded.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
		defer cancel()
		n.change.Lock()
		defer n.change.Unlock()
		l := n.plannedLink(v.ID)
		if l == nil {
			return errLinkGone
		}
		isDown = down
		return n.changeLinks(ctx, []topo.LinkView{{PlannedLink: *l, Turned: v.Turned}}, fail(down))
	}
	defer func() {
		if isDown && !n.ending() {
			err = errors.Join(err, set(false))
		}
		if errors.Is(err, errLinkGone) {
			err = errLinkGone
		}
	}()
	at := time.Now()
	for done := 0; ; {
		if f.MTBF != 0 {
			at = at.Add(time.Duration(chance.ExpFloat64() * float64(f.MTBF)))
		}
		note(done, at)
		if !sleepUntil(ctx, at) {
			return nil
		}
		if err := set(true); err != nil {
			return err
		}
		done++
		downFor := f.Down
		if f.MTBF != 0 {
			downFor = time.Duration(chance.ExpFloat64() * float64(f.MTTR))
		}
		note(done, at.Add(downFor))
		if !sleepUntil(ctx, at.Add(downFor)) {
			return nil
		}
		if err := set(false); err != nil {
			return err
		}
		if done == f.Count {
			return nil
		}
		if at = at.Add(cmp.Or(f.Period, downFor)); time.Since(at) > 0 {
			at = time.Now() // this machine is too slow for it: no two failures at once
		}
	}
}

// changeTimeout bounds what a fault does to a link.
const changeTimeout = 30 * time.Second

var errLinkGone = errors.New("the link is gone")

// randomOf returns a source of chance for a link of its own.
func randomOf(seed *uint64, v topo.LinkView) *rand.Rand {
	if seed == nil {
		return nil
	}
	h := fnv.New64a()
	h.Write([]byte(v.Near().Interface + " " + v.Far().Interface))
	return rand.New(rand.NewPCG(*seed, h.Sum64()))
}

// sleepUntil reports whether the time came before ctx ended.
func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
