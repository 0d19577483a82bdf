package network

import "testing"

func TestUDPErrors(t *testing.T) {
	receive, send := udpErrors("Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\nUdp: 1 2 3 4 5 6\nUdpLite: RcvbufErrors\nUdpLite: 9\n")
	if receive != 5 || send != 6 {
		t.Errorf("%d, %d", receive, send)
	}
	if r, s := udpErrors("Udp: RcvbufErrors\nUdp: x y z\n"); r != 0 || s != 0 {
		t.Errorf("%d, %d", r, s)
	}
}

func TestParseLost(t *testing.T) {
	if n := parseLost("netdev@ovs-netdev:\n  lookups: hit:10 missed:2 lost:3\n  flows: 1\nsystem@ovs-system:\n  lookups: hit:1 missed:1 lost:4\n"); n != 7 {
		t.Errorf("%d", n)
	}
}
