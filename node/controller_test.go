package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"weft/topo"
)

// Why a controller cannot be reached is one line, that says nothing twice.
func TestRemoteDialerErrors(t *testing.T) {
	cause := errors.New("refused")
	for _, c := range []struct {
		name string
		port int
		err  func(addr string) error
		want string
	}{
		{"one port", 6699, func(addr string) error { return fmt.Errorf("%s: %w", addr, cause) }, "c:6699: refused"},
		{"both ports", 0, func(addr string) error { return fmt.Errorf("%s: %w", addr, cause) }, "c:6653: refused; c:6633: refused"},
		{"no such name", 0, func(string) error { return fmt.Errorf("c: %w", cause) }, "c: refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dial, err := RemoteDialer(topo.PlannedController{Address: "c", Port: c.port},
				func(_ context.Context, addr string) (net.Conn, error) { return nil, c.err(addr) })
			if err != nil {
				t.Fatal(err)
			}
			if _, err := dial(t.Context()); err == nil || err.Error() != c.want || !errors.Is(err, cause) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}
