package probe

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKnock(t *testing.T) {
	l := newLab(t, 3)
	port, err := l.fabric.LinkByName("p3")
	must(t, err)
	must(t, l.fabric.LinkSetDown(port))
	for _, udp := range []bool{false, true} {
		for _, ipv6 := range []bool{false, true} {
			results, err := Knock(context.Background(), l.hosts, KnockConfig{
				Pairs: [][2]int{{0, 1}, {1, 0}, {0, 2}}, UDP: udp, IPv6: ipv6, Port: 8080, Timeout: 300 * time.Millisecond})
			must(t, err)
			for i, want := range []bool{true, true, false} {
				if r := results[i]; r.Reached != want || want == (r.Reason != "") {
					t.Errorf("udp %v, ipv6 %v, pair %d: %+v, want %v", udp, ipv6, i, r, want)
				}
			}
		}
	}
}

// A program that has the port is reached as it is; with UDP that cannot be told.
func TestKnockTaken(t *testing.T) {
	l := newLab(t, 2)
	cfg := IperfConfig{Port: 8080}
	tcp, err := l.hosts[1].bind(cfg, unix.SOCK_STREAM)
	must(t, err)
	defer unix.Close(tcp)
	must(t, unix.Listen(tcp, 1))
	udp, err := l.hosts[1].bind(cfg, unix.SOCK_DGRAM)
	must(t, err)
	defer unix.Close(udp)
	results, err := Knock(context.Background(), l.hosts, KnockConfig{Pairs: [][2]int{{0, 1}}, Port: 8080})
	must(t, err)
	if !results[0].Reached {
		t.Errorf("a listening port: %+v", results[0])
	}
	_, err = Knock(context.Background(), l.hosts, KnockConfig{Pairs: [][2]int{{0, 1}}, UDP: true, Port: 8080})
	if err == nil || !strings.Contains(err.Error(), "h2 has a program at UDP port 8080") {
		t.Errorf("a UDP port that is taken: %v", err)
	}
}

// Nothing stays open.
func TestKnockCloses(t *testing.T) {
	l := newLab(t, 2)
	for _, udp := range []bool{false, true} {
		_, err := Knock(context.Background(), l.hosts, KnockConfig{Pairs: [][2]int{{0, 1}}, UDP: udp, Port: 8080})
		must(t, err)
	}
	must(t, l.hosts[1].Do(func() error {
		ln, err := net.Listen("tcp", "10.0.0.2:8080")
		if err != nil {
			return err
		}
		return ln.Close()
	}))
	if _, err := Knock(context.Background(), l.hosts, KnockConfig{Pairs: [][2]int{{0, 1}}, Port: 0}); err == nil {
		t.Error("port 0 was accepted")
	}
}
