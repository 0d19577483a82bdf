// Command link measures links: wire beside a bare veth pair, and how near links come to what is
// asked of them: go run ./bench/link accuracy [netem,wire [PART OF A ROW]]. It needs a network namespace of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "load" {
		if err := runLoad(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx := context.Background()
	if len(os.Args) > 1 && os.Args[1] == "accuracy" {
		args := append(os.Args[2:], "netem,wire", "")
		if len(os.Args) == 3 {
			args[1] = ""
		}
		check(accuracy(ctx, os.Stdout, strings.Split(args[0], ","), args[1]))
		return
	}
	driver, what := os.Args[1], os.Args[2]
	p, err := newPair(driver, os.Args[3:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer p.close()
	switch what {
	case "tcp":
		sink, err := p.start(ctx, 1, "tcp-sink", "-t", "3s", "-skip", "500ms")
		check(err)
		c0 := cpu()
		src, err := p.start(ctx, 0, "tcp-source", "-t", "3s")
		check(err)
		var r Received
		var s Sent
		check(sink.result(&r))
		src.result(&s)
		fmt.Printf("%.2f Gbit/s, engine CPU %.2f, retrans %d; sink cpu %v src cpu %v\n", float64(r.Bytes)*8/r.Seconds/1e9, (cpu()-c0).Seconds()/3, s.Retransmits, sink.cmd.ProcessState.SystemTime(), src.cmd.ProcessState.SystemTime())
	case "pps":
		sink, err := p.start(ctx, 1, "udp-sink", "-t", "3s", "-skip", "500ms")
		check(err)
		c0 := cpu()
		src, err := p.start(ctx, 0, "udp-source", "-t", "2.5s")
		check(err)
		var r Received
		var s Sent
		check(src.result(&s))
		check(sink.result(&r))
		fmt.Printf("sent %.0f/s received %.0f/s engine CPU %.2f\n", float64(s.Frames)/s.Seconds, float64(r.Frames)/r.Seconds, (cpu()-c0).Seconds()/2.5)
	case "raw":
		c0 := cpu()
		before, t0 := p.received(), time.Now()
		src, err := p.start(ctx, 0, "raw-source", "-t", "2s")
		check(err)
		var s Sent
		check(src.result(&s))
		fmt.Printf("sent %.0f/s received %.0f/s engine CPU %.2f\n", float64(s.Frames)/s.Seconds, float64(p.received()-before)/time.Since(t0).Seconds(), (cpu()-c0).Seconds()/2)
	case "delay":
		n := 2000
		sink, err := p.start(ctx, 1, "udp-sink", "-t", "10s", "-count", strconv.Itoa(n), "-delays")
		check(err)
		src, err := p.start(ctx, 0, "udp-source", "-count", strconv.Itoa(n), "-rate", "1000")
		check(err)
		var r Received
		var s Sent
		check(src.result(&s))
		check(sink.result(&r))
		d := sorted(r.Delays)
		fmt.Printf("n %d min %v median %v p99 %v max %v\n", len(d), time.Duration(d[0]), time.Duration(d[len(d)/2]), time.Duration(d[len(d)*99/100]), time.Duration(d[len(d)-1]))
	}
	if p.link != nil {
		c, _ := p.link.Counters()
		fmt.Printf("%+v\n", c)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
