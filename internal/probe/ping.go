package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// PingConfig says who pings whom, and how patiently.
type PingConfig struct {
	// Pairs are indices into the hosts: source, destination.
	Pairs [][2]int
	IPv6  bool
	// Timeout is the wait for each reply before the next try (default 1 s).
	Timeout time.Duration
	// Tries is how often an echo is tried before it counts as lost (default 3). A
	// reply to an earlier try counts while a later one is waited for, and if there
	// are several, the last waits up to eight timeouts longer while other replies
	// come late: then the network is overloaded, not cut.
	Tries int
	// Count is how many echoes each pair exchanges, one after the other (default 1).
	Count int
	// Window is the most echoes in flight at once (default 4096). How many there are
	// depends on how promptly replies come.
	Window int
}

const (
	defaultTimeout = time.Second
	defaultTries   = 3
	defaultWindow  = 4096
	// maxPerPair is how many echoes and tries the packet has room to number.
	maxPerPair = math.MaxUint16
)

// A PairResult is what came of one of PingConfig.Pairs.
type PairResult struct {
	Sent     int             // echoes, without retries
	Received int             // echoes answered
	Retries  int             // tries beyond the first of each echo
	Extra    int             // replies that were duplicates, or came too late to count
	RTT      []time.Duration // of the received, in order
	Error    string          // why nothing was received, where the network or the kernel said why
}

