package shell

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"weft/network"
)

// heard is what the fake network's switch and controller say to each other, over and
// over: an echo and its answer.
func heard() []network.ControlMessage {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	return []network.ControlMessage{
		{Time: at, Switch: "s1", Controller: "c0", Connection: 1, FromSwitch: true, Data: []byte{4, 2, 0, 8, 0, 0, 0, 7}},
		{Time: at.Add(time.Millisecond), Switch: "s1", Controller: "c0", Connection: 1, Data: []byte{4, 3, 0, 8, 0, 0, 0, 7}, Missed: 2},
	}
}

// messages answers as GET /v1/control/messages does.
func (f *fakeNetwork) messages(w http.ResponseWriter, r *http.Request) {
	e := json.NewEncoder(w)
	rc := http.NewResponseController(w)
	for r.Context().Err() == nil {
		for _, m := range heard() {
			e.Encode(m)
		}
		rc.Flush()
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.Context().Done():
		}
	}
}

func TestParseFlows(t *testing.T) {
	got := parseFlows(`NXST_FLOW reply (xid=0x4):
 cookie=0x0, duration=4.5s, table=1, n_packets=0, n_bytes=0, idle_age=4, priority=0 actions=CONTROLLER:65535
 cookie=0xab, duration=1.25s, table=0, n_packets=2, n_bytes=196, idle_timeout=60, send_flow_rem priority=10,tcp,in_port=1,nw_src=10.0.0.0/8 actions=mod_nw_tos:4,output:2
 cookie=0x0, duration=9s, table=0, n_packets=1, n_bytes=42, arp actions=drop
`)
	want := []flow{
		{Table: 0, Priority: 32768, Match: "arp", Actions: "drop", Cookie: "0x0", Age: 9, Packets: 1, Bytes: 42},
		{Table: 0, Priority: 10, Match: "tcp,in_port=1,nw_src=10.0.0.0/8", Actions: "mod_nw_tos:4,output:2", Cookie: "0xab", Age: 1.25, Idle: 60, Packets: 2, Bytes: 196},
		{Table: 1, Actions: "CONTROLLER:65535", Cookie: "0x0", Age: 4.5},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestRate(t *testing.T) {
	before := []flow{{Match: "a", Age: 1, Packets: 10, Bytes: 1000}, {Match: "again", Age: 5, Packets: 10}}
	now := []flow{{Match: "a", Age: 3, Packets: 30, Bytes: 2000}, {Match: "again", Age: 1, Packets: 20}, {Match: "new", Age: 1}}
	rate(before, now, 2*time.Second)
	if p, b := now[0].PacketRate, now[0].BitRate; p == nil || *p != 10 || b == nil || *b != 4000 {
		t.Errorf("rates %v, %v", p, b)
	}
	if now[1].PacketRate != nil || now[2].PacketRate != nil {
		t.Error("rates of flows that were not there before")
	}
	var view strings.Builder
	flowsView([]flowsOf{{Switch: "s1", Flows: now}, {Switch: "s2"}}).native(&view)
	want := `switch  table  priority  match  actions  packets  bytes  pkt/s  bit/s  age
s1      0      0         a               30       2000   10     4k     3 s
s1      0      0         again           20       0      -      -      1 s
s1      0      0         new             0        0      -      -      1 s
s2      no flows
`
	if view.String() != want {
		t.Errorf("got:\n%s", view.String())
	}
}

func TestRateText(t *testing.T) {
	for in, want := range map[float64]string{0: "0", 0.5: "0.5", 999: "999", 1000: "1k", 1536: "1.5k", 2.5e6: "2.5M", 7e9: "7G", 7e12: "7000G"} {
		if got := rateText(&in); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func TestNotices(t *testing.T) {
	var n notices
	fmt.Fprint(&n, "one\ntwo\n")
	for range maxNotices {
		fmt.Fprint(&n, "more\n")
	}
	var out strings.Builder
	n.show(&out)
	if text := out.String(); !strings.HasPrefix(text, "one\ntwo\nmore\n") || !strings.HasSuffix(text, "more\n… and 2 lines more\n") || n.waiting() {
		t.Errorf("%d bytes, ending %q", len(text), text[len(text)-40:])
	}
}

// The conversation appears above the line that is being typed, which goes on.
func TestTerminalOpenflowBesideThePrompt(t *testing.T) {
	p := sitDown(t, "native", pty.Winsize{Rows: 24, Cols: 200})
	before := p.modes()
	p.sees("weft> ")
	p.types("openflow on --type ECHO_REQUEST\r")
	p.sees("s1 → c0 OF1.3 ECHO_REQUEST xid=7\r\n")
	p.types("nod")
	p.sees("nod")
	p.sees("s1 → c0 OF1.3 ECHO_REQUEST xid=7\r\n")
	p.sees("nod")
	p.types("es\r")
	p.sees("hosts        h1 h2\r\n")
	p.types("openflow off\r")
	p.sees("openflow off\r\n")
	p.sees("weft> ")
	p.types("exit\r")
	p.leaves(before)
}
