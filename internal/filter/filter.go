// Package filter compiles expressions in the language of pcap-filter(7) to programs (bpf(4)).
//
// It imports nothing of weft.
package filter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Ethernet compiles an expression for Ethernet frames as they are on a wire.
func Ethernet(ctx context.Context, expression string, snap int) ([]bpf.RawInstruction, error) {
	return Compile(ctx, expression, snap, "-y", "EN10MB")
}

// Compile has tcpdump compile an expression; where are options of tcpdump's that say what the
// packets are. A program returns how many bytes of a packet that matches are of interest: snap.
func Compile(ctx context.Context, expression string, snap int, where ...string) ([]bpf.RawInstruction, error) {
	args := append(where, "-ddd", "-s", strconv.Itoa(snap), "--", expression)
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, "tcpdump", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("filters are compiled by tcpdump, which is not installed: install it (`apt install tcpdump`), or leave the filter out")
	case err != nil:
		lines := strings.Split(strings.TrimSpace(complaint.String()), "\n")
		return nil, fmt.Errorf("filter %q: %s", expression, strings.TrimPrefix(lines[len(lines)-1], "tcpdump: "))
	}
	return parseProgram(out.String())
}

// parseProgram reads what tcpdump -ddd prints: the number of instructions, then a line of
// four numbers for each.
func parseProgram(text string) ([]bpf.RawInstruction, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	n, err := strconv.Atoi(lines[0])
	if err != nil || n != len(lines)-1 || n == 0 || n > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("filter: tcpdump printed no program but %q", lines[0])
	}
	var program []bpf.RawInstruction
	for _, line := range lines[1:] {
		var i bpf.RawInstruction
		if _, err := fmt.Sscan(line, &i.Op, &i.Jt, &i.Jf, &i.K); err != nil {
			return nil, fmt.Errorf("filter: tcpdump printed no instruction but %q", line)
		}
		program = append(program, i)
	}
	return program, nil
}
