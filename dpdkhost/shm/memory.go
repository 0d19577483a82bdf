// Package shm is the memory that a network function (NF) shares with its manager: frames in
// one file in memory, and rings of descriptors, each with one producer and one consumer. It
// has no policy. It imports nothing of weft's, and only its file make.go, which NFs do without,
// anything but the standard library: "weft nf new" writes the rest into modules of users, who
// may have no network.
//
//	manager ──descriptors──► receive ring ──► NF ──► transmit ring ──► manager
//	    └────────────── frames (2 KiB each, never copied) ──────────────┘
package shm

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
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
	file *os.File
	mapping
	small uint32 // frames of FrameSize; the large ones have the numbers after them
	large uint32
}

const maxFrames = 1 << 22

// OpenMemory maps the memory of another process, which says how many frames it has, to read
// and, unless readOnly, to write.
func OpenMemory(f *os.File, frames, large int, readOnly bool) (*Memory, error) {
	prot := syscall.PROT_READ | syscall.PROT_WRITE
	if readOnly {
		prot = syscall.PROT_READ
	}
	mapped, err := mapFile(f, prot)
	if err != nil {
		return nil, fmt.Errorf("packet memory: %w", err)
	}
	if frames < 0 || large < 0 || frames > maxFrames || large > maxFrames || frames*FrameSize+large*LargeSize > len(mapped.data) {
		mapped.unmap()
		return nil, fmt.Errorf("packet memory: %d bytes are too few for %d and %d frames", len(mapped.data), frames, large)
	}
	return &Memory{file: f, mapping: mapped, small: uint32(frames), large: uint32(large)}, nil
}

func mapFile(f *os.File, prot int) (mapping, error) {
	info, err := f.Stat()
	if err != nil {
		return mapping{}, err
	}
	// fcntl(2) on seals and memfd_create(2) are younger than package syscall.
	const getSeals, sealShrink = 1034, 2
	seals, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), getSeals, 0)
	if errno != 0 || seals&sealShrink == 0 {
		return mapping{}, fmt.Errorf("%s is not sealed: whoever made it could cut it off", f.Name())
	}
	return mapPages(f, int(info.Size()), prot)
}

// A mapping is a file in the memory of the process.
type mapping struct {
	data     []byte
	reserved []byte // data, and what is left around it
}

func (m *mapping) unmap() error { return syscall.Munmap(m.reserved) }

const hugePage = 2 << 20

// mapPages maps a file and has its pages there; those of a large file on huge pages if the kernel
// can (transparent ones need no rights): to find a page's address costs as much as a packet.
func mapPages(f *os.File, size, prot int) (m mapping, err error) {
	if size < hugePage || onHuge(f) { // the kernel itself finds such a place for a file of hugetlbfs
		m.data, err = syscall.Mmap(int(f.Fd()), 0, size, prot, syscall.MAP_SHARED|syscall.MAP_POPULATE)
		m.reserved = m.data
		return m, err
	}
	// Huge pages are where addresses are multiples of their size.
	m.reserved, err = syscall.Mmap(-1, 0, size+hugePage, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return m, err
	}
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(m.reserved))) % hugePage)
	m.data = m.reserved[skip : skip+size : skip+size]
	at := uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))
	if _, _, errno := syscall.Syscall6(syscall.SYS_MMAP, at, uintptr(size), uintptr(prot), syscall.MAP_SHARED|syscall.MAP_FIXED|syscall.MAP_POPULATE, f.Fd(), 0); errno != 0 {
		// What was reserved stays so: the kernel may have left a hole in it, in which there may be
		// memory of another thread's by now.
		return m, errno
	}
	const collapse = 25 // madvise(2), Linux 6.1: package syscall is older. Refused: it is slower.
	syscall.Madvise(m.data, collapse)
	return m, nil
}

// File returns the memory's file, to hand to another process.
func (m *Memory) File() *os.File { return m.file }

// Frames returns how many frames there are, and how many large ones, whose numbers follow.
func (m *Memory) Frames() (small, large int) { return int(m.small), int(m.large) }

// Huge reports whether the memory lies on huge pages of hugetlbfs.
func (m *Memory) Huge() bool { return onHuge(m.file) }

func onHuge(f *os.File) bool {
	var s syscall.Statfs_t
	const hugetlbfs = 0x958458f6
	return syscall.Fstatfs(int(f.Fd()), &s) == nil && uint32(s.Type) == hugetlbfs
}

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
	if end := int(d.Offset) + int(d.Length); d.Frame < m.small && end <= FrameSize && d.Length <= FrameSize {
		f := m.data[int(d.Frame)*FrameSize:]
		return f[d.Offset:end:FrameSize]
	}
	at, size := m.place(d.Frame)
	if uint64(d.Offset)+uint64(d.Length) > uint64(size) || size == 0 {
		return nil
	}
	from := at + int(d.Offset)
	return m.data[from : from+int(d.Length) : at+size]
}

// Valid reports whether a descriptor lies inside its frame, and that inside the memory.
func (m *Memory) Valid(d *Desc) bool {
	if d.Frame < m.small {
		return uint64(d.Offset)+uint64(d.Length) <= FrameSize
	}
	return m.validLarge(d)
}

//go:noinline
func (m *Memory) validLarge(d *Desc) bool {
	_, size := m.place(d.Frame)
	return size != 0 && uint64(d.Offset)+uint64(d.Length) <= uint64(size)
}

// Close unmaps the memory and closes its file.
func (m *Memory) Close() error {
	err := m.unmap()
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
