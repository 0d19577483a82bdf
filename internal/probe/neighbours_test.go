package probe

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestReserveNeighbours(t *testing.T) {
	l := newLab(t, 2)
	h1 := l.hosts[0]
	peers := []netip.Addr{
		h1.IP, h1.IP6, // itself: none
		netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2"),
		netip.MustParseAddr("11.0.0.2"), // not on a link
	}
	for i := range 2000 { // more than one message
		peers = append(peers, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	for range 2 { // the second time changes nothing
		must(t, reserveNeighbours(h1, peers))
	}
	for family, want := range map[int]string{unix.AF_INET: "10.0.0.2", unix.AF_INET6: "fd00::2"} {
		list, err := l.inside[0].NeighList(0, family)
		must(t, err)
		found := make(map[string]netlink.Neigh)
		for _, n := range list {
			if n.Flags&unix.NTF_EXT_LEARNED != 0 {
				found[n.IP.String()] = n
			}
		}
		expected := 1
		if family == unix.AF_INET {
			expected = 2001
		}
		if _, ok := found[want]; !ok || len(found) != expected {
			t.Errorf("family %d: %d entries, want %d with %s", family, len(found), expected, want)
		}
	}
	// They are resolved when they are needed.
	results, err := Ping(t.Context(), l.hosts, PingConfig{Pairs: pairs(2)}, nil)
	must(t, err)
	for i, r := range results {
		if r.Received != 1 {
			t.Errorf("pair %d: %+v", i, r)
		}
	}
}
