package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/internal/ns"
	"weft/link"
	"weft/link/record"
	"weft/link/wire"
)

// delay measures how late frames are, on a machine that does nothing else, and with a core that is
// busy elsewhere.
func (b *bench) delay(ctx context.Context) error {
	for _, busy := range []bool{false, true} {
		for _, want := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond} {
			r, err := b.delays(ctx, want, busy)
			if err != nil {
				return err
			}
			slices.Sort(r.Delays)
			middle := time.Duration(r.Delays[len(r.Delays)/2]) - want
			late := time.Duration(r.Delays[len(r.Delays)*99/100]) - want
			what := fmt.Sprintf("delay %v, error", want)
			if busy {
				what += ", a core busy"
			}
			b.row(what, fmt.Sprintf("median %v, p99 %v", middle.Round(time.Microsecond), late.Round(time.Microsecond)),
				"≤ 50µs, ≤ 300µs", middle <= 50*time.Microsecond && late <= 300*time.Microsecond)
		}
	}
	return nil
}

// delays sends datagrams over a wire with a delay, while another process uses a core, or not.
func (b *bench) delays(ctx context.Context, delay time.Duration, busy bool) (r Received, err error) {
	err = withPair("wire", nil, []string{"delay=" + delay.String()}, func(p *pair) error {
		n := max(100, int(b.length.Seconds()*500))
		sink, err := p.start(ctx, 1, "udp-sink", "-t", "60s", "-count", strconv.Itoa(n), "-delays")
		if err != nil {
			return err
		}
		if busy {
			spin, err := p.start(ctx, 1, "spin", "-t", "60s")
			if err != nil {
				return err
			}
			defer spin.stop()
		}
		source, err := p.start(ctx, 0, "udp-source", "-count", strconv.Itoa(n), "-rate", "500")
		if err != nil {
			return err
		}
		return firstOf(source.result(new(Sent)), sink.result(&r))
	})
	return r, err
}

// Bytes of a frame's headers: what goodput theory takes off.
const (
	tcpHeaders = 14 + 20 + 32
	udpHeaders = 14 + 20 + 8
)

// keptBusy is the share of the time that hosts must keep a link busy for its rate to be judged.
const keptBusy = 0.99

// rate compares goodput with theory.
func (b *bench) rate(ctx context.Context) error {
	judge := func(what string, got, want, busy, within float64) {
		what, measured, aim := "rate "+what+" goodput", fmt.Sprintf("%.5g of %.5g Mbit/s", got/1e6, want/1e6), fmt.Sprintf("within %.0f %%", within*100)
		met := math.Abs(got/want-1) <= within
		if !met && got < want && busy < keptBusy {
			b.line(what, measured, aim, fmt.Sprintf("not judged: hosts kept the link busy %.0f %% of the time", busy*100))
			return
		}
		b.row(what, measured, aim, met)
	}
	for _, c := range []struct {
		option string
		bits   float64
		within float64
		window string // of TCP, bytes
	}{
		// Less than the queue holds: what TCP sends twice after it has lost a frame, and what waits
		// for that frame, is not of the link. At 64 kbit/s it is 4 to 10 %.
		{"64kbit", 64e3, 0.01, "24000"}, {"1mbit", 1e6, 0.01, "24000"}, {"10mbit", 1e7, 0.01, "100000"},
		{"100mbit", 1e8, 0.01, "0"}, {"1gbit", 1e9, 0.01, "0"}, {"10gbit", 1e10, 0.05, "0"},
	} {
		// Where there are few frames a second, one more or less is much.
		length := max(b.length, time.Duration(min(40, 6+2e6/c.bits))*time.Second)
		got, busy, err := b.goodput(ctx, "wire", length, "tcp", []string{"bw=" + c.option, "delay=1ms"}, "-window", c.window)
		if err != nil {
			return err
		}
		judge(c.option+", TCP", got, c.bits*1448/(1448+tcpHeaders), busy, c.within)
		if c.bits > 1e9 {
			continue // no UDP sender here is that fast
		}
		got, busy, err = b.goodput(ctx, "wire", length, "udp", []string{"bw=" + c.option})
		if err != nil {
			return err
		}
		judge(c.option+", UDP", got, c.bits*1472/(1472+udpHeaders), busy, c.within)
	}
	return nil
}

