package device

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel takes the VLAN tag (IEEE 802.1Q) out of a frame before packet sockets get it, and says
// beside the frame which it was. Who carries frames puts it back, between addresses and type.
const (
	TagAt  = 12 // offset in a frame
	TagLen = 4
)

// Tag returns the tag that the kernel took out of a frame: the fields are those of struct
// tpacket2_hdr and of struct tpacket_auxdata.
func Tag(status uint32, tci, tpid uint16) (tag [TagLen]byte, ok bool) {
	if status&unix.TP_STATUS_VLAN_VALID == 0 {
		return tag, false
	}
	if status&unix.TP_STATUS_VLAN_TPID_VALID == 0 {
		tpid = unix.ETH_P_8021Q
	}
	binary.BigEndian.PutUint16(tag[:], tpid)
	binary.BigEndian.PutUint16(tag[2:], tci)
	return tag, true
}

// Aux is room for what a packet socket says beside a frame: the control message PACKET_AUXDATA of
// recvmsg(2).
type Aux [64]byte

// Tag returns the tag that the kernel took out of the frame; length is that of the control message.
func (a *Aux) Tag(length int) (tag [TagLen]byte, ok bool) {
	d := (*unix.TpacketAuxdata)(unsafe.Pointer(&a[unix.CmsgLen(0)]))
	if length < unix.CmsgLen(int(unsafe.Sizeof(*d))) {
		return tag, false
	}
	return Tag(d.Status, d.Vlan_tci, d.Vlan_tpid)
}
