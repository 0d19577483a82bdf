package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"weft/dpdkhost/nf/scaffold"
	"weft/dpdkhost/server"
	"weft/topo"
)

// starts measures how long it takes until an NF takes packets: from the call of the manager to its
// answer. A command is asked through all that a user's is: control socket, process, connection.
func starts(ctx context.Context, b *bench) (err error) {
	dir, err := os.MkdirTemp("", "weft-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	weft := filepath.Join(dir, "weft")
	if err := build(ctx, ".", "go", "build", "-o", weft, "./cmd/weft"); err != nil {
		return err
	}
	for language, command := range map[string][]string{"go": {"go", "build"}, "c": {"make"}} {
		mine := filepath.Join(dir, language)
		if err := scaffold.New(mine, language); err != nil {
			return err
		}
		if err := build(ctx, mine, command[0], command[1:]...); err != nil {
			return err
		}
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log")) // of use if something fails
	if err != nil {
		return err
	}
	defer log.Close()
	defer func() {
		if text, _ := os.ReadFile(log.Name()); err != nil {
			err = fmt.Errorf("%w\n%s", err, text)
		}
	}()
	client, err := server.Start(ctx, server.Config{Node: "bench", Dir: state}, func(cmd *exec.Cmd) error {
		cmd.Path, cmd.Stderr = weft, log
		return cmd.Start()
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	for _, c := range []struct {
		what string
		nf   topo.NF
	}{
		{"start of an NF of weft's", topo.NF{Name: "bridge"}},
		{"start of an NF of weft's, fused", topo.NF{Name: "bridge", Fused: true}},
		{"start of one's own NF in Go", topo.NF{Name: "mine", Command: filepath.Join(dir, "go", "go")}},
		{"start of one's own NF in C", topo.NF{Name: "mine", Command: filepath.Join(dir, "c", "c")}},
	} {
		var times []float64
		for range max(b.runs, 5) {
			c.nf.Service = 1
			from := time.Now()
			list, err := client.Start(ctx, c.nf)
			if err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
			times = append(times, float64(time.Since(from).Microseconds())/1000)
			for _, i := range list {
				if err := client.Stop(ctx, i.ID, true); err != nil {
					return fmt.Errorf("%s: its end: %w", c.what, err)
				}
			}
		}
		ms := median(times)
		b.row(c.what, fmt.Sprintf("%.1f ms", ms), "≤ 50 ms", ms <= 50)
	}
	return nil
}

func build(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}
