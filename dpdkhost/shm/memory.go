// Package shm is the memory that a network function (NF) shares with its manager: frames in
// one file in memory, and rings of descriptors, each with one producer and one consumer. It
// has no policy. It imports nothing of weft's.
//
//	manager ──descriptors──► receive ring ──► NF ──► transmit ring ──► manager
//	    └────────────── frames (2 KiB each, never copied) ──────────────┘
package shm

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FrameSize is the room of a frame in bytes, headroom included. LargeSize is that of the few
// large frames, for what TSO leaves in one piece (65,550 bytes).
const (
	FrameSize = 2048
	LargeSize = 68 << 10
)

// Headroom is what a port leaves free before a packet, for headers that NFs add. 256 bytes
// are what AF_XDP keeps for XDP programs too.
const Headroom = 256

// A Memory is a set of frames that processes share.
type Memory struct {
	file  *os.File
	data  []byte
	small uint32 // frames of FrameSize; the large ones have the numbers after them
	large uint32
}

// NewMemory makes memory for a number of frames and of large frames. It lies on huge pages
// where the machine has enough of them free: a quarter faster. Its size is sealed: who gets
// the file cannot cut it off under others (memfd_create(2)).
func NewMemory(frames, large int) (*Memory, error) {
	if frames <= 0 || frames > maxFrames || large < 0 || large > maxFrames {
		return nil, fmt.Errorf("packet memory of %d and %d frames: at most %d", frames, large, maxFrames)
	}
	size := frames*FrameSize + large*LargeSize
	f, data, err := anonymous("weft-frames", size, unix.MFD_HUGETLB)
	if err != nil {
		f, data, err = anonymous("weft-frames", size, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("packet memory of %d frames: %w", frames, err)
	}
	return &Memory{file: f, data: data, small: uint32(frames), large: uint32(large)}, nil
}

const maxFrames = 1 << 22

const hugePage = 2 << 20

// anonymous makes a sealed file in memory and maps it.
func anonymous(name string, size int, flags int) (*os.File, []byte, error) {
	if flags&unix.MFD_HUGETLB != 0 {
		size = (size + hugePage - 1) &^ (hugePage - 1)
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|flags)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		f.Close()
		return nil, nil, err
	}
	data, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, data, nil
}

// OpenMemory maps the memory of another process, which says how many frames it has, to read
// and, unless readOnly, to write.
func OpenMemory(f *os.File, frames, large int, readOnly bool) (*Memory, error) {
	prot := unix.PROT_READ | unix.PROT_WRITE
	if readOnly {
		prot = unix.PROT_READ
	}
	data, err := mapFile(f, prot)
	if err != nil {
		return nil, fmt.Errorf("packet memory: %w", err)
	}
	if frames < 0 || large < 0 || frames > maxFrames || large > maxFrames || frames*FrameSize+large*LargeSize > len(data) {
		unix.Munmap(data)
		return nil, fmt.Errorf("packet memory: %d bytes are too few for %d and %d frames", len(data), frames, large)
	}
	return &Memory{file: f, data: data, small: uint32(frames), large: uint32(large)}, nil
}

func mapFile(f *os.File, prot int) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return nil, fmt.Errorf("%s is not sealed: whoever made it could cut it off", f.Name())
	}
	return unix.Mmap(int(f.Fd()), 0, int(info.Size()), prot, unix.MAP_SHARED|unix.MAP_POPULATE)
}

// File returns the memory's file, to hand to another process.
func (m *Memory) File() *os.File { return m.file }

// Frames returns how many frames there are, and how many large ones, whose numbers follow.
func (m *Memory) Frames() (small, large int) { return int(m.small), int(m.large) }

// place returns where a frame begins and how large it is; 0, 0 if there is none such.
func (m *Memory) place(i uint32) (at, size int) {
	if i < m.small {
		return int(i) * FrameSize, FrameSize
	}
	if i -= m.small; i < m.large {
		return int(m.small)*FrameSize + int(i)*LargeSize, LargeSize
	}
	return 0, 0
}

// Bytes returns all of the memory.
func (m *Memory) Bytes() []byte { return m.data }

// Frame returns the whole room of a frame.
func (m *Memory) Frame(i uint32) []byte {
	at, size := m.place(i)
	return m.data[at : at+size : at+size]
}

// Packet returns the packet that a descriptor stands for; its capacity ends with its frame. It
// is nil if the packet lies outside its frame or the frame outside the memory.
func (m *Memory) Packet(d *Desc) []byte {
	at, size := m.place(d.Frame)
	if uint64(d.Offset)+uint64(d.Length) > uint64(size) || size == 0 {
		return nil
	}
	from := at + int(d.Offset)
	return m.data[from : from+int(d.Length) : at+size]
}

// Valid reports whether a descriptor lies inside its frame, and that inside the memory.
func (m *Memory) Valid(d *Desc) bool {
	_, size := m.place(d.Frame)
	return size != 0 && uint64(d.Offset)+uint64(d.Length) <= uint64(size)
}

// Close unmaps the memory and closes its file.
func (m *Memory) Close() error {
	err := unix.Munmap(m.data)
	m.data = nil
	if cerr := m.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// A Desc says where a packet is and what to do with it.
type Desc struct {
	Frame  uint32
	Length uint32 // of the packet
	Offset uint16 // of the packet in its frame
	To     uint16 // service or port, by the action
	Port   uint16 // by which the packet came in
	Action Action
	Flags  Flags
}

// Flags say more about a packet.
type Flags uint8

// HasVnet says that a struct virtio_net_hdr (linux/virtio_net.h) at the beginning of the
// frame tells of an unfinished checksum or of segments still to cut.
const HasVnet Flags = 1

// An Action is an NF's verdict on a packet.
type Action uint8

// The actions, those of OpenNetVM and CLONE and CONTROLLER.
const (
	Drop       Action = iota // back to the pool
	Next                     // on to the next service of the packet's chain
	ToNF                     // to the service To
	Out                      // out of the port To
	Clone                    // to the service To, and the original on to the next
	Buffer                   // the NF keeps it for now
	Controller               // to the OpenFlow controller
)

var descSize = int(unsafe.Sizeof(Desc{}))
