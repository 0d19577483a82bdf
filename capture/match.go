package capture

import (
	"context"
	"fmt"

	"golang.org/x/net/bpf"

	"weft/internal/filter"
)

// Matcher returns a function that says whether an Ethernet frame matches an expression of
// pcap-filter(7), for packets that were captured before.
func Matcher(ctx context.Context, expression string) (func(frame []byte) bool, error) {
	raw, err := filter.Ethernet(ctx, expression, MaxSnapLen)
	if err != nil {
		return nil, err
	}
	program, _ := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(program)
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w", expression, err)
	}
	return func(frame []byte) bool {
		n, err := vm.Run(frame)
		return err == nil && n > 0
	}, nil
}
