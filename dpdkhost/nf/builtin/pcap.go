package builtin

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const pcapText = `
Writes packets to a capture file that Wireshark reads, with the time of their batch, and passes
them on. Super-frames are written whole, and unfinished checksums as they are. A second FILE is
never written over: a running number makes its name another's. A full disk or the limit ends
the capture, not the traffic.`

type pcap struct {
	clock
	out      *bufio.Writer
	file     io.Closer
	snap     int
	left     int64 // bytes until the limit
	packets  uint64
	skipped  uint64
	failed   error
	flushing time.Time
	record   [pcapRecord]byte
}

// The file format (draft-ietf-opsawg-pcap), with nanoseconds.
const (
	pcapMagic    = 0xa1b23c4d
	pcapEthernet = 1
	pcapHead     = 24
	pcapRecord   = 16
	maxSnap      = 262144
)

func definePcap(flags *pflag.FlagSet) func() (nf.Function, error) {
	name := flags.String("file", "", "the capture `FILE`")
	snap := flags.Int("snap", maxSnap, "`bytes` of each packet")
	limit := flags.Int64("limit", 1<<30, "`bytes` of the file, at most")
	return func() (nf.Function, error) {
		if *name == "" {
			return nil, fmt.Errorf("tell it a --file")
		}
		if *snap < 1 || *snap > maxSnap {
			return nil, fmt.Errorf("--snap %d: from 1 to %d", *snap, maxSnap)
		}
		f, err := createNew(*name)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		return newPcap(f, *snap, *limit), nil
	}
}

// createNew makes a file that was not there: FILE, or FILE.1 and so on, for instances of a
// service.
func createNew(name string) (*os.File, error) {
	for n := range 1000 {
		numbered := name
		if n > 0 {
			numbered = fmt.Sprintf("%s.%d", name, n)
		}
		f, err := os.OpenFile(numbered, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s and 999 more are there already", name)
}

func newPcap(w io.WriteCloser, snap int, limit int64) *pcap {
	p := &pcap{out: bufio.NewWriterSize(w, 1<<18), file: w, snap: snap, left: limit - pcapHead}
	var head [pcapHead]byte
	binary.LittleEndian.PutUint32(head[0:], pcapMagic)
	binary.LittleEndian.PutUint16(head[4:], 2)
	binary.LittleEndian.PutUint16(head[6:], 4)
	binary.LittleEndian.PutUint32(head[16:], uint32(snap))
	binary.LittleEndian.PutUint32(head[20:], pcapEthernet)
	_, p.failed = p.out.Write(head[:])
	return p
}

func (p *pcap) Handle(batch []nf.Packet) {
	record := p.record[:]
	binary.LittleEndian.PutUint32(record[0:], uint32(p.now.Unix()))
	binary.LittleEndian.PutUint32(record[4:], uint32(p.now.Nanosecond()))
	for i := range batch {
		batch[i].Next()
		b := batch[i].Data()
		kept := b[:min(len(b), p.snap)]
		if p.left < int64(pcapRecord+len(kept)) || p.failed != nil {
			p.skipped++
			continue
		}
		p.left -= int64(pcapRecord + len(kept))
		binary.LittleEndian.PutUint32(record[8:], uint32(len(kept)))
		binary.LittleEndian.PutUint32(record[12:], uint32(len(b)))
		if _, p.failed = p.out.Write(record); p.failed == nil {
			_, p.failed = p.out.Write(kept)
		}
		p.packets++
	}
}

// Tick writes what waits, so that who follows the file sees it.
func (p *pcap) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	if now.Sub(p.flushing) >= tickEvery/4 && p.failed == nil {
		p.flushing = now
		p.failed = p.out.Flush()
	}
	_, next := p.clock.Tick(now, send)
	return 0, next / 4
}

// Counters shows what was written and what was not.
func (p *pcap) Counters(f func(string, uint64)) {
	show(f, counter{"written", &p.packets}, counter{"skipped", &p.skipped})
}

// Close ends the file.
func (p *pcap) Close() error {
	if p.failed == nil {
		p.failed = p.out.Flush()
	}
	return errors.Join(p.failed, p.file.Close())
}
