package capture

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weft/control"
)

var update = flag.Bool("update", false, "rewrite golden files")

func everything(sw, controller string) (string, bool) {
	return "OpenFlow between " + sw + " and " + controller, true
}

// run runs a capture to its end, which is at once.
func run(t testing.TB, c *Capture) ([]byte, []Statistics) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	stats, err := c.Run(ctx, &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), stats
}

func TestConversations(t *testing.T) {
	pipe, _ := net.Pipe()
	defer pipe.Close()
	none := pipe.LocalAddr()
	for _, tt := range []struct {
		name          string
		version       control.Version
		local, remote net.Addr
		ports         string // of both ends, in the file
	}{
		{"built in", control.OpenFlow13, none, none, "10001 6653"},
		{"1.0", control.OpenFlow10, tcpAddr("10.0.0.1:40000"), tcpAddr("192.0.2.1:6653"), "40000 6653"},
		{"1.1", control.OpenFlow11, tcpAddr("10.0.0.1:40000"), tcpAddr("192.0.2.1:6633"), "40000 6633"},
		{"1.4", control.OpenFlow14, tcpAddr("[::1]:40000"), tcpAddr("[::1]:6653"), "40000 6653"},
		{"1.5", control.OpenFlow15, tcpAddr("127.0.0.1:40000"), tcpAddr("127.0.0.1:7777"), "40000 6653"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCapture(t, Config{})
			control := c.AddControl([][2]string{{"s1", "c0"}, {"s2", "c0"}}, everything)
			sent := converse(control.Tap, tt.version, 1, 40000, tt.local, tt.remote)
			stream, stats := run(t, c)
			wellFormed(t, stream)
			if len(stats) != 2 || stats[0].Messages != uint64(sent) || stats[0].Dropped != 0 || stats[1].Messages != 0 {
				t.Errorf("statistics %+v, want %d messages on the first", stats, sent)
			}
			if _, names := read(t, stream); !slices.Equal(names, []string{"s1–c0", "s2–c0"}) {
				t.Errorf("interfaces %q", names)
			}
			// Wireshark knows 1.1 and 1.2 as OpenFlow, and no more of them.
			seen := tshark(t, stream, "-T", "fields", "-e", "_ws.col.Protocol")
			seen = slices.DeleteFunc(seen, func(protocol string) bool { return protocol != "OpenFlow" })
			if len(seen) != sent {
				t.Errorf("tshark sees %d messages, want %d", len(seen), sent)
			}
			ports := tshark(t, stream, "-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport", "-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0")
			if want := strings.ReplaceAll(tt.ports, " ", "\t"); len(ports) != 1 || ports[0] != want {
				t.Errorf("ports %q, want %q", ports, want)
			}
		})
	}
}

// TestConversationText compares what tshark says of two connections of a switch with a
// golden file: it shows the whole shape.
func TestConversationText(t *testing.T) {
	c := newCapture(t, Config{})
	ctl := c.AddControl([][2]string{{"s1", "c0"}}, everything)
	converse(ctl.Tap, control.OpenFlow13, 1, 3000, tcpAddr("127.0.0.1:40001"), tcpAddr("127.0.0.1:7777"))
	converse(ctl.Tap, control.OpenFlow13, 2, 3000, tcpAddr("127.0.0.1:40002"), tcpAddr("127.0.0.1:7777"))
	stream, _ := run(t, c)
	lines := tshark(t, stream, "-T", "fields", "-e", "frame.interface_name", "-e", "tcp.stream", "-e", "tcp.srcport", "-e", "tcp.flags.str",
		"-e", "tcp.seq", "-e", "tcp.ack", "-e", "tcp.len", "-e", "frame.comment")
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "conversation.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it):\n%s", golden, got)
	}
}

func TestConversationUnderWay(t *testing.T) {
	c := newCapture(t, Config{})
	ctl := c.AddControl(nil, everything)
	m := control.TapMessage{Time: time.Now(), Switch: "s1", Controller: "c0", Conn: 3,
		Local: tcpAddr("127.0.0.1:40001"), Remote: tcpAddr("127.0.0.1:6653"), Data: message(control.OpenFlow13, control.TypeEchoRequest, 9)}
	ctl.Tap(m)
	stream, _ := run(t, c)
	wellFormed(t, stream)
	comments := tshark(t, stream, "-T", "fields", "-e", "frame.comment", "-Y", "frame.comment")
	want := []string{"s1 – c0: connection begins; the connection is older than the capture", "c0 → s1 OpenFlow 1.3 ECHO_REQUEST xid=9"}
	if !slices.Equal(comments, want) {
		t.Errorf("comments %q, want %q", comments, want)
	}
}

// TestLostMessages fills the queue: the loss is counted, and shows in the stream.
func TestLostMessages(t *testing.T) {
	c := newCapture(t, Config{})
	ctl := c.AddControl(nil, everything)
	big := message(control.OpenFlow13, control.TypeEchoRequest, 1, make([]byte, 60000)...)
	m := control.TapMessage{Switch: "s1", Controller: "c0", Conn: 1, FromSwitch: true, Local: tcpAddr("127.0.0.1:40001"), Remote: tcpAddr("127.0.0.1:6653")}
	const sent = 700
	for range sent {
		m.Time, m.Data = time.Now(), big
		ctl.Tap(m)
	}
	kept := uint64(controlQueue / len(big))
	stream, stats := run(t, c)
	if s := stats[0]; s.Messages != sent || s.Dropped != sent-kept {
		t.Errorf("%+v, want %d of %d dropped", s, sent-kept, sent)
	}
	if types := blocks(t, stream); types[len(types)-1] != blockStatistics {
		t.Error("the stream does not end with statistics")
	}
}

func TestControlFilter(t *testing.T) {
	needTcpdump(t)
	c := newCapture(t, Config{Filter: "tcp[tcpflags] & tcp-push != 0 and src port 6653"})
	ctl := c.AddControl(nil, everything)
	converse(ctl.Tap, control.OpenFlow13, 1, 3000, tcpAddr("127.0.0.1:40001"), tcpAddr("127.0.0.1:6653"))
	stream, _ := run(t, c)
	if list, _ := read(t, stream); len(list) != 3 { // HELLO, ECHO_REQUEST's last segment, FEATURES_REQUEST
		t.Errorf("%d packets pass, want 3", len(list))
	}
}

func BenchmarkTap(b *testing.B) {
	c := newCapture(b, Config{})
	ctl := c.AddControl(nil, everything)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx, discard{}, nil)
	}()
	m := control.TapMessage{Switch: "s1", Controller: "c0", Conn: 1, Local: tcpAddr("127.0.0.1:40001"), Remote: tcpAddr("127.0.0.1:6653"),
		Data: message(control.OpenFlow13, control.TypePacketIn, 1, make([]byte, 100)...)}
	for b.Loop() {
		m.Time = time.Now()
		ctl.Tap(m)
	}
	cancel()
	<-done
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
