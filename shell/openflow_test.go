package shell

import (
	"encoding/json"
	"fmt"
	"net/http"
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

func flows(list ...network.Flow) (all []flow) {
	for _, f := range list {
		all = append(all, flow{Flow: f})
	}
	return all
}

func TestRate(t *testing.T) {
	before := flows(network.Flow{Match: "a", Age: 1, Packets: 10, Bytes: 1000}, network.Flow{Match: "again", Age: 5, Packets: 10})
	now := flows(network.Flow{Match: "a", Age: 3, Packets: 30, Bytes: 2000}, network.Flow{Match: "again", Age: 1, Packets: 20}, network.Flow{Match: "new", Age: 1})
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
	before := p.before
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
