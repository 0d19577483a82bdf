package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// TrainConfig says how a Train of echoes is sent.
type TrainConfig struct {
	IPv6     bool
	Count    int           // from 1 to 65535
	Interval time.Duration // between two echo requests
	// Timeout is how long the reply to each may take.
	Timeout time.Duration
}

// An Echo is an echo request that was sent once, and its reply.
type Echo struct {
	// At is when it was sent, from the start of the train.
	At time.Duration `json:"atNs"`
	// RTT is the round-trip time; 0 if there was no reply in time.
	RTT time.Duration `json:"rttNs,omitempty"`
}

// Train sends echo requests from src to dst at even times, whatever comes back, and returns
// all of them. When ctx ends, it returns what it has and ctx's error.
func Train(ctx context.Context, src, dst Host, cfg TrainConfig) ([]Echo, error) {
	switch {
	case cfg.Count < 1 || cfg.Count > maxPerPair:
		return nil, fmt.Errorf("ping: count must be from 1 to %d", maxPerPair)
	case cfg.Interval < 0 || cfg.Timeout <= 0:
		return nil, errors.New("ping: interval and timeout must be positive")
	}
	p := newPinger([]Host{src, dst}, PingConfig{Pairs: [][2]int{{0, 1}}, IPv6: cfg.IPv6, Timeout: cfg.Timeout, Tries: 1, Count: 1, Window: 1})
	defer p.close()
	if reason := p.impossible([2]int{0, 1}); reason != "" {
		return nil, errors.New("ping: " + reason)
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	p.begin = time.Now()
	t := train{p: p, cfg: cfg, echoes: make([]Echo, 0, cfg.Count)}
	return t.run(ctx)
}

// A train is one call of Train.
type train struct {
	p       *pinger
	cfg     TrainConfig
	echoes  []Echo
	replies int
}

// run sends and receives until all echoes are answered or overdue.
func (t *train) run(ctx context.Context) ([]Echo, error) {
	for ctx.Err() == nil {
		now := t.p.now()
		next := time.Duration(len(t.echoes)) * t.cfg.Interval
		for len(t.echoes) < t.cfg.Count && next <= now {
			t.send()
			next = time.Duration(len(t.echoes)) * t.cfg.Interval
		}
		if len(t.echoes) == t.cfg.Count {
			if t.replies == t.cfg.Count {
				return t.echoes, nil
			}
			if next = t.echoes[len(t.echoes)-1].At + t.cfg.Timeout; next <= now {
				return t.echoes, nil
			}
		}
		t.receive(min(next-now, pollSlice))
	}
	return t.echoes, ctx.Err()
}

// send sends one request. What the kernel does not take is lost.
func (t *train) send() {
	serial := len(t.echoes) + 1
	t.echoes = append(t.echoes, Echo{At: t.p.now()})
	if t.p.transmit(0, 1, 0, serial, 1) != nil {
		t.p.drainErrors(0) // an ICMP error about an earlier packet
		t.p.transmit(0, 1, 0, serial, 1)
	}
}

// receive waits for replies, not longer than wait, and takes those that are there.
func (t *train) receive(wait time.Duration) {
	timeout := unix.NsecToTimespec(max(wait, 0).Nanoseconds())
	fds := []unix.PollFd{{Fd: int32(t.p.sockets[0]), Events: unix.POLLIN}}
	if n, err := unix.Ppoll(fds, &timeout, nil); err != nil || n == 0 {
		return
	}
	if fds[0].Revents&unix.POLLERR != 0 {
		t.p.drainErrors(0)
	}
	t.p.replies(0, func(e echo, rtt time.Duration) {
		if i := int(e.serial) - 1; i >= 0 && i < len(t.echoes) && t.echoes[i].RTT == 0 && rtt <= t.cfg.Timeout {
			t.echoes[i].RTT = max(rtt, 1)
			t.replies++
		}
	})
}

// drainErrors empties the error queue of a host's socket.
func (p *pinger) drainErrors(host int) {
	var packet, control [256]byte
	for {
		_, _, _, _, err := unix.Recvmsg(p.sockets[host], packet[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil && err != unix.EINTR {
			return
		}
	}
}
