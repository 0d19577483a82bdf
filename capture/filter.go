package capture

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weft/internal/filter"
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
		link, err = filter.Compile(ctx, cfg.Filter, snap, "-i", "lo")
		return err
	})
	if err != nil {
		return f, err
	}
	if control, err = filter.Ethernet(ctx, cfg.Filter, snap); err != nil {
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
