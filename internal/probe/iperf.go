package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// IperfConfig says what throughput to measure: from Client to Server.
type IperfConfig struct {
	Client, Server Host
	UDP            bool
	IPv6           bool
	// Rate is at what rate UDP is sent, in bits of payload per second (default
	// 10 Mbit/s). TCP sends what it can.
	Rate     uint64
	Duration time.Duration // default 5 s
	Port     int           // of the server; default a free one
	// Length is the size of a UDP datagram's payload in bytes (default 1470, at
	// least 24).
	Length int
}

const (
	defaultDuration = 5 * time.Second
	defaultRate     = 10_000_000
	defaultLength   = 1470
	maxLength       = 65507 // of a UDP datagram over IPv4

	// answerWithin bounds the wait for the server to be reached.
	answerWithin = 5 * time.Second
	// settleWithin bounds the wait for what is still on its way at the end.
	settleWithin = 2 * time.Second
)

// An IperfResult is a measured throughput.
type IperfResult struct {
	Client string `json:"client"`
	Server string `json:"server"`
	UDP    bool   `json:"udp,omitempty"`
	// ClientBps and ServerBps are payload bits per second over the whole run as
	// each side saw them: the client what was acknowledged (TCP) or sent (UDP), the
	// server what was received. Asked is the rate asked for (UDP).
	ClientBps float64         `json:"clientBps"`
	ServerBps float64         `json:"serverBps"`
	Asked     float64         `json:"askedBps,omitempty"`
	Bytes     uint64          `json:"bytes"` // received
	Duration  time.Duration   `json:"durationNs"`
	Intervals []IperfInterval `json:"intervals"` // of a second each
	// For UDP: datagrams sent, lost, out of order; jitter as in RFC 3550 6.4.1.
	// For TCP: segments retransmitted by the sender.
	Sent        uint64        `json:"sent,omitempty"`
	LostPackets uint64        `json:"lost,omitempty"`
	OutOfOrder  uint64        `json:"outOfOrder,omitempty"`
	Jitter      time.Duration `json:"jitterNs,omitempty"`
	Retransmits uint64        `json:"retransmits,omitempty"`
}

// An IperfInterval is about one second of a measurement, at the receiver.
type IperfInterval struct {
	Start time.Duration `json:"startNs"`
	End   time.Duration `json:"endNs"`
	Bytes uint64        `json:"bytes"`
	Bps   float64       `json:"bps"`
}

// Iperf measures the throughput from cfg.Client to cfg.Server. It takes cfg.Duration
// and at most seven seconds more, whatever the network does. A connection that stalls
// shows as intervals of zero; one over which nothing at all arrived, or which broke,
// is an error, returned together with what was measured until then.
func Iperf(ctx context.Context, cfg IperfConfig) (IperfResult, error) {
	cfg.Duration = cmp.Or(cfg.Duration, defaultDuration)
	cfg.Rate = cmp.Or(cfg.Rate, defaultRate)
	cfg.Length = cmp.Or(cfg.Length, defaultLength)
	result := IperfResult{Client: cfg.Client.Name, Server: cfg.Server.Name, UDP: cfg.UDP}
	fail := func(err error) (IperfResult, error) {
		return result, fmt.Errorf("iperf from %s to %s: %w", cfg.Client.Name, cfg.Server.Name, err)
	}
	switch {
	case cfg.Duration < 0:
		return fail(errors.New("the duration must be positive"))
	case cfg.Port < 0 || cfg.Port > 65535:
		return fail(fmt.Errorf("%d is not a port", cfg.Port))
	case cfg.UDP && (cfg.Length < datagramHeader || cfg.Length > maxLength):
		return fail(fmt.Errorf("the length of a datagram must be from %d to %d bytes", datagramHeader, maxLength))
	}
	for _, host := range []Host{cfg.Client, cfg.Server} {
		if !host.addr(cfg.IPv6).IsValid() {
			return fail(errors.New(host.noAddress(cfg.IPv6)))
		}
	}
	reserveNeighbours(cfg.Client, []netip.Addr{cfg.Server.addr(cfg.IPv6)})
	reserveNeighbours(cfg.Server, []netip.Addr{cfg.Client.addr(cfg.IPv6)})
	measure := measureTCP
	if cfg.UDP {
		measure = measureUDP
	}
	if err := measure(ctx, cfg, &result); err != nil {
		return fail(err)
	}
	return result, nil
}

// meter reads received, a count of bytes that grows, each second from start until
// duration has passed, ctx ends, or broken delivers an error.
func meter(ctx context.Context, start time.Time, duration time.Duration, received *atomic.Uint64, broken <-chan error) ([]IperfInterval, error) {
	var intervals []IperfInterval
	var before uint64
	var begin time.Duration
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(start.Add(min(begin+time.Second, duration))))
		var err error
		select {
		case <-timer.C:
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-broken:
		}
		bytes, end := received.Load(), time.Since(start)
		intervals = append(intervals, newInterval(begin, end, bytes-before))
		if err != nil || end >= duration {
			return intervals, err
		}
		before, begin = bytes, end
	}
}

func newInterval(start, end time.Duration, bytes uint64) IperfInterval {
	return IperfInterval{Start: start, End: end, Bytes: bytes, Bps: bps(bytes, end-start)}
}

// bps is bytes in a duration as bits per second.
func bps(bytes uint64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(bytes) * 8 / d.Seconds()
}