// Ping exchanges ICMP echoes between all pairs at once and returns a result for each,
// in the order of cfg.Pairs. A host that cannot be reached is a loss, not an error;
// an error means that Ping could not ask. When ctx ends, Ping returns what it has and
// ctx's error. progress, if not nil, is told how many pairs are done, a few times a
// second.
//
// One goroutine drives one socket per sending host:
//
//	order ──┐                    reply ──────────────► next echo, or done
//	        ├► take ► send ► in flight
//	ready ──┘                    timeout, ICMP error ► ready (next try), or lost
//	  ▲                                                     │
//	  └──────────── the pair's way back ◄───────────────────┘
//
// order lists the pairs so that neighbours in it load different hosts; ready holds
// those whose turn has come again.
func Ping(ctx context.Context, hosts []Host, cfg PingConfig, progress func(done, total int)) ([]PairResult, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.Tries = cmp.Or(cfg.Tries, defaultTries)
	cfg.Count = cmp.Or(cfg.Count, 1)
	cfg.Window = cmp.Or(cfg.Window, defaultWindow)
	switch {
	case cfg.Timeout < 0 || cfg.Window < 0:
		return nil, errors.New("ping: timeout and window must be positive")
	case cfg.Tries < 1 || cfg.Tries > maxPerPair:
		return nil, fmt.Errorf("ping: tries must be from 1 to %d", maxPerPair)
	case cfg.Count < 1 || cfg.Count > maxPerPair:
		return nil, fmt.Errorf("ping: count must be from 1 to %d", maxPerPair)
	case int64(len(cfg.Pairs)) > math.MaxInt32:
		return nil, errors.New("ping: too many pairs")
	}
	for _, pair := range cfg.Pairs {
		if min(pair[0], pair[1]) < 0 || max(pair[0], pair[1]) >= len(hosts) {
			return nil, fmt.Errorf("ping: pair %v is not among %d hosts", pair, len(hosts))
		}
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	p := newPinger(hosts, cfg)
	defer p.close()
	if err := p.open(); err != nil {
		return nil, err
	}
	if 2*len(p.order) > roomyNeighbours {
		p.reserve()
	}
	err := p.run(ctx, progress)
	return p.results, err
}

// A pinger is one call of Ping.
type pinger struct {
	hosts    []Host
	cfg      PingConfig
	template echo // ident and run of this call

	epoll   int
	sockets []int           // per host, -1 if it sends nothing
	peers   []unix.Sockaddr // per host, nil if it has no address
	batch   *batch
	packet  [echoLen]byte

	begin    time.Time
	results  []PairResult
	pairs    []pairState
	chains   []int32 // the first pair of each chain, see plan
	order    []int32 // those of chains that have not begun
	ready    queue[ticket]
	flight   queue[deadline] // by deadline: all wait equally long
	inFlight int
	done     int
	window   window
	reasons  map[icmpError]string // so that a million losses share a text

	// When the kernel has no room for a packet, nothing is sent until resume. That
	// may go on for maxBlocked after lastReply.
	resume, lastReply time.Duration
	lastLate          time.Duration // when a reply came after its try was given up
	reserved          bool          // reserve has been called
}

// A pairState is where a pair is. Which echo it is at is PairResult.Sent.
type pairState struct {
	turn    uint32 // counts its events, so that a ticket for an older one is void
	try     uint16 // of the current echo
	open    bool   // the current echo is neither answered nor lost
	waiting bool   // its latest try is in flight
	more    uint8  // timeouts that its last try has waited longer
	next    int32  // the pair that begins when this one has been tried; -1 for none
}

// A ticket stands for a pair as long as nothing has happened to it since.
type ticket struct {
	pair int32
	turn uint32
}

type deadline struct {
	ticket
	at time.Duration // since begin
}

const (
	sendBurst    = 64 // echoes sent between two looks for replies
	recvBurst    = 16
	blockedPause = 20 * time.Millisecond
	maxBlocked   = 15 * time.Second
	maxMore      = 8 // timeouts, see PingConfig.Tries
	progressStep = 100 * time.Millisecond
)

func newPinger(hosts []Host, cfg PingConfig) *pinger {
	p := &pinger{
		hosts:    hosts,
		cfg:      cfg,
		template: echo{ident: uint16(rand.Uint32()), run: rand.Uint64()},
		epoll:    -1,
		sockets:  make([]int, len(hosts)),
		peers:    make([]unix.Sockaddr, len(hosts)),
		batch:    newBatch(recvBurst, 128),
		results:  make([]PairResult, len(cfg.Pairs)),
		pairs:    make([]pairState, len(cfg.Pairs)),
		window:   newWindow(cfg.Window, cfg.Timeout),
		reasons:  make(map[icmpError]string),
		lastLate: math.MinInt64 / 2,
	}
	for i, h := range hosts {
		p.sockets[i] = -1
		if addr := h.addr(cfg.IPv6); addr.IsValid() {
			p.peers[i] = sockaddr(addr, 0)
		}
	}
	rtts := make([]time.Duration, len(cfg.Pairs)*cfg.Count)
	for i := range p.results {
		p.results[i].RTT = rtts[i*cfg.Count : i*cfg.Count : (i+1)*cfg.Count]
	}
	p.chains = p.plan()
	p.order = p.chains
	return p
}

// plan returns the order in which pairs begin. It goes by distance on the circle of
// hosts, so that each host has about the same to do at any time. Pairs of the same
// two hosts form a chain of which only the first is in the order: its exchange
// teaches both hosts each other's MAC, and the switches the way, so the second needs
// no broadcast.
func (p *pinger) plan() []int32 {
	type place struct {
		distance, from, to, pair int32
	}
	n := int32(len(p.hosts))
	places := make([]place, 0, len(p.cfg.Pairs))
	for i, pair := range p.cfg.Pairs {
		p.pairs[i].next = -1
		if reason := p.impossible(pair); reason != "" {
			p.results[i].Error = reason
			p.results[i].Sent = p.cfg.Count
			p.done++
			continue
		}
		from, to := int32(pair[0]), int32(pair[1])
		if (to-from+n)%n > n/2 || (to-from+n)%n*2 == n && from > to {
			from, to = to, from
		}
		places = append(places, place{(to - from + n) % n, from, to, int32(i)})
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.from, b.from), cmp.Compare(a.pair, b.pair))
	})
	order := make([]int32, 0, (len(places)+1)/2)
	for i, x := range places {
		if i > 0 && places[i-1].from == x.from && places[i-1].to == x.to {
			p.pairs[places[i-1].pair].next = x.pair
			continue
		}
		order = append(order, x.pair)
	}
	return order
}

// impossible says why a pair cannot be pinged at all, if so.
func (p *pinger) impossible(pair [2]int) string {
	for _, host := range pair {
		if p.peers[host] == nil {
			return p.hosts[host].noAddress(p.cfg.IPv6)
		}
	}
	return ""
}

