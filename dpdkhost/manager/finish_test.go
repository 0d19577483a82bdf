package manager

import (
	"encoding/binary"
	"testing"

	"weft/dpdkhost/shm"
	"weft/internal/vnet"
)

// A super-frame becomes frames as on a wire, as far as there is memory, and no frame of the memory
// is lost, whatever its header says.
func TestFinish(t *testing.T) {
	m, err := New(Config{Frames: 8, Large: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer m.mem.Close()
	super := func(payload, each int) shm.Desc {
		frame, ok := m.pool.Get(54 + payload)
		if !ok {
			t.Fatal("no frame")
		}
		d := shm.Desc{Frame: frame, Offset: shm.Headroom, Length: uint32(54 + payload), Flags: shm.HasVnet, Port: 3}
		header := m.mem.Frame(frame)[:vnet.Len]
		clear(header)
		header[0], header[1] = 1, 1 // a checksum to complete, TCP over IPv4
		binary.NativeEndian.PutUint16(header[4:], uint16(each))
		binary.NativeEndian.PutUint16(header[6:], 34)
		binary.NativeEndian.PutUint16(header[8:], 16)
		p := m.mem.Packet(&d)
		clear(p)
		binary.BigEndian.PutUint16(p[12:], typeIPv4)
		p[14], p[23], p[46] = 0x45, 6, 0x50
		copy(p[26:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		binary.BigEndian.PutUint16(p[50:], vnet.Fold(vnet.Sum(uint64(6+20+payload), p[26:34])))
		return d
	}
	for _, c := range []struct{ payload, each, frames, lost int }{
		{0, 1000, 1, 0}, {1000, 1000, 1, 0}, {5000, 1000, 5, 0}, {5001, 1000, 6, 0},
		{10_000, 1000, 8, 2}, // the memory has 8
		{60_000, 30_000, 1, 1},
		{60_000, 1, 8, 60_000 - 8},
	} {
		list, lost := m.pool.Finish(super(c.payload, c.each), nil)
		if len(list) != c.frames || lost != c.lost {
			t.Errorf("%+v: %d frames, %d lost", c, len(list), lost)
		}
		for _, d := range list {
			p := m.mem.Packet(&d)
			if d.Flags&shm.HasVnet != 0 || d.Port != 3 || p == nil {
				t.Fatalf("%+v: %+v", c, d)
			}
			if got := vnet.Fold(vnet.Sum(vnet.Sum(uint64(6+len(p)-34), p[26:34]), p[34:])); got != 0xffff {
				t.Errorf("%+v: the checksum is wrong: %x", c, got)
			}
			m.pool.Free(d.Frame)
		}
		if small, large := m.pool.Left(); small != 8 || large != 2 {
			t.Fatalf("%+v: %d and %d frames are left", c, small, large)
		}
	}
	// So does the agent get packets, which may come back.
	told := 0
	m.hooks.Miss = func(port uint16, p []byte, _ *Flow, _ bool) {
		if told++; port != 7 || vnet.Fold(vnet.Sum(vnet.Sum(uint64(6+len(p)-34), p[26:34]), p[34:])) != 0xffff {
			t.Errorf("from port %d: % x", port, p)
		}
	}
	for _, d := range []shm.Desc{super(0, 1000), super(2000, 1000)} {
		m.tell(&d, 7, nil, false)
	}
	if small, large := m.pool.Left(); told != 3 || small != 8 || large != 2 {
		t.Errorf("%d frames told, %d and %d left", told, small, large)
	}
}
