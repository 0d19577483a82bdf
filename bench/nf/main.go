// Command nf measures the built-in NF manager beside what others do, and prints a table with the
// aims. It needs a quiet machine; as root it uses huge pages if some are free:
//
//	go run ./bench/nf [-only chain,flow,memif,port] [-match xdp] [-t 2s] [-n 5]
//
// Each figure is the median of n runs of length t. It exits with 1 if an aim was missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench/nf:", err)
		os.Exit(1)
	}
}

// A bench measures with runs of a length.
type bench struct {
	length time.Duration
	runs   int
	match  string // of contenders, only those whose name contains it
	missed int
}

// A measure prints rows of the table.
type measure struct {
	name string
	run  func(context.Context, *bench) error
}

// measures is all that can be measured.
func measures() []measure {
	return []measure{{"chain", chainRates}, {"flow", flowRate}, {"memif", memifRates}, {"port", portRates}, {"start", starts}}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 4 && args[0] == bridgeCommand { // started by this program
		small, _ := strconv.Atoi(args[1])
		large, _ := strconv.Atoi(args[2])
		return bridge(small, large, args[3] == "true")
	}
	var b bench
	flags := flag.NewFlagSet("bench/nf", flag.ExitOnError)
	only := flags.String("only", "", "what to measure, separated by commas (default all)")
	flags.DurationVar(&b.length, "t", 2*time.Second, "length of a run")
	flags.IntVar(&b.runs, "n", 5, "runs, of which the median counts")
	flags.StringVar(&b.match, "match", "", "of ports, only those whose names contain this")
	flags.Parse(args)
	all := measures()
	var chosen []string
	if *only != "" {
		chosen = strings.Split(*only, ",")
	}
	for _, name := range chosen {
		if !slices.ContainsFunc(all, func(m measure) bool { return m.name == name }) {
			return fmt.Errorf("nothing is called %q", name)
		}
	}
	fmt.Printf("%-49s %-29s %-15s %s\n", "what", "measured", "aim", "")
	for _, m := range all {
		if len(chosen) > 0 && !slices.Contains(chosen, m.name) {
			continue
		}
		if err := errors.Join(m.run(ctx, &b), ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if b.missed > 0 {
		return fmt.Errorf("%d aims were missed", b.missed)
	}
	return nil
}

// row prints a line of the table; aim "" for a figure to compare with.
func (b *bench) row(what, measured, aim string, met bool) {
	verdict := "met"
	switch {
	case aim == "":
		verdict = ""
	case !met:
		verdict = "MISSED"
		b.missed++
	}
	fmt.Printf("%-49s %-29s %-15s %s\n", what, measured, aim, verdict)
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