// open opens a socket on each host that sends.
func (p *pinger) open() error {
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return p.openError("ping", err)
	}
	for _, pair := range p.cfg.Pairs {
		host := pair[0]
		if p.sockets[host] >= 0 || p.impossible(pair) != "" {
			continue
		}
		fd, err := p.hosts[host].socket(p.cfg.IPv6, unix.SOCK_RAW|unix.SOCK_NONBLOCK, p.protocol(), p.setup)
		if err != nil {
			return p.openError("ping: open an ICMP socket on "+p.hosts[host].Name, err)
		}
		p.sockets[host] = fd
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(host)}
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return p.openError("ping: watch the ICMP socket on "+p.hosts[host].Name, err)
		}
	}
	return nil
}

// reserve makes room for the hosts in each other's neighbour tables, once. A few hosts
// do without it until there are signs that they cannot.
func (p *pinger) reserve() {
	if p.reserved {
		return
	}
	p.reserved = true
	peers := make([][]netip.Addr, len(p.hosts))
	for _, pair := range p.chains {
		a, b := p.cfg.Pairs[pair][0], p.cfg.Pairs[pair][1]
		peers[a] = append(peers[a], p.hosts[b].addr(p.cfg.IPv6))
		peers[b] = append(peers[b], p.hosts[a].addr(p.cfg.IPv6))
	}
	for host, list := range peers {
		if list != nil {
			reserveNeighbours(p.hosts[host], list)
		}
	}
}

func (p *pinger) protocol() int {
	if p.cfg.IPv6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// setup prepares a socket.
func (p *pinger) setup(fd int) error {
	filter := echoFilter(p.cfg.IPv6, p.template.ident, p.template.run)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return fmt.Errorf("attach a filter: %w", err)
	}
	level, option := unix.IPPROTO_IP, unix.IP_RECVERR
	if p.cfg.IPv6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	return errors.Join(
		unix.SetsockoptInt(fd, level, option, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20),
	)
}

// openError explains the errors that a user can do something about.
func (p *pinger) openError(doing string, err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
			return fmt.Errorf("%s: ping needs a file descriptor for each of %d hosts, but this process may have only %d open: raise the limit with `ulimit -n`: %w",
				doing, len(p.hosts), limit.Cur, err)
		}
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w (it needs CAP_NET_RAW in the host's namespace)", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func (p *pinger) close() {
	for _, fd := range append(p.sockets, p.epoll) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// run pings until every pair is done.
func (p *pinger) run(ctx context.Context, progress func(done, total int)) error {
	p.begin = time.Now()
	events := make([]unix.EpollEvent, 256)
	var told time.Duration
	for p.done < len(p.pairs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := p.now()
		p.expire(now)
		p.fill(now)
		if now-told >= progressStep {
			told = now
			progress(p.done, len(p.pairs))
		}
		n, err := unix.EpollWait(p.epoll, events, p.patience(now))
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("ping: wait for replies: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			if event.Events&unix.EPOLLERR != 0 {
				p.receiveErrors(int(event.Fd))
			}
			if event.Events&unix.EPOLLIN != 0 {
				p.receive(int(event.Fd))
			}
		}
	}
	progress(p.done, len(p.pairs))
	return nil
}

func (p *pinger) now() time.Duration { return time.Since(p.begin) }

// patience returns how many ms to wait for replies.
func (p *pinger) patience(now time.Duration) int {
	wait := pollSlice
	if p.pending() && !p.window.full(p.inFlight) {
		wait = min(wait, p.resume-now)
	}
	if first, ok := p.flight.first(); ok {
		wait = min(wait, first.at-now)
	}
	return int((max(wait, 0) + time.Millisecond - 1) / time.Millisecond)
}

func (p *pinger) pending() bool {
	_, ok := p.ready.first()
	return ok || len(p.order) > 0
}

// fill sends what the window has room for.
func (p *pinger) fill(now time.Duration) {
	for range sendBurst {
		if now < p.resume || p.window.full(p.inFlight) {
			return
		}
		pair, ok := p.take()
		if !ok {
			return
		}
		if !p.send(pair) {
			p.resume = now + blockedPause
			p.window.halve(now)
		}
	}
}

