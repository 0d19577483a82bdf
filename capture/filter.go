package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
)

// filters are an expression as programs (bpf(4)). The two differ in where a VLAN tag is:
// the kernel has it beside the packet. A nil one takes all.
type filters struct {
	link    []unix.SockFilter
	control *bpf.VM
}

// compile makes programs of a Config's Filter. Without one the programs only cut.
func compile(ctx context.Context, cfg Config) (filters, error) {
	snap := cfg.SnapLen
	if cfg.Segment {
		snap = MaxSnapLen // segments are cut when they have been made
	}
	if cfg.Filter == "" {
		if snap == MaxSnapLen {
			return filters{}, nil
		}
		return filters{link: []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(snap)}}}, nil
	}
	var f filters
	// A namespace that has only a loopback interface: as in any, expressions are
	// compiled for Ethernet and for the kernel there.
	alone, err := ns.New(nil)
	if err != nil {
		return f, fmt.Errorf("filter: %w", err)
	}
	defer alone.Close()
	var link, control []bpf.RawInstruction
	err = alone.Do(func() (err error) {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("filter: loopback interface: %w", err)
		}
		link, err = dump(ctx, cfg.Filter, snap, "-i", "lo")
		return err
	})
	if err != nil {
		return f, err
	}
	if control, err = dump(ctx, cfg.Filter, snap, "-y", "EN10MB"); err != nil {
		return f, err
	}
	for _, i := range link {
		f.link = append(f.link, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	program, _ := bpf.Disassemble(control)
	if f.control, err = bpf.NewVM(program); err != nil {
		return f, fmt.Errorf("filter %q: %w", cfg.Filter, err)
	}
	return f, nil
}

// loopbackUp takes the loopback interface of the thread's network namespace up.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// dump has tcpdump compile an expression.
func dump(ctx context.Context, expression string, snap int, where ...string) ([]bpf.RawInstruction, error) {
	args := append(where, "-ddd", "-s", strconv.Itoa(snap), "--", expression)
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, "tcpdump", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("filters are compiled by tcpdump, which is not installed: install it (`apt install tcpdump`), or capture without a filter")
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
