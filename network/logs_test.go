package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weft/topo"
)

func TestSeekTail(t *testing.T) {
	long := strings.Repeat("x", 100_000) + "\n"
	for _, c := range []struct {
		text  string
		lines int
		want  string
	}{
		{"a\nb\nc\n", 0, ""}, {"a\nb\nc\n", 1, "c\n"}, {"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc\n", 9, "a\nb\nc\n"},
		{"a\nb\nc", 1, "c"}, {"a\nb\nc", 2, "b\nc"}, {"\n\n", 1, "\n"}, {"", 3, ""}, {"a", 1, "a"},
		{"first\n" + long + long + "last\n", 2, long + "last\n"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := seekTail(f, c.lines); err != nil {
			t.Error(err)
		}
		got, _ := io.ReadAll(f)
		f.Close()
		if string(got) != c.want {
			t.Errorf("the last %d of %.20q: %.20q, want %.20q", c.lines, c.text, got, c.want)
		}
	}
}

// logging is a network that has nothing but logs.
func logging(t *testing.T) *Network {
	t.Helper()
	plan, err := topo.Spec{Hosts: []topo.Host{{Name: "h1"}}}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return &Network{env: Env{Dir: t.TempDir()}, plan: plan, ended: make(chan struct{})}
}

// A log that is followed shows what is written after it was full and another file was begun,
// and ends with the network.
func TestFollowLog(t *testing.T) {
	n := logging(t)
	log := n.log("h1")
	fmt.Fprintln(log, "before")
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- n.ReadLog(t.Context(), LogRequest{Name: "h1", Tail: 1, Follow: true}, w)
		w.Close()
	}()
	see := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Errorf("what is followed is not what was written: %v, %.20q instead of %.20q", err, got, want)
		}
	}
	see("before\n") // so it follows the first file
	full := strings.Repeat("x", maxLog+1)
	io.WriteString(log, full)
	fmt.Fprintln(log, "after")
	see(full + "after\n")
	close(n.ended)
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLogNames(t *testing.T) {
	n := logging(t)
	var out bytes.Buffer
	if err := n.ReadLog(context.Background(), LogRequest{Name: "h1", Tail: -1}, &out); err != nil || out.Len() > 0 {
		t.Errorf("a host without a log: %v %q", err, out.String())
	}
	for _, name := range []string{"", "h2", "../h1", "/etc/passwd", "log/../../secret"} {
		if err := n.ReadLog(context.Background(), LogRequest{Name: name, Tail: -1}, &out); !errors.Is(err, ErrNoNode) {
			t.Errorf("log %q: %v", name, err)
		}
	}
}

// The past is kept for a while, and who listens misses nothing between it and the present.
func TestEventsSince(t *testing.T) {
	n := &Network{}
	for range maxHistory + 10 {
		n.events.emit("INFO", "h1", "old")
	}
	middle := time.Now()
	n.events.send(Event{Kind: KindReady})
	past, now, stop := n.EventsSince(middle)
	defer stop()
	if len(past) != 1 || past[0].Kind != KindReady || past[0].Seq != maxHistory+11 || past[0].Level != "INFO" {
		t.Errorf("since then: %+v", past)
	}
	n.events.emit("WARN", "h1", "new")
	if e := <-now; e.Message != "new" || e.Kind != KindNote || e.Seq != past[0].Seq+1 {
		t.Errorf("now: %+v", e)
	}
	all, _, stopAll := n.EventsSince(time.Time{})
	defer stopAll()
	if len(all) < maxHistory || len(all) > 2*maxHistory {
		t.Errorf("%d events are kept", len(all))
	}
	n.events.close()
	if _, open := <-now; open {
		t.Error("the channel is open after the end")
	}
	n.events.emit("INFO", "", "too late") // does no harm
	if _, ended, _ := n.EventsSince(time.Now()); ended != nil {
		if _, open := <-ended; open {
			t.Error("a channel of a network that has ended is open")
		}
	}
}
