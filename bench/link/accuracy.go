package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// A row of the table of accuracy: what is measured, and how each driver does.
type row struct {
	what    string
	measure func(ctx context.Context, driver string) (string, error)
}

// accuracy measures how near links come to what was asked of them, driver by driver, in the rows
// that have some text in them.
func accuracy(ctx context.Context, w io.Writer, drivers []string, only string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "what\t%s\n", strings.Join(drivers, "\t"))
	for _, r := range rows() {
		if !strings.Contains(r.what, only) {
			continue
		}
		fmt.Fprint(table, r.what)
		for _, driver := range drivers {
			cell, err := r.measure(ctx, driver)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.what, driver, err)
			}
			fmt.Fprint(table, "\t", cell)
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// Payloads of a full frame of 1514 bytes.
const (
	fullFrame  = 1514
	udpPayload = 1472
	tcpPayload = 1448
)

func rows() (rows []row) {
	for _, d := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond} {
		rows = append(rows, row{fmt.Sprintf("delay %v: error of median, p99", d), func(ctx context.Context, driver string) (string, error) {
			return delayError(ctx, driver, d)
		}})
	}
	for _, kbits := range []float64{64, 1000, 10_000, 100_000} {
		rows = append(rows, row{fmt.Sprintf("rate %g Mbit/s: UDP against theory", kbits/1000), func(ctx context.Context, driver string) (string, error) {
			return udpRate(ctx, driver, kbits)
		}})
	}
	for _, mbits := range []float64{10, 100} {
		rows = append(rows, row{fmt.Sprintf("rate %g Mbit/s: TCP against theory", mbits), func(ctx context.Context, driver string) (string, error) {
			r, err := tcpRun(ctx, driver, "cubic", 12*time.Second, fmt.Sprintf("bw=%g", mbits))
			return r.against(mbits * 1e6), err
		}})
	}
	for _, percent := range []float64{0.1, 1, 10} {
		rows = append(rows, row{fmt.Sprintf("loss %g %% of 100,000", percent), func(ctx context.Context, driver string) (string, error) {
			return lossError(ctx, driver, percent)
		}})
	}
	// Emulated machines do not carry the larger rate.
	for _, mbits := range []float64{10, bdpMbits} {
		for _, cc := range []string{"cubic", "bbr"} {
			rows = append(rows, row{fmt.Sprintf("TCP %s, %g Mbit/s, 40 ms, 1 BDP: against theory", cc, mbits), func(ctx context.Context, driver string) (string, error) {
				r, err := tcpRun(ctx, driver, cc, bdpLength, bdpOptions(mbits)...)
				return r.against(mbits * 1e6), err
			}})
		}
	}
	return rows
}

// bdpOptions are 40 ms both ways, and a queue of what is in flight then.
func bdpOptions(mbits float64) []string {
	return []string{fmt.Sprintf("bw=%g", mbits), "delay=20ms", fmt.Sprintf("ab:queue=%gkB", mbits*40/8)}
}

const (
	bdpMbits  = 50
	bdpLength = 30 * time.Second
)

// udp sends datagrams over a link, and says what arrived.
func udp(ctx context.Context, driver string, options, sink, source []string) (s Sent, r Received, err error) {
	p, err := newPair(driver, nil, options...)
	if err != nil {
		return s, r, err
	}
	defer p.close()
	to, err := p.start(ctx, 1, append([]string{"udp-sink"}, sink...)...)
	if err != nil {
		return s, r, err
	}
	from, err := p.start(ctx, 0, append([]string{"udp-source"}, source...)...)
	if err != nil {
		return s, r, err
	}
	if err := from.result(&s); err != nil {
		return s, r, err
	}
	return s, r, to.result(&r)
}

func delayError(ctx context.Context, driver string, d time.Duration) (string, error) {
	const n = 2000
	_, r, err := udp(ctx, driver, []string{"delay=" + d.String()},
		[]string{"-t", "10s", "-count", strconv.Itoa(n), "-delays"}, []string{"-count", strconv.Itoa(n), "-rate", "1000"})
	if err != nil {
		return "", err
	}
	if len(r.Delays) != n {
		return "", fmt.Errorf("%d of %d datagrams arrived", len(r.Delays), n)
	}
	list := slices.Sorted(slices.Values(r.Delays))
	late := func(i int) time.Duration { return (time.Duration(list[i]) - d).Round(time.Microsecond) }
	return fmt.Sprintf("%v, %v", late(n/2), late(n*99/100)), nil
}

func udpRate(ctx context.Context, driver string, kbits float64) (string, error) {
	frames := kbits * 1000 / 8 / fullFrame
	s, r, err := udp(ctx, driver, []string{fmt.Sprintf("bw=%gkbit", kbits)},
		[]string{"-t", "8s", "-skip", "2s"}, []string{"-t", "9s", "-size", strconv.Itoa(udpPayload), "-rate", fmt.Sprint(frames * 1.5)})
	if err != nil {
		return "", err
	}
	if sent := float64(s.Frames) / s.Seconds; sent < frames {
		return fmt.Sprintf("the sender reached %.0f %%", 100*sent/frames), nil
	}
	got := float64(r.Bytes) * 8 / r.Seconds * fullFrame / udpPayload
	return fmt.Sprintf("%+.2f %%", 100*(got/(kbits*1000)-1)), nil
}

// A tcpResult is what became of a connection.
type tcpResult struct {
	goodput     float64 // bit/s, after a quarter of the time
	retransmits uint32
	dropped     uint64 // by the link's queue
}

func (r tcpResult) String() string {
	return fmt.Sprintf("%d dropped, %d sent again", r.dropped, r.retransmits)
}

// against compares goodput with that of frames of full size at a rate. In theory, what is dropped
// is sent again, once.
func (r tcpResult) against(rate float64) string {
	return fmt.Sprintf("%+.2f %%, %v", 100*(r.goodput*fullFrame/tcpPayload/rate-1), r)
}

// tcpRun sends over a link for a time.
func tcpRun(ctx context.Context, driver, cc string, length time.Duration, options ...string) (t tcpResult, err error) {
	p, err := newPair(driver, nil, options...)
	if err != nil {
		return t, err
	}
	defer p.close()
	to, err := p.start(ctx, 1, "tcp-sink", "-t", length.String(), "-skip", (length / 4).String())
	if err != nil {
		return t, err
	}
	from, err := p.start(ctx, 0, "tcp-source", "-t", length.String(), "-cc", cc)
	if err != nil {
		return t, err
	}
	var s Sent
	var r Received
	if err := firstOf(to.result(&r), from.result(&s)); err != nil {
		return t, err
	}
	c, err := p.link.Counters()
	return tcpResult{float64(r.Bytes) * 8 / r.Seconds, s.Retransmits, c[0].Overflow}, err
}

func lossError(ctx context.Context, driver string, percent float64) (string, error) {
	const n = 100_000
	// Slow enough for emulated machines.
	s, r, err := udp(ctx, driver, []string{fmt.Sprintf("ab:loss=%g", percent)},
		[]string{"-t", "2m", "-idle", "2s"}, []string{"-count", strconv.Itoa(n), "-rate", "10000"})
	if err != nil {
		return "", err
	}
	lost, mean := float64(s.Frames-r.Frames), percent/100*n
	const quantile99 = 2.576
	verdict := "inside 99 %"
	if math.Abs(lost-mean) > quantile99*math.Sqrt(mean*(1-percent/100)) {
		verdict = "outside 99 %"
	}
	return fmt.Sprintf("%.3f %%, %s", 100*lost/n, verdict), nil
}
