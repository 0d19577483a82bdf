// Command link measures how exactly and how fast wires carry frames, beside a bare veth pair, and
// prints a table with the aims. It needs root, and a quiet machine:
//
//	go run ./bench/link [-only delay,rate,loss,tcp,pps,idle,seed,bdp] [-t 3s] [-n 3]
//
//	go run ./bench/link accuracy [netem,wire [PART OF A ROW]]
//
// The second form compares drivers with theory and with each other. netem needs a kernel that has it;
// there is one in a virtual machine, where time goes with the machine's instructions:
//
//	go build -o bin/bench-link ./bench/link
//	go tool vm -steady -- bin/bench-link accuracy netem "10 Mbit/s, 40 ms"
//	bin/bench-link accuracy wire "10 Mbit/s, 40 ms"
//
// It exits with 1 if an aim was missed. Loads run in processes of their own; the wires' engine is
// in this one. A rate that hosts do not keep busy, as on a machine that does other things, is not
// judged.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench/link:", err)
		os.Exit(1)
	}
}

// A bench measures with runs of a length.
type bench struct {
	length time.Duration
	runs   int
	missed int
}

func run(ctx context.Context, args []string) error {
	if len(args) > 1 && args[0] == loadCommand { // started by this program
		return runLoad(args[1:])
	}
	if len(args) > 0 && args[0] == "accuracy" {
		args = append(args[1:len(args):len(args)], "netem,wire", "")[:2]
		if args[1] == "netem,wire" {
			args[1] = ""
		}
		return accuracy(ctx, os.Stdout, strings.Split(args[0], ","), args[1])
	}
	var b bench
	flags := flag.NewFlagSet("bench/link", flag.ExitOnError)
	only := flags.String("only", "", "what to measure, separated by commas (default all)")
	flags.DurationVar(&b.length, "t", 3*time.Second, "length of a run")
	flags.IntVar(&b.runs, "n", 3, "runs of each contender; their median counts")
	flags.Parse(args)
	if os.Geteuid() != 0 {
		return errors.New("this needs root")
	}
	all := []struct {
		name    string
		measure func(context.Context) error
	}{
		{"delay", b.delay}, {"rate", b.rate}, {"loss", b.loss}, {"tcp", b.tcp},
		{"pps", b.pps}, {"idle", b.idle}, {"seed", b.seed}, {"bdp", b.bdp},
	}
	var chosen []string
	if *only != "" {
		chosen = strings.Split(*only, ",")
	}
	for _, name := range chosen {
		if !slices.ContainsFunc(all, func(a struct {
			name    string
			measure func(context.Context) error
		}) bool {
			return a.name == name
		}) {
			return fmt.Errorf("nothing is called %q", name)
		}
	}
	b.line("what", "measured", "aim", "")
	for _, a := range all {
		if len(chosen) > 0 && !slices.Contains(chosen, a.name) {
			continue
		}
		if err := errors.Join(a.measure(ctx), ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	if b.missed > 0 {
		return fmt.Errorf("%d aims were missed", b.missed)
	}
	return nil
}

// row prints a line of the table.
func (b *bench) row(what, measured, aim string, met bool) {
	verdict := "met"
	if !met {
		verdict = "MISSED"
		b.missed++
	}
	b.line(what, measured, aim, verdict)
}

func (b *bench) line(what, measured, aim, verdict string) {
	fmt.Printf("%-34s %-44s %-18s %s\n", what, measured, aim, verdict)
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
