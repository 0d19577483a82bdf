package capture

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestMerge(t *testing.T) {
	c := newCapture(t, Config{})
	a := &fakeSource{iface: c.newInterface("a", ""), times: []int64{1, 4, 5, 9}}
	b := &fakeSource{iface: c.newInterface("b", ""), times: []int64{2, 3, 6}}
	none := &fakeSource{iface: c.newInterface("none", "")}
	c.sources = []source{a, b, none}
	stream, stats := run(t, c)
	list, _ := read(t, stream)
	var times []int64
	for _, r := range list {
		times = append(times, r.time.UnixNano())
	}
	if !slices.Equal(times, []int64{1, 2, 3, 4, 5, 6, 9}) {
		t.Errorf("times %v", times)
	}
	if len(stats) != 2 || stats[0].Written != 4 || stats[1].Written != 3 {
		t.Errorf("statistics %+v", stats)
	}
}

// TestWindow checks when packets wait for older ones of a source that has none now.
func TestWindow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		full  bool
		limit int64
		want  int
	}{
		{"young packets wait", false, 2, 2},
		{"a full queue does not", true, 2, 3},
		{"old packets go", false, 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCapture(t, Config{})
			some := &fakeSource{iface: c.newInterface("some", ""), times: []int64{1, 2, 3}, full: tt.full}
			c.sources = []source{some, &fakeSource{iface: c.newInterface("none", "")}}
			if err := c.merge(discard{}, time.Unix(0, tt.limit)); err != nil {
				t.Fatal(err)
			}
			if some.at != tt.want {
				t.Errorf("%d packets went, want %d", some.at, tt.want)
			}
		})
	}
}

func TestCount(t *testing.T) {
	c := newCapture(t, Config{Count: 2})
	c.sources = []source{&fakeSource{iface: c.newInterface("a", ""), times: []int64{1, 2, 3}}}
	var out bytes.Buffer
	if _, err := c.Run(t.Context(), &out, nil); err != nil { // ends by itself
		t.Fatal(err)
	}
	if list, _ := read(t, out.Bytes()); len(list) != 2 {
		t.Errorf("%d packets, want 2", len(list))
	}
}

// failing fails from its n-th Write on.
type failing struct{ n int }

var errFull = errors.New("disk full")

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriterFails(t *testing.T) {
	c := newCapture(t, Config{})
	c.sources = []source{&fakeSource{iface: c.newInterface("a", ""), times: []int64{1, 2, 3}}}
	ended := false
	stats, err := c.Run(t.Context(), &failing{n: 1}, func() { ended = true })
	if !errors.Is(err, errFull) || !ended || len(stats) != 1 {
		t.Errorf("error %v, ended %v, statistics %v", err, ended, stats)
	}
}

// whole checks that each Write is of whole blocks.
type whole struct {
	t *testing.T
	n int
}

func (w *whole) Write(p []byte) (int, error) {
	w.n += len(blocks(w.t, p))
	return len(p), nil
}

func TestWholeBlocks(t *testing.T) {
	c := newCapture(t, Config{})
	c.sources = []source{&fakeSource{iface: c.newInterface("a", ""), times: make([]int64, 20000)}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := &whole{t: t}
	if _, err := c.Run(ctx, w, nil); err != nil {
		t.Fatal(err)
	}
	if w.n != 20003 { // section, interface, statistics
		t.Errorf("%d blocks", w.n)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, cfg := range map[string]Config{
		"snap length": {SnapLen: MaxSnapLen + 1},
		"filter":      {Filter: "tcp port nowhere"},
	} {
		if name == "filter" {
			needTcpdump(t)
		}
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPacketBlock(t *testing.T) {
	i := &iface{Statistics: Statistics{Name: "eth0"}, snapLen: 64}
	head := appendInterface(appendSection(nil, "test"), i)
	data := []byte("aaaaaabbbbbb\x08\x00payload")
	for _, tt := range []struct {
		name   string
		p      packet
		want   string
		length int
	}{
		{"plain", packet{data: data, length: len(data)}, string(data), len(data)},
		{"cut", packet{data: data[:15], length: len(data)}, string(data[:15]), len(data)},
		{"commented", packet{data: data, length: len(data), flags: flagOutbound, comment: []byte("s1 → c0")}, string(data), len(data)},
		{"tagged", packet{data: data, length: len(data), vlan: 0x8100_0005}, "aaaaaabbbbbb\x81\x00\x00\x05\x08\x00payload", len(data) + 4},
		{"tagged and cut", packet{data: make([]byte, 64), length: 100, vlan: 0x8100_0005}, string(make([]byte, 12)) + "\x81\x00\x00\x05" + string(make([]byte, 48)), 104},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.p.iface, tt.p.time = i, 1700000000_123456789
			stream := appendPacket(slices.Clone(head), &tt.p)
			blocks(t, stream)
			list, _ := read(t, stream)
			if len(list) != 1 || string(list[0].data) != tt.want || list[0].length != tt.length || list[0].time.UnixNano() != tt.p.time {
				t.Errorf("read %+v", list)
			}
		})
	}
}
