// Package packetfile reads packets from capture files: pcap and pcapng, of either byte
// order, plain or compressed with gzip or zstd, also while they are still being written.
// What a block claims never makes it allocate more than a packet may have. (gopacket's
// readers believe the lengths that they read.)
//
// It imports nothing of weft.
package packetfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A Packet is a packet of a file. Data is valid until the next call of Next.
type Packet struct {
	Time     time.Time
	LinkType LinkType
	// Interface is the name of where it was captured, if the file says it.
	Interface string
	Data      []byte
	Length    int // of the whole packet, bytes; more than len(Data) if that was cut
}

// ErrFormat is matched by errors about files that are no captures, or broken.
var ErrFormat = errors.New("not a capture file")

// maxBlock bounds a packet and a block, bytes.
const maxBlock = 16 << 20

// The types of blocks that are read (draft-ietf-opsawg-pcapng, section 10.1).
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockOldPacket = 2
	blockSimple    = 3
	blockPacket    = 6
)

const (
	byteOrderMagic = 0x1a2b3c4d
	pcapMicro      = 0xa1b2c3d4
	pcapNano       = 0xa1b23c4d
)

// A Reader reads packets.
type Reader struct {
	src   *bufio.Reader
	order binary.ByteOrder
	next  func() (Packet, error)
	block []byte

	linkType   LinkType // of pcap
	nano       bool
	interfaces []iface // of pcapng
}

// An iface is an interface of a pcapng file.
type iface struct {
	linkType LinkType
	name     string
	unit     float64 // seconds that a timestamp counts
	offset   int64   // seconds that are added to timestamps
	snapLen  int
}

// NewReader reads the start of a file, to know what it is.
func NewReader(r io.Reader) (*Reader, error) {
	src, err := decompress(r)
	if err != nil {
		return nil, err
	}
	f := &Reader{src: src}
	magic, err := src.Peek(4)
	switch {
	case err == io.EOF && len(magic) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	case err == io.EOF:
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, len(magic))
	case err != nil:
		return nil, err
	}
	if binary.LittleEndian.Uint32(magic) == blockSection {
		f.order, f.next = binary.LittleEndian, f.nextBlock
		return f, nil
	}
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if m := o.Uint32(magic); m == pcapMicro || m == pcapNano {
			f.order, f.nano, f.next = o, m == pcapNano, f.nextRecord
			return f, f.header()
		}
	}
	return nil, fmt.Errorf("%w: it starts with %q", ErrFormat, magic)
}

// decompress undoes the compression of r, if it has one.
func decompress(r io.Reader) (*bufio.Reader, error) {
	src := bufio.NewReaderSize(r, 64<<10)
	magic, _ := src.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return bufio.NewReaderSize(z, 64<<10), nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return bufio.NewReaderSize(z, 64<<10), nil
	}
	return src, nil
}

// Next returns the next packet. The error is io.EOF at the end of the file and
// io.ErrUnexpectedEOF where the file ends within a packet.
func (f *Reader) Next() (Packet, error) { return f.next() }

// read returns the next n bytes.
func (f *Reader) read(n int) ([]byte, error) {
	if n > maxBlock {
		return nil, fmt.Errorf("%w: a block of %d bytes", ErrFormat, n)
	}
	if cap(f.block) < n {
		f.block = make([]byte, max(n, 64<<10))
	}
	_, err := io.ReadFull(f.src, f.block[:n])
	return f.block[:n], err
}

// header reads the header of a pcap file.
func (f *Reader) header() error {
	b, err := f.read(24)
	if err != nil {
		return fmt.Errorf("%w: its header is cut", ErrFormat)
	}
	f.linkType = LinkType(f.order.Uint32(b[20:]) & 0xffff)
	return nil
}

// nextRecord reads a packet of pcap.
func (f *Reader) nextRecord() (Packet, error) {
	b, err := f.read(16)
	if err != nil {
		return Packet{}, err
	}
	sec, frac := int64(f.order.Uint32(b)), int64(f.order.Uint32(b[4:]))
	n, length := f.order.Uint32(b[8:]), f.order.Uint32(b[12:])
	if !f.nano {
		frac *= 1000
	}
	if n > maxBlock {
		return Packet{}, fmt.Errorf("%w: a packet of %d bytes", ErrFormat, n)
	}
	if b, err = f.read(int(n)); err != nil {
		return Packet{}, cut(err)
	}
	return Packet{Time: time.Unix(sec, frac), LinkType: f.linkType, Data: b, Length: int(length)}, nil
}

// cut says that the end came within something.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// nextBlock reads blocks of pcapng up to the next packet.
func (f *Reader) nextBlock() (Packet, error) {
	for {
		typ, b, err := f.readBlock()
		if err != nil {
			return Packet{}, err
		}
		var p Packet
		ok := false
		switch typ {
		case blockSection:
			f.interfaces = nil
		case blockInterface:
			f.addInterface(b)
		case blockPacket, blockOldPacket:
			p, ok, err = f.packet(typ, b)
		case blockSimple:
			p, ok, err = f.simple(b)
		}
		if ok || err != nil {
			return p, err
		}
	}
}

