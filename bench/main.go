// Command bench compares weft with Debian's Mininet on this machine and prints a table
// of medians and their ratios. It needs root, mn, Open vSwitch, iperf (version 2)
// and ethtool. Mininet runs in namespaces of its own, with an Open vSwitch of its own.
//
//	go run ./bench [-n 3] [-slow-n 3] [-only NAME,...] [-skip-slow] [-weft PATH] [-o results.json]
//
// The benchmarks called relay compare weft's control channel with none: for them this
// program is a switch too (go run ./bench storm tcp:HOST:PORT).
//
// Those called up, apply and exec are of networks that live on, and need no Mininet.
//
// It exits with 1 if something failed or a goal was missed. It imports no package of
// weft: it runs the program as its users do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == stormCommand { // started by this program
		return runStorm(args[1])
	}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	runs := flags.Int("n", 3, "runs of each contender")
	slowRuns := flags.Int("slow-n", 3, "runs of each contender where Mininet takes more than a minute")
	only := flags.String("only", "", "names of the benchmarks to run, separated by commas (default all)")
	skipSlow := flags.Bool("skip-slow", false, "leave out what takes Mininet more than a minute")
	weft := flags.String("weft", "", "weft's binary (default: built from ./cmd/weft)")
	output := flags.String("o", "", "file for the results as JSON")
	flags.Parse(args)
	if os.Geteuid() != 0 {
		return errors.New("Mininet needs root: run this with sudo")
	}

	dir, err := os.MkdirTemp("", "weft-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := place(ctx, *weft, filepath.Join(dir, "weft"))
	if err != nil {
		return err
	}
	chosen, err := choose(benchmarks(binary), *only, *skipSlow)
	if err != nil {
		return err
	}

	results := Results{Machine: describe(ctx)}
	for _, b := range chosen {
		n := *runs
		if b.slow {
			n = *slowRuns
		}
		results.Benchmarks = append(results.Benchmarks, b.measure(ctx, n, os.Stderr))
		if err := ctx.Err(); err != nil {
			return err
		}
		// Written each time, so that what is measured is not lost.
		if err := save(*output, results); err != nil {
			return err
		}
	}
	if err := results.Markdown(os.Stdout); err != nil {
		return err
	}
	return results.verdict()
}

// place puts weft's binary at path, a file that no other process runs: from there its
// processes can be told from those of other networks.
func place(ctx context.Context, from, path string) (string, error) {
	if from == "" {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/weft")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build weft (run this at the top of the repository, or give -weft): %w\n%s", err, out)
		}
		return path, nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return "", fmt.Errorf("copy weft's binary: %w", err)
	}
	return path, os.WriteFile(path, b, 0o755)
}

func choose(all []benchmark, only string, skipSlow bool) ([]benchmark, error) {
	var names []string
	known := map[string]benchmark{}
	for _, b := range all {
		names = append(names, b.name)
		known[b.name] = b
	}
	wanted := names
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	var chosen []benchmark
	for _, name := range wanted {
		if _, ok := known[name]; !ok {
			return nil, fmt.Errorf("no benchmark %q: there are %s", name, strings.Join(names, ", "))
		}
		for _, b := range all {
			part := only != "" && strings.HasPrefix(b.name, name+"-")
			if (b.name == name || part) && !(b.slow && skipSlow) {
				chosen = append(chosen, b)
			}
		}
	}
	return chosen, nil
}

// describe says what machine and which versions were measured.
func describe(ctx context.Context) Machine {
	line := func(name string, args ...string) string {
		out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return first
	}
	return Machine{
		Date:        time.Now().UTC().Format(time.DateTime),
		Kernel:      line("uname", "-r"),
		CPUs:        cpus(),
		Mininet:     line("mn", "--version"),
		OpenVSwitch: line("ovs-vswitchd", "--version"),
	}
}

func save(path string, r Results) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// measure runs all contenders in turn, n times: what disturbs the machine for a while
// disturbs them all.
func (b benchmark) measure(ctx context.Context, n int, progress io.Writer) Benchmark {
	result := Benchmark{Name: b.name, Work: b.work, Unit: b.unit, LessIsBetter: b.less}
	for _, c := range b.contenders {
		result.Contenders = append(result.Contenders, Contender{Name: c.name, Command: c.command})
	}
	for range n {
		for i, c := range b.contenders {
			if ctx.Err() != nil {
				return result
			}
			limited, cancel := context.WithTimeout(ctx, c.limit)
			v, err := c.run(limited)
			if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
				err = fmt.Errorf("still running after %v", c.limit)
			}
			cancel()
			into := &result.Contenders[i]
			if err != nil {
				into.Errors = append(into.Errors, err.Error())
				fmt.Fprintf(progress, "%s: %s: %v\n", b.name, c.name, err)
				continue
			}
			into.Runs = append(into.Runs, v.value)
			if v.note != "" {
				into.Notes = append(into.Notes, v.note)
			}
			fmt.Fprintf(progress, "%s: %s: %s %s\n", b.name, c.name, format(v.value, b.unit), v.note)
		}
	}
	result.judge(b.goals)
	return result
}
