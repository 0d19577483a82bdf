package server

import (
	"path/filepath"
	"strings"
	"testing"

	"weft/dpdkhost"
	"weft/dpdkhost/port"
	"weft/topo"
)

// Ports come and go while packets pass: NFs, chains and the other ports' counters stay.
func TestPorts(t *testing.T) {
	list := ports(t, flows(t, 10), 2000, -1)
	l := start(t, Config{Ports: list[:1], Chains: through(1), NFs: []topo.NF{{Name: "writer", Service: 1, Command: command("writer")}}})
	l.eventually("packets without a port", func(st *dpdkhost.State) bool { return st.Drops["noPort"] > 0 })
	pid := l.instance(1).PID
	received := l.state().Ports[0].Received
	l.must(l.AddPorts(t.Context(), list[1]))
	l.eventually("packets at the new port", func(st *dpdkhost.State) bool { return len(st.Ports) == 2 && st.Ports[1].Sent > 0 })

	for _, c := range []struct {
		list []Port
		want string
	}{
		{list[1:], "there is a port 2 already"},
		{[]Port{{0, list[1].Config}}, "number 0: write one from 1 to"},
		{[]Port{
			{3, port.Config{Kind: port.Pcap, Replay: port.Replay{Sink: filepath.Join(t.TempDir(), "three.pcap")}}},
			{4, port.Config{Kind: port.Packet, Device: "weftnone"}},
		}, "weftnone"},
	} {
		if err := l.AddPorts(t.Context(), c.list...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %s", err, c.want)
		}
	}
	if st := l.state(); len(st.Ports) != 2 {
		t.Errorf("ports after errors: %+v", st.Ports)
	}

	l.must(l.RemovePorts(t.Context(), 2, 9)) // there is no 9
	st := l.state()
	gone := st.Drops["noPort"]
	if len(st.Ports) != 1 || st.Ports[0].Received < received {
		t.Errorf("ports: %+v", st.Ports)
	}
	l.eventually("packets without a port again", func(st *dpdkhost.State) bool { return st.Drops["noPort"] > gone })
	if i := l.instance(1); i.PID != pid || i.Restarts != 0 || i.Sent < st.Drops["noPort"] {
		t.Errorf("the NF: %+v, was process %d", i, pid)
	}
	l.must(l.RemovePorts(t.Context(), 1))
	l.eventually("all frames are back", func(st *dpdkhost.State) bool { return len(st.Ports) == 0 && st.Pool.Free == st.Pool.Frames })
}