// readBlock returns the type of the next block and what it holds.
func (f *Reader) readBlock() (typ uint32, body []byte, err error) {
	head, err := f.src.Peek(12)
	if len(head) == 0 {
		return 0, nil, err
	}
	if len(head) < 12 {
		return 0, nil, cut(err)
	}
	typ = f.order.Uint32(head)
	if typ == blockSection {
		// It says what the byte order is from here on.
		f.order = binary.LittleEndian
		if binary.BigEndian.Uint32(head[8:]) == byteOrderMagic {
			f.order = binary.BigEndian
		} else if f.order.Uint32(head[8:]) != byteOrderMagic {
			return 0, nil, fmt.Errorf("%w: a section with the byte order %x", ErrFormat, head[8:])
		}
	}
	n := f.order.Uint32(head[4:])
	if n < 12 || n > maxBlock {
		return 0, nil, fmt.Errorf("%w: a block of %d bytes", ErrFormat, n)
	}
	b, err := f.read(int(n+3) &^ 3)
	if err != nil {
		return 0, nil, cut(err)
	}
	return typ, b[8 : len(b)-4], nil
}

// The options of an interface that are read.
const (
	optionName       = 2
	optionResolution = 9
	optionOffset     = 14
)

func (f *Reader) addInterface(b []byte) {
	i := iface{unit: 1e-6}
	if len(b) >= 8 {
		i.linkType, i.snapLen = LinkType(f.order.Uint16(b)), int(f.order.Uint32(b[4:]))
		for b = b[8:]; len(b) >= 4; {
			code, n := f.order.Uint16(b), int(f.order.Uint16(b[2:]))
			if code == 0 || 4+n > len(b) {
				break
			}
			value := b[4 : 4+n]
			switch {
			case code == optionName:
				i.name = string(value)
			case code == optionResolution && n == 1 && value[0]&0x80 == 0:
				i.unit = math.Pow10(-int(value[0]))
			case code == optionResolution && n == 1:
				i.unit = math.Pow(2, -float64(value[0]&0x7f))
			case code == optionOffset && n == 8:
				i.offset = int64(f.order.Uint64(value))
			}
			b = b[min(4+(n+3)&^3, len(b)):]
		}
	}
	f.interfaces = append(f.interfaces, i)
}

// packet reads an Enhanced Packet Block, or the Packet Block of old.
func (f *Reader) packet(typ uint32, b []byte) (Packet, bool, error) {
	if len(b) < 20 {
		return Packet{}, false, fmt.Errorf("%w: a packet block of %d bytes", ErrFormat, len(b))
	}
	id := int(f.order.Uint32(b))
	if typ == blockOldPacket {
		id = int(f.order.Uint16(b))
	}
	if id >= len(f.interfaces) {
		return Packet{}, false, fmt.Errorf("%w: a packet of interface %d where there are %d", ErrFormat, id, len(f.interfaces))
	}
	i := f.interfaces[id]
	ticks := uint64(f.order.Uint32(b[4:]))<<32 | uint64(f.order.Uint32(b[8:]))
	n := int(f.order.Uint32(b[12:]))
	if n > len(b)-20 {
		return Packet{}, false, fmt.Errorf("%w: a packet of %d bytes in a block of %d", ErrFormat, n, len(b))
	}
	return Packet{Time: i.time(ticks), LinkType: i.linkType, Interface: i.name, Data: b[20 : 20+n],
		Length: int(f.order.Uint32(b[16:]))}, true, nil
}

// simple reads a Simple Packet Block: it has no time.
func (f *Reader) simple(b []byte) (Packet, bool, error) {
	if len(b) < 4 || len(f.interfaces) == 0 {
		return Packet{}, false, fmt.Errorf("%w: a simple packet of %d bytes, %d interfaces", ErrFormat, len(b), len(f.interfaces))
	}
	i := f.interfaces[0]
	length := int(f.order.Uint32(b))
	n := min(length, len(b)-4)
	if i.snapLen > 0 {
		n = min(n, i.snapLen)
	}
	return Packet{LinkType: i.linkType, Interface: i.name, Data: b[4 : 4+n], Length: length}, true, nil
}

// time converts a timestamp.
func (i iface) time(ticks uint64) time.Time {
	if i.unit == 1e-9 {
		return time.Unix(int64(ticks/1e9)+i.offset, int64(ticks%1e9))
	}
	if i.unit == 1e-6 {
		return time.Unix(int64(ticks/1e6)+i.offset, int64(ticks%1e6)*1000)
	}
	sec, frac := math.Modf(float64(ticks) * i.unit)
	return time.Unix(int64(sec)+i.offset, int64(frac*1e9))
}
