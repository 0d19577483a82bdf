package vnet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// superFrame makes a TCP super-frame as a kernel does: its checksum field has the sum of the
// pseudo-header.
func superFrame(payload, each int) (header, frame []byte) {
	frame = append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
		0x12, 0x34, 0, 80, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0}, make([]byte, payload)...)
	for i := range frame[54:] {
		frame[54+i] = byte(i * i >> 3)
	}
	binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-14))
	binary.BigEndian.PutUint16(frame[50:], Fold(Sum(uint64(6+len(frame)-34), frame[26:34])))
	header = make([]byte, Len)
	header[flags], header[kind] = needsSum, tcp4
	binary.NativeEndian.PutUint16(header[segment:], uint16(each))
	binary.NativeEndian.PutUint16(header[sumStart:], 34)
	binary.NativeEndian.PutUint16(header[sumOffset:], 16)
	return header, frame
}

// The frames of a super-frame have its payload in order, and right checksums.
func TestDivide(t *testing.T) {
	header, frame := superFrame(3500, 1000)
	s := Understand(header, frame)
	if s.Count != 4 || s.Head != 54 || s.Payload != 1000 {
		t.Fatalf("%+v", s)
	}
	var payload []byte
	for i := range s.Count {
		from, to := s.Bounds(i, 1)
		part := bytes.Clone(header)
		one := append(bytes.Clone(frame[:s.Head]), frame[from:to]...)
		s.Divide(part, one[:s.Head], i, 1)
		if !Unfinished(part) {
			t.Error("the checksum is there already")
		}
		Complete(part, one)
		if Unfinished(part) {
			t.Error("something is left to do")
		}
		if got := Fold(Sum(0, one[14:34])); got != 0xffff {
			t.Errorf("frame %d: the sum of the IP header is %x", i, got)
		}
		if got := Fold(Sum(Sum(uint64(6+len(one)-34), one[26:34]), one[34:])); got != 0xffff {
			t.Errorf("frame %d: the sum of TCP is %x", i, got)
		}
		if seq := binary.BigEndian.Uint32(one[38:]); seq != 0xffffff00+uint32(i*1000) {
			t.Errorf("frame %d has the sequence number %x", i, seq)
		}
		if id := binary.BigEndian.Uint16(one[18:]); id != uint16(0xffff+i) {
			t.Errorf("frame %d has the ID %x", i, id)
		}
		if push := one[47]&tcpPSH != 0; push != (i == 3) {
			t.Errorf("frame %d: PSH is %v", i, push)
		}
		payload = append(payload, one[54:]...)
	}
	if !bytes.Equal(payload, frame[54:]) {
		t.Error("the payload is another")
	}
}

// Sum is that of RFC 1071, whatever the length and the carries.
func TestSum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for n := range 200 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.IntN(3) - 1) // many bytes of ff
		}
		want := uint64(0)
		for i, c := range b {
			want += uint64(c) << (8 * (1 - i&1))
		}
		if got := Fold(Sum(0, b)); got != Fold(want) {
			t.Errorf("%x: %x, want %x", b, got, Fold(want))
		}
		if got := Fold(Sum(1<<64-1, b)); got != Fold(want+0xffff) {
			t.Errorf("%x after ff…: %x, want %x", b, got, Fold(want+0xffff))
		}
	}
}

func TestMoved(t *testing.T) {
	header, frame := superFrame(2000, 1000)
	tagged := append(append(bytes.Clone(frame[:12]), 0x81, 0, 0, 7), frame[12:]...)
	Moved(header, 4)
	if s := Understand(header, tagged); s.Count != 2 || s.Head != 58 {
		t.Errorf("%+v", s)
	}
}

// Whatever the header claims, nothing outside the frame is touched.
func FuzzDivide(f *testing.F) {
	header, frame := superFrame(3500, 1000)
	f.Add(header, frame, uint16(1))
	f.Add(make([]byte, Len), make([]byte, 14), uint16(0))
	f.Fuzz(func(t *testing.T, header, frame []byte, first uint16) {
		if len(header) < Len {
			return
		}
		Moved(bytes.Clone(header), 4)
		Complete(bytes.Clone(header), bytes.Clone(frame))
		s := Understand(header, frame)
		if s.Count == 0 {
			return
		}
		i := int(first) % s.Count
		from, to := s.Bounds(i, 1)
		if from < s.Head || to > len(frame) || from >= to || to-from > s.Payload {
			t.Fatalf("frame %d of %+v has the payload from %d to %d of %d", i, s, from, to, len(frame))
		}
		part, one := bytes.Clone(header), append(bytes.Clone(frame[:s.Head]), frame[from:to]...)
		s.Divide(part, one[:s.Head:s.Head], i, 1)
		Complete(part, one)
	})
}