// take returns a pair whose turn it is to send.
func (p *pinger) take() (int32, bool) {
	for {
		t, ok := p.ready.first()
		if !ok {
			break
		}
		p.ready.pop()
		if p.pairs[t.pair].turn == t.turn {
			return t.pair, true
		}
	}
	if len(p.order) == 0 {
		return 0, false
	}
	pair := p.order[0]
	p.order = p.order[1:]
	return pair, true
}

// enqueue gives a pair another turn.
func (p *pinger) enqueue(pair int32) {
	p.ready.push(ticket{pair, p.pairs[pair].turn})
}

// send sends the next try of a pair. It returns false if the kernel has no room for
// it at the moment.
func (p *pinger) send(pair int32) bool {
	s, r := &p.pairs[pair], &p.results[pair]
	if !s.open {
		s.open, s.try, s.more = true, 0, 0
		r.Sent++
	}
	s.try++
	s.turn++
	src, dst := p.cfg.Pairs[pair][0], p.cfg.Pairs[pair][1]
	err := p.transmit(src, dst, pair, r.Sent, s.try)
	full := errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EAGAIN)
	if err != nil && !full {
		// What the socket reports may be an ICMP error about an earlier packet.
		p.receiveErrors(src)
		err = p.transmit(src, dst, pair, r.Sent, s.try)
	}
	now := p.now()
	if full && now-p.lastReply < maxBlocked {
		p.reserve()
		s.try--
		p.enqueue(pair)
		return false
	}
	if s.try > 1 {
		r.Retries++
	}
	switch {
	case err == nil:
		s.waiting = true
		p.inFlight++
		p.flight.push(deadline{ticket{pair, s.turn}, now + p.cfg.Timeout})
	case full:
		p.fail(pair, "the kernel has no room for another packet or neighbour (see net.ipv4.neigh.default.gc_thresh3)")
	default:
		p.fail(pair, p.reason(icmpError{errno: err.(unix.Errno)}))
	}
	return true
}

func (p *pinger) transmit(src, dst int, pair int32, serial int, try uint16) error {
	e := p.template
	e.pair, e.serial, e.try = uint32(pair), uint16(serial), try
	now := time.Now()
	e.wall, e.clock = now.UnixNano(), now.Sub(p.begin)
	e.put(p.packet[:], p.cfg.IPv6)
	for {
		err := unix.Sendto(p.sockets[src], p.packet[:], unix.MSG_NOSIGNAL, p.peers[dst])
		if err != unix.EINTR {
			return err
		}
	}
}

func (p *pinger) reason(e icmpError) string {
	text, ok := p.reasons[e]
	if !ok {
		text = e.String()
		p.reasons[e] = text
	}
	return text
}

// expire fails the tries whose time is over.
func (p *pinger) expire(now time.Duration) {
	for {
		d, ok := p.flight.first()
		if !ok {
			return
		}
		if p.pairs[d.pair].turn == d.turn {
			if now < d.at {
				return
			}
			if p.extend(d.pair, now) {
				p.flight.push(deadline{d.ticket, now + p.cfg.Timeout})
			} else {
				p.reserve() // the destination had no room for the source, perhaps
				p.window.expired()
				p.fail(d.pair, "")
			}
		}
		p.flight.pop()
	}
}

// extend tells whether a pair's last try may wait longer, see PingConfig.Tries.
func (p *pinger) extend(pair int32, now time.Duration) bool {
	s := &p.pairs[pair]
	if s.try == 1 || int(s.try) < p.cfg.Tries || s.more == maxMore || now-p.lastLate > 2*p.cfg.Timeout {
		return false
	}
	s.more++
	return true
}

// fail ends the current try of a pair: it gets another, or its echo is lost.
func (p *pinger) fail(pair int32, reason string) {
	s, r := &p.pairs[pair], &p.results[pair]
	if reason != "" && r.Received == 0 {
		r.Error = reason
	}
	if int(s.try) < p.cfg.Tries {
		p.land(pair)
		p.enqueue(pair)
		p.follow(pair)
		return
	}
	p.finish(pair)
}

