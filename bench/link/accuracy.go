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
			return tcpRate(ctx, driver, mbits*1e6, fmt.Sprintf("bw=%g", mbits))
		}})
	}
	for _, percent := range []float64{0.1, 1, 10} {
		rows = append(rows, row{fmt.Sprintf("loss %g %% of 100,000", percent), func(ctx context.Context, driver string) (string, error) {
			return lossError(ctx, driver, percent)
		}})
	}
	// 40 ms both ways, a queue of what is in flight then.
	return append(rows, row{"TCP cubic, 50 Mbit/s, 40 ms, 1 BDP", func(ctx context.Context, driver string) (string, error) {
		return tcpRate(ctx, driver, 50e6, "bw=50", "delay=20ms", "ab:queue=250kB")
	}})
}

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

func tcpRate(ctx context.Context, driver string, rate float64, options ...string) (string, error) {
	p, err := newPair(driver, nil, options...)
	if err != nil {
		return "", err
	}
	defer p.close()
	to, err := p.start(ctx, 1, "tcp-sink", "-t", "12s", "-skip", "3s")
	if err != nil {
		return "", err
	}
	from, err := p.start(ctx, 0, "tcp-source", "-t", "12s")
	if err != nil {
		return "", err
	}
	var s Sent
	var r Received
	if err := to.result(&r); err != nil {
		return "", err
	}
	// The sink goes first; the source may fail to write to it.
	_ = from.result(&s)
	got := float64(r.Bytes) * 8 / r.Seconds * fullFrame / tcpPayload
	c, err := p.link.Counters()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%+.2f %%, %d dropped", 100*(got/rate-1), c[0].Overflow), nil
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
