package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed mininet.sh
var mininetScript string

//go:embed veth.sh
var vethScript string

// An outcome is what a program took and wrote, both of its streams together.
type outcome struct {
	seconds float64
	output  string
}

// sandboxed is a shell script that runs as the first process of new network, mount
// and PID namespaces: they end with it, and with this process.
func sandboxed(ctx context.Context, script string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "bench"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// runMininet runs an mn command; post is what it finds in /tmp/post.
func runMininet(ctx context.Context, command []string, post string) (outcome, error) {
	cmd := sandboxed(ctx, mininetScript, command...)
	cmd.Env = append(os.Environ(), "POST="+post)
	// mn copies what it can read to the program that runs on a host: give it an
	// input where nothing ever comes.
	in, err := cmd.StdinPipe()
	if err != nil {
		return outcome{}, err
	}
	defer in.Close()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w\n%s", command[0], err, tail(string(out)))
	}
	return parseMininet(string(out))
}

// parseMininet takes the time from the last line. mn exits with 0 whatever happens; it
// says "completed" only if nothing did.
func parseMininet(out string) (outcome, error) {
	text, last, ok := cutLast(strings.TrimSpace(out), "bench: ")
	ns, err := strconv.ParseInt(strings.TrimSuffix(last, " ns"), 10, 64)
	if !ok || err != nil || !strings.Contains(text, "completed in") {
		return outcome{}, fmt.Errorf("mn did not complete:\n%s", tail(out))
	}
	return outcome{time.Duration(ns).Seconds(), text}, nil
}

// parseMininetPing takes the losses from mn's "*** Results: 0% dropped (4026/4032
// received)". mn loses some and does not mind, so they are noted.
func parseMininetPing(o outcome) (sample, error) {
	m := regexp.MustCompile(`Results: \d+% dropped \((\d+)/(\d+) received\)`).FindStringSubmatch(o.output)
	if m == nil {
		return sample{}, fmt.Errorf("mn did not ping:\n%s", tail(o.output))
	}
	s := sample{value: o.seconds}
	if m[1] != m[2] {
		s.note = fmt.Sprintf("%s of %s pings answered", m[1], m[2])
	}
	return s, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// runWeft runs a weft command from the binary at path. Its output is standard output.
func runWeft(ctx context.Context, path string, command []string) (outcome, error) {
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return outcome{}, fmt.Errorf("weft: %w\n%s", err, tail(out.String()+messages.String()))
	}
	return outcome{time.Since(start).Seconds(), out.String()}, nil
}

// bareVeth returns Gbit/s of TCP over a veth pair.
func bareVeth(ctx context.Context, seconds int) (float64, error) {
	out, err := sandboxed(ctx, vethScript, strconv.Itoa(seconds)).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("measure a veth pair: %w\n%s", err, tail(string(out)))
	}
	return parseIperf(string(out))
}

// parseIperf returns Gbit/s from what iperf -f k wrote.
func parseIperf(out string) (float64, error) {
	return lastRate(regexp.MustCompile(`([0-9.]+) (K)bits/sec`), out)
}

// parseMininetIperf returns Gbit/s of the server from mn's "*** Results: ['...', '...']".
func parseMininetIperf(out string) (float64, error) {
	return lastRate(regexp.MustCompile(`Results: \['([0-9.]+) ([KMG]?)bits/sec'`), out)
}

func lastRate(pattern *regexp.Regexp, out string) (float64, error) {
	all := pattern.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("no throughput in what iperf wrote:\n%s", tail(out))
	}
	last := all[len(all)-1]
	v, err := strconv.ParseFloat(last[1], 64)
	return v * map[string]float64{"": 1e-9, "K": 1e-6, "M": 1e-3, "G": 1}[last[2]], err
}

// parseWeftIperf returns Gbit/s from weft's JSON: the first serverBps in it.
func parseWeftIperf(out string) (float64, error) {
	dec := json.NewDecoder(strings.NewReader(out))
	for {
		t, err := dec.Token()
		if err != nil {
			return 0, fmt.Errorf("no serverBps in weft's JSON (%w):\n%s", err, tail(out))
		}
		if t == "serverBps" {
			if v, err := dec.Token(); err == nil {
				if bps, ok := v.(float64); ok {
					return bps / 1e9, nil
				}
			}
		}
	}
}

// upMark is what a shell is asked to print once its network is up.
const upMark = "bench-up"

// whileUp starts a command that reads commands from standard input, waits until its
// network is up, calls f and makes it exit.
func whileUp(cmd *exec.Cmd, f func(pid int) (float64, error)) (v float64, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	var messages bytes.Buffer
	cmd.Stderr = &messages
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		io.WriteString(in, "exit\n")
		in.Close()
		go io.Copy(io.Discard, out)
		if e := cmd.Wait(); e != nil && err == nil {
			err = fmt.Errorf("%w\n%s", e, tail(messages.String()))
		}
	}()
	if _, err := io.WriteString(in, "sh echo "+upMark+"\n"); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), upMark) {
			return f(cmd.Process.Pid)
		}
	}
	return 0, errors.New("it ended before its network was up")
}

// tail is the end of an output, for messages.
func tail(s string) string {
	s = strings.TrimSpace(s)
	const most = 600
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}