// goodput returns what a receiver gets, bit/s, after a third of the time, and the share of that
// time in which the link had frames to carry.
func (b *bench) goodput(ctx context.Context, driver string, length time.Duration, kind string, options []string, sinkOptions ...string) (bits, busy float64, err error) {
	skip := length / 3
	err = withPair(driver, nil, options, func(p *pair) error {
		sink, err := p.start(ctx, 1, append([]string{kind + "-sink", "-t", length.String(), "-skip", skip.String()}, sinkOptions...)...)
		if err != nil {
			return err
		}
		source, err := p.start(ctx, 0, kind+"-source", "-t", length.String(), "-size", "1472")
		if err != nil {
			return err
		}
		stop := make(chan struct{})
		share := make(chan float64)
		go func() { share <- p.busy(skip, stop) }()
		var r Received
		err = sink.result(&r)
		close(stop)
		busy = <-share
		if err != nil {
			return err
		}
		source.stop()
		bits = float64(r.Bytes) * 8 / r.Seconds
		return nil
	})
	return bits, busy, err
}

// loss counts losses of 100,000 frames.
func (b *bench) loss(ctx context.Context) error {
	const n = 100_000
	for _, percent := range []float64{0.1, 1, 10} {
		err := withPair("wire", nil, []string{fmt.Sprintf("ab:loss=%v", percent)}, func(p *pair) error {
			source, err := p.start(ctx, 0, "udp-source", "-count", strconv.Itoa(n), "-rate", "20000")
			if err != nil {
				return err
			}
			var s Sent
			if err := source.result(&s); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
			c, err := p.link.Counters()
			if err != nil {
				return err
			}
			came := float64(c[0].Lost + c[0].Delivered + c[0].Down)
			q := percent / 100
			within := 2.576 * math.Sqrt(came*q*(1-q))
			b.row(fmt.Sprintf("loss %v %%", percent), fmt.Sprintf("%d of %.0f frames", c[0].Lost, came), fmt.Sprintf("%.0f ± %.0f (99 %%)", came*q, within),
				came >= n && math.Abs(float64(c[0].Lost)-came*q) <= within)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tcp compares bulk TCP with a bare veth pair, run by run.
func (b *bench) tcp(ctx context.Context) error {
	var wires, veths []float64
	for range b.runs {
		for driver, list := range map[string]*[]float64{"veth": &veths, "wire": &wires} {
			bits, _, err := b.goodput(ctx, driver, b.length, "tcp", nil)
			if err != nil {
				return err
			}
			*list = append(*list, bits/1e9)
		}
	}
	w, v := median(wires), median(veths)
	b.row("bulk TCP, no rate", fmt.Sprintf("%.1f of veth's %.1f Gbit/s: %.2f", w, v, w/v), "≥ 0.75", w/v >= 0.75)
	return nil
}

// pps counts the shortest frames per second of the engine's processor time.
func (b *bench) pps(ctx context.Context) error {
	var wires, veths, cores []float64
	for range b.runs {
		for driver, list := range map[string]*[]float64{"veth": &veths, "wire": &wires} {
			err := withPair(driver, nil, nil, func(p *pair) error {
				before, used, start := p.received(), cpu(), time.Now()
				source, err := p.start(ctx, 0, "raw-source", "-t", b.length.String())
				if err != nil {
					return err
				}
				var s Sent
				if err := source.result(&s); err != nil {
					return err
				}
				seconds := time.Since(start).Seconds()
				*list = append(*list, float64(p.received()-before)/seconds)
				if driver == "wire" {
					cores = append(cores, (cpu()-used).Seconds()/seconds)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	each := make([]float64, len(wires)) // frames for each second of a core
	for i := range each {
		each[i] = wires[i] / cores[i]
	}
	core := median(each)
	b.row("64-byte frames a second of a core", fmt.Sprintf("%.0f (%.0f with %.2f cores; veth %.0f)", core, median(wires), median(cores), median(veths)), "≥ 500000", core >= 500_000)
	return nil
}

// idle measures a thousand wires that carry nothing.
func (b *bench) idle(context.Context) error {
	const n = 1000
	e, err := wire.NewEngine(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	host, err := ns.New(nil)
	if err != nil {
		return err
	}
	defer host.Close()
	start := time.Now()
	for i := range n {
		c := link.Config{A: link.End{Net: host, Device: fmt.Sprintf("a%d", i)}, B: link.End{Net: host, Device: fmt.Sprintf("b%d", i)}}
		if err := c.Settings.Set("bw=10", "delay=5ms"); err != nil {
			return err
		}
		if _, err := e.Add(c); err != nil {
			return err
		}
	}
	made := time.Since(start)
	time.Sleep(time.Second)
	runtime.GC()
	used, since := cpu(), time.Now()
	time.Sleep(b.length)
	share := (cpu() - used).Seconds() / time.Since(since).Seconds() * 100
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	kB, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return err
	}
	b.row(fmt.Sprintf("1,000 wires idle (made in %.1f s)", made.Seconds()), fmt.Sprintf("%.2f %% of a core, %.0f MB", share, kB/1e3), "≤ 2 %, ≤ 64 MB", share <= 2 && kB <= 64e3)
	return e.Close()
}

// seed repeats a run and compares what became of each frame.
func (b *bench) seed(ctx context.Context) error {
	var lists [2]string
	for i := range lists {
		var text bytes.Buffer
		options := []string{"seed=7", "record=frames.csv", "loss=3", "duplicate=1", "corrupt=1", "delay=5ms", "jitter=2ms", "overtake=true"}
		err := withPair("wire", &text, options, func(p *pair) error {
			source, err := p.start(ctx, 0, "udp-source", "-count", "20000", "-rate", "10000")
			if err != nil {
				return err
			}
			if err := source.result(new(Sent)); err != nil {
				return err
			}
			time.Sleep(50 * time.Millisecond)
			return p.link.Close()
		})
		if err != nil {
			return err
		}
		if lists[i], err = fates(&text); err != nil {
			return err
		}
	}
	n := strings.Count(lists[0], "\n")
	b.row("seeded run repeated", fmt.Sprintf("%d fates, identical: %v", n, lists[0] == lists[1]), "identical", n >= 20000 && lists[0] == lists[1])
	return nil
}

// fates returns the fates of the first 20,000 frames from A to B, by number.
func fates(r io.Reader) (string, error) {
	records, err := record.NewReader(r)
	if err != nil {
		return "", err
	}
	var list []record.Frame
	for {
		f, err := records.Read()
		if err == io.EOF {
			break
		} else if err != nil {
			return "", err
		}
		if f.Way == 0 && f.Number <= 20000 {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b record.Frame) int {
		if a.Number == b.Number {
			return int(a.Delay() - b.Delay())
		}
		return int(int64(a.Number - b.Number))
	})
	slices.SortStableFunc(list, func(a, b record.Frame) int {
		if a.Number == b.Number && a.Copy != b.Copy {
			if b.Copy {
				return -1
			}
			return 1
		}
		return int(int64(a.Number - b.Number))
	})
	var text strings.Builder
	for _, f := range list {
		fmt.Fprintln(&text, f.Number, f.Copy, f.Fate, f.Corrupted)
	}
	return text.String(), nil
}

// bdp is TCP over 50 Mbit/s and 40 ms with a queue of one bandwidth-delay product.
func (b *bench) bdp(ctx context.Context) error {
	for _, cc := range []string{"cubic", "bbr"} {
		r, err := tcpRun(ctx, "wire", cc, max(b.length, 10*time.Second), bdpOptions(bdpMbits)...)
		if err != nil {
			return err
		}
		got, want := r.goodput/1e6, bdpMbits*float64(tcpPayload)/fullFrame
		b.row("50 Mbit/s, 40 ms, 1 BDP, "+cc, fmt.Sprintf("%.1f of %.1f Mbit/s, %v", got, want, r), "within 5 %", math.Abs(got/want-1) <= 0.05)
	}
	return nil
}

// firstOf returns the first error.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// withPair calls f with two hosts that are linked.
func withPair(driver string, record io.Writer, options []string, f func(*pair) error) error {
	p, err := newPair(driver, record, options...)
	if err != nil {
		return err
	}
	defer p.close()
	return f(p)
}