// land takes a pair's latest try out of the air.
func (p *pinger) land(pair int32) {
	s := &p.pairs[pair]
	s.turn++
	if s.waiting {
		s.waiting = false
		p.inFlight--
	}
}

// follow lets the next pair of the chain begin.
func (p *pinger) follow(pair int32) {
	s := &p.pairs[pair]
	if s.next >= 0 {
		p.enqueue(s.next)
		s.next = -1
	}
}

// finish ends the current echo of a pair.
func (p *pinger) finish(pair int32) {
	p.land(pair)
	p.pairs[pair].open = false
	if p.results[pair].Sent < p.cfg.Count {
		p.enqueue(pair)
	} else {
		p.done++
	}
	p.follow(pair)
}

// receive takes the replies that arrived at a host.
func (p *pinger) receive(host int) { p.replies(host, p.replied) }

// replies calls f for each reply that has arrived at a host.
func (p *pinger) replies(host int, f func(e echo, rtt time.Duration)) {
	n, err := p.batch.recv(p.sockets[host], unix.MSG_DONTWAIT)
	if err != nil {
		return // nothing there, or an error that the error queue explains
	}
	now := time.Now()
	for i := range n {
		message, typ, ok := p.batch.data(i), byte(icmpEchoReply), true
		if p.cfg.IPv6 {
			typ = icmpv6EchoReply
		} else {
			message, ok = stripIPv4(message)
		}
		if !ok {
			continue
		}
		e, ok := parseEcho(message, typ)
		if !ok || !p.ours(e, host) {
			continue
		}
		if p.batch.from(i) != p.hosts[p.cfg.Pairs[e.pair][1]].addr(p.cfg.IPv6) {
			continue
		}
		// The kernel's time of arrival leaves out how long the reply waited for us,
		// but its clock can be stepped.
		elapsed := now.Sub(p.begin) - e.clock
		rtt := p.batch.arrival(i, now).Sub(time.Unix(0, e.wall))
		if rtt <= 0 || rtt > elapsed {
			rtt = elapsed
		}
		f(e, rtt)
	}
}

// ours tells whether e was sent by this call, from host.
func (p *pinger) ours(e echo, host int) bool {
	return e.run == p.template.run && e.ident == p.template.ident &&
		int64(e.pair) < int64(len(p.pairs)) && p.cfg.Pairs[e.pair][0] == host
}

// replied takes a reply to e.
func (p *pinger) replied(e echo, rtt time.Duration) {
	pair := int32(e.pair)
	s, r := &p.pairs[pair], &p.results[pair]
	if !s.open || int(e.serial) != r.Sent {
		r.Extra++
		return
	}
	now := p.now()
	p.lastReply = now
	if rtt > p.cfg.Timeout {
		p.lastLate = now
	}
	p.window.replied(now, rtt, s.try > 1)
	r.Received++
	r.Error = ""
	r.RTT = append(r.RTT, rtt)
	p.finish(pair)
}

// receiveErrors takes the ICMP errors that arrived at a host.
func (p *pinger) receiveErrors(host int) {
	var packet, control [256]byte
	for {
		n, oobn, _, _, err := unix.Recvmsg(p.sockets[host], packet[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		typ := byte(icmpEchoRequest)
		if p.cfg.IPv6 {
			typ = icmpv6EchoRequest
		}
		e, ok := parseEcho(packet[:n], typ)
		if !ok || !p.ours(e, host) {
			continue
		}
		s, r := &p.pairs[e.pair], &p.results[e.pair]
		if why, ok := parseICMPError(control[:oobn]); ok && s.waiting && int(e.serial) == r.Sent && e.try == s.try {
			p.fail(int32(e.pair), p.reason(why))
		}
	}
}

// A queue is first in, first out.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) push(v T) { q.items = append(q.items, v) }

func (q *queue[T]) first() (T, bool) {
	if q.head == len(q.items) {
		var zero T
		return zero, false
	}
	return q.items[q.head], true
}

// pop removes the first; its memory is used again in time.
func (q *queue[T]) pop() {
	q.head++
	if q.head >= 1024 && q.head*2 >= len(q.items) {
		q.items = q.items[:copy(q.items, q.items[q.head:])]
		q.head = 0
	}
}
