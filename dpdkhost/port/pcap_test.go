package port

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"weft/dpdkhost/manager"
	"weft/internal/packetfile"
)

// capture writes a file of n packets, a millisecond apart.
func capture(t *testing.T, n int) string {
	t.Helper()
	b := packetfile.AppendHeader(nil)
	for i := range n {
		b = packetfile.AppendPacket(b, time.Unix(1000, int64(i)*1e6), numbered(i))
	}
	name := filepath.Join(t.TempDir(), "in.pcap")
	must(t, os.WriteFile(name, b, 0o600))
	return name
}

// numbered is a packet of some length that says which it is.
func numbered(i int) []byte {
	b := make([]byte, 64+i*37%2000)
	binary.BigEndian.PutUint32(b[14:], uint32(i))
	return b
}

// play plays a file from a port to the sink of another, and returns what is there afterwards.
func play(t *testing.T, r Replay, want int) (packets []packetfile.Packet, start time.Time) {
	t.Helper()
	m, end := newManager(t, manager.Config{Frames: 2048, Large: 16})
	o := NewOpener(m)
	small, large, err := m.Left()
	must(t, err)
	must(t, m.SetChain(manager.Chain{Name: manager.DefaultChain, Out: 2}))
	sink := filepath.Join(t.TempDir(), "out.pcap")
	out, kind, err := o.Open(Config{Kind: Pcap, Replay: Replay{Sink: sink}})
	must(t, err)
	if kind != Pcap {
		t.Errorf("kind %s", kind)
	}
	must(t, m.AddPort(2, "out", out))
	start = time.Now()
	in, _, err := o.Open(Config{Kind: Pcap, Replay: r})
	must(t, err)
	must(t, m.AddPort(1, "in", in))
	size := 0
	for i := range want {
		size += 16 + len(numbered(i%1000))
	}
	eventually(t, "the packets do not arrive", func() bool {
		info, err := os.Stat(sink)
		return err == nil && info.Size() >= int64(24+size)
	})
	must(t, m.RemovePort(1))
	must(t, m.RemovePort(2))
	if s, l, err := m.Left(); s != small || l != large || err != nil {
		t.Errorf("%d and %d frames are left of %d and %d, %v", s, l, small, large, err)
	}
	end()
	f, err := os.Open(sink)
	must(t, err)
	defer f.Close()
	reader, err := packetfile.NewReader(f)
	must(t, err)
	for {
		p, err := reader.Next()
		if err == io.EOF {
			return packets, start
		}
		must(t, err)
		p.Data = bytes.Clone(p.Data)
		packets = append(packets, p)
	}
}

func TestReplay(t *testing.T) {
	name := capture(t, 1000)
	for _, c := range []struct {
		replay Replay
		want   int
		least  time.Duration // until the last packet
	}{
		{Replay{File: name}, 1000, 0},
		{Replay{File: name, Loops: 3, Rate: 50_000}, 3000, 2999 * 20 * time.Microsecond},
		{Replay{File: name, Timed: true}, 1000, 999 * time.Millisecond},
		{Replay{File: name, Rate: 5000}, 1000, 999 * 200 * time.Microsecond},
	} {
		got, start := play(t, c.replay, c.want)
		if len(got) != c.want {
			t.Errorf("%+v: %d packets, want %d", c.replay, len(got), c.want)
			continue
		}
		for i, p := range got {
			if !bytes.Equal(p.Data, numbered(i%1000)) {
				t.Fatalf("%+v: packet %d is another", c.replay, i)
			}
		}
		took := got[len(got)-1].Time.Sub(start)
		t.Logf("%+v: %d packets in %v", c.replay, len(got), took)
		if took < c.least {
			t.Errorf("%+v: the packets came within %v, want %v", c.replay, took, c.least)
		}
	}
}

