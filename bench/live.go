package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The contenders' names of what is done with networks that live on.
const (
	nameByOption = "the same by option"
	nameBuilding = "building it again"
	nameNetns    = "ip netns exec"
)

// live lists the benchmarks of networks that live on, for weft's binary at path.
func live(weft string) []benchmark {
	return []benchmark{upFile(weft), apply(weft), execTrue(weft)}
}

// treeOption is the topology that treeFile describes too.
const treeOption = "tree,2,32"

// treeFile writes the tree of 1,024 hosts in YAML, and extra hosts at its last switch.
func treeFile(dir string, extra int) (string, error) {
	var b strings.Builder
	b.WriteString("hosts:\n")
	for h := range 1024 + extra {
		fmt.Fprintf(&b, "  - h%d\n", h+1)
	}
	b.WriteString("switches:\n")
	for s := range 33 {
		fmt.Fprintf(&b, "  - s%d\n", s+1)
	}
	b.WriteString("links:\n")
	for s := range 32 {
		fmt.Fprintf(&b, "  - s1 -- s%d\n", s+2)
		for h := range 32 {
			fmt.Fprintf(&b, "  - s%d -- h%d\n", s+2, 32*s+h+1)
		}
	}
	for h := range extra {
		fmt.Fprintf(&b, "  - s33 -- h%d\n", 1024+h+1)
	}
	path := filepath.Join(dir, "tree"+strconv.Itoa(extra)+".yaml")
	return path, os.WriteFile(path, []byte(b.String()), 0o644)
}

// whileLiving brings a network up, takes the seconds that this took, calls f and takes it down.
func whileLiving(ctx context.Context, weft string, args []string, f func(network string) error) (seconds float64, err error) {
	network := "bench" + strconv.Itoa(os.Getpid())
	up, err := runWeft(ctx, weft, append([]string{"weft", "up", "-q", "--name", network}, args...))
	if err != nil {
		return 0, err
	}
	if f != nil {
		err = f(network)
	}
	if _, e := runWeft(context.WithoutCancel(ctx), weft, []string{"weft", "down", "-q", network}); err == nil {
		err = e
	}
	return up.seconds, err
}

// inDirectory calls f with a directory that is removed.
func inDirectory(f func(dir string) (float64, error)) (sample, error) {
	dir, err := os.MkdirTemp("", "weft-bench-live-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	return plain(f(dir))
}

func byOption(weft string) contender {
	return contender{nameByOption, "weft up --topo " + treeOption, 2 * time.Minute, func(ctx context.Context) (sample, error) {
		return plain(whileLiving(ctx, weft, []string{"--topo", treeOption}, nil))
	}}
}

func upFile(weft string) benchmark {
	return benchmark{
		name: "up", work: "up, 1,024 hosts from YAML", unit: "s", less: true,
		goals: []Goal{{Than: nameByOption, AtLeast: 0.9}},
		contenders: []contender{byOption(weft), {nameWeft, "weft up tree.yaml", 2 * time.Minute, func(ctx context.Context) (sample, error) {
			return inDirectory(func(dir string) (float64, error) {
				file, err := treeFile(dir, 0)
				if err != nil {
					return 0, err
				}
				return whileLiving(ctx, weft, []string{file}, nil)
			})
		}}},
	}
}

func apply(weft string) benchmark {
	building := byOption(weft)
	building.name = nameBuilding
	return benchmark{
		name: "apply", work: "one more host, to 1,024", unit: "s", less: true,
		goals: []Goal{{Than: nameBuilding, AtLeast: 50}},
		contenders: []contender{building, {nameWeft, "weft apply tree.yaml", 2 * time.Minute, func(ctx context.Context) (sample, error) {
			return inDirectory(func(dir string) (seconds float64, err error) {
				small, err := treeFile(dir, 0)
				if err != nil {
					return 0, err
				}
				large, err := treeFile(dir, 1)
				if err != nil {
					return 0, err
				}
				_, err = whileLiving(ctx, weft, []string{small}, func(network string) error {
					done, err := runWeft(ctx, weft, []string{"weft", "apply", "-q", large, network})
					seconds = done.seconds
					return err
				})
				return seconds, err
			})
		}}},
	}
}

// execRuns is how often a program is run for one figure.
const execRuns = 50

func execTrue(weft string) benchmark {
	namespace := "bench" + strconv.Itoa(os.Getpid())
	theirs := []string{"ip", "netns", "exec", namespace, "true"}
	return benchmark{
		name: "exec", work: "exec of true", unit: "ms", less: true,
		goals: []Goal{{Than: nameNetns, AtLeast: 1.0 / 3}},
		contenders: []contender{
			{nameNetns, "ip netns exec NETNS true", time.Minute, func(ctx context.Context) (sample, error) {
				if out, err := exec.CommandContext(ctx, "ip", "netns", "add", namespace).CombinedOutput(); err != nil {
					return sample{}, fmt.Errorf("%w: %s", err, out)
				}
				defer exec.Command("ip", "netns", "del", namespace).Run()
				return plain(repeated(ctx, theirs))
			}},
			{nameWeft, "weft exec lab h1 -- true", time.Minute, func(ctx context.Context) (s sample, err error) {
				_, err = whileLiving(ctx, weft, []string{"--topo", "single,2"}, func(network string) error {
					s, err = plain(repeated(ctx, []string{weft, "exec", network, "h1", "--", "true"}))
					return err
				})
				return s, err
			}},
		},
	}
}

// repeated returns the median of the milliseconds that a command takes.
func repeated(ctx context.Context, argv []string) (float64, error) {
	var times []float64
	for range execRuns {
		start := time.Now()
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		times = append(times, time.Since(start).Seconds()*1000)
	}
	return median(times), nil
}
