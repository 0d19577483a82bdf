package network

import (
	"context"
	"errors"
	"testing"
	"time"

	"weft/control"
)

func say(n *Network, data string) {
	n.taps.pass(control.TapMessage{Switch: "s1", Controller: "c0", Conn: 1, FromSwitch: true, Data: control.Message(data)})
}

func TestControlFeed(t *testing.T) {
	var n Network
	say(&n, "nobody listens")
	f, g := n.ControlFeed(), n.ControlFeed()
	say(&n, "one")
	data := []byte("two")
	n.taps.pass(control.TapMessage{Switch: "s1", Controller: "c0", Data: data})
	copy(data, "new") // the feed keeps a copy
	n.taps.pass(control.TapMessage{Event: control.TapOpened})
	g.Close()
	say(&n, "three")
	for name, tt := range map[string]struct {
		feed *ControlFeed
		want []string
	}{"open": {f, []string{"one", "two", "three"}}, "closed": {g, []string{"one", "two"}}} {
		batch, err := tt.feed.Next(context.Background())
		if err != nil || len(batch) != len(tt.want) {
			t.Fatalf("%s: %+v, %v", name, batch, err)
		}
		for i, m := range batch {
			if string(m.Data) != tt.want[i] || m.Switch != "s1" || m.Missed != 0 {
				t.Errorf("%s: %+v", name, m)
			}
		}
	}
	if _, err := g.Next(context.Background()); err == nil {
		t.Error("a closed feed goes on")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := f.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	f.Close()
}

// A listener that does not read loses messages, and is told how many.
func TestControlFeedOverflow(t *testing.T) {
	var n Network
	f := n.ControlFeed()
	defer f.Close()
	const count = 300
	big := string(make([]byte, control.MaxMessage))
	for range count {
		say(&n, big)
	}
	got, missed := 0, uint64(0)
	read := func() {
		batch, err := f.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range batch {
			missed += m.Missed
			if len(m.Data) > 0 {
				got++
			}
		}
	}
	read()
	if got == 0 || got*len(big) > feedLimit || got+int(missed) != count {
		t.Errorf("got %d, missed %d", got, missed)
	}
	say(&n, "again")
	read()
	if got+int(missed) != count+1 {
		t.Errorf("got %d, missed %d after it was read", got, missed)
	}
}