// A capture that is no capture, or ends too early, is an error; what came before is played.
func TestReplayBad(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		must(t, os.WriteFile(name, b, 0o600))
		return name
	}
	o := &Opener{}
	ip := packetfile.AppendPacket(packetfile.AppendHeader(nil), time.Unix(1, 0), make([]byte, 60))
	ip[20] = byte(packetfile.LinkRaw)
	for text, r := range map[string]Replay{
		"no such file":              {File: filepath.Join(dir, "none")},
		"not a capture":             {File: write("text", []byte("this is text, and long enough to be read"))},
		"no packets":                {File: write("empty", packetfile.AppendHeader(nil))},
		"link type 101":             {File: write("ip", ip)},
		"needs a file":              {},
		"rate":                      {File: "x", Rate: -1},
		"exclude":                   {File: "x", Rate: 1, Timed: true},
		"written":                   {File: "x", Sink: "x"},
		"no such file or directory": {Sink: filepath.Join(dir, "no", "such")},
	} {
		_, _, err := o.Open(Config{Kind: Pcap, Replay: r})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", r, err, text)
		}
	}
	whole, err := os.ReadFile(capture(t, 10))
	must(t, err)
	cut := write("cut", whole[:len(whole)-10])
	m, _ := newManager(t, manager.Config{Frames: 64})
	p, _, err := NewOpener(m).Open(Config{Kind: Pcap, Replay: Replay{File: cut}})
	must(t, err)
	<-p.(*pcap).player.stopped
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("a capture that is cut: %v", err)
	}
}

// Captures are played whatever their format is, in their times and with frames of all lengths.
func TestReplayFormats(t *testing.T) {
	const n, gap = 40, 2500 * time.Microsecond // below a microsecond's resolution: n·gap is what counts
	at := func(i int) time.Time { return time.Unix(1000, 999_999_123).Add(time.Duration(i) * gap) }
	files := map[string]func(w io.Writer) error{
		"nanoseconds": func(w io.Writer) error {
			b := packetfile.AppendHeader(nil)
			for i := range n {
				b = packetfile.AppendPacket(b, at(i), numbered(i))
			}
			_, err := w.Write(b)
			return err
		},
		"microseconds": func(w io.Writer) error {
			p := pcapgo.NewWriter(w)
			err := p.WriteFileHeader(65535, layers.LinkTypeEthernet)
			for i := range n {
				err = errors.Join(err, p.WritePacket(gopacket.CaptureInfo{Timestamp: at(i), CaptureLength: len(numbered(i)), Length: len(numbered(i))}, numbered(i)))
			}
			return err
		},
		"pcapng, two interfaces": func(w io.Writer) error {
			p, err := pcapgo.NewNgWriter(w, layers.LinkTypeEthernet)
			if err != nil {
				return err
			}
			if _, err := p.AddInterface(pcapgo.NgInterface{Name: "second", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}); err != nil {
				return err
			}
			for i := range n {
				err = errors.Join(err, p.WritePacket(gopacket.CaptureInfo{Timestamp: at(i), CaptureLength: len(numbered(i)), Length: len(numbered(i)), InterfaceIndex: i % 2}, numbered(i)))
			}
			return errors.Join(err, p.Flush())
		},
	}
	for name, write := range files {
		for _, compress := range []bool{false, true} {
			var b bytes.Buffer
			if !compress {
				must(t, write(&b))
			} else {
				z := gzip.NewWriter(&b)
				must(t, write(z))
				must(t, z.Close())
			}
			file := filepath.Join(t.TempDir(), "in")
			must(t, os.WriteFile(file, b.Bytes(), 0o600))
			got, start := play(t, Replay{File: file, Timed: true}, n)
			if len(got) != n {
				t.Fatalf("%s: %d packets, want %d", name, len(got), n)
			}
			for i, p := range got {
				if !bytes.Equal(p.Data, numbered(i)) {
					t.Fatalf("%s: packet %d is another", name, i)
				}
				if due := time.Duration(i)*gap - 2*time.Microsecond; p.Time.Sub(start) < due {
					t.Errorf("%s: packet %d came after %v, not %v", name, i, p.Time.Sub(start), due)
				}
			}
		}
	}
}
