package probe

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The kernel keeps the neighbours (ARP, NDP) of all namespaces of a machine in one
// table per protocol, by default of 1,024 entries (gc_thresh3), and an entry cannot
// give way to another in its first five seconds. 64 hosts that all know each other
// are 4,032 entries, and only the machine's owner can raise the limit. But entries
// marked as managed from outside (NTF_EXT_LEARNED) do not count. So before many hosts
// meet, Ping makes such an entry for each neighbour-to-be, with nothing in it: the
// host resolves and ages it as it would its own.

// roomyNeighbours is how many entries are left to the kernel: it does not collect
// any as long as the table has fewer (gc_thresh1).
const roomyNeighbours = 128

// reserveNeighbours makes sure that host has a neighbour entry for each of peers that
// is on one of its links. It is a help, not a need: where it fails, hosts depend on the
// room that the kernel has.
func reserveNeighbours(host Host, peers []netip.Addr) error {
	if host.Do == nil {
		return nil
	}
	return host.Do(func() error {
		links, err := onLink()
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		const most = 32 << 10 // bytes per message to the kernel
		var request []byte
		for i, peer := range peers {
			if device := links.device(peer); device != 0 {
				request = appendNewNeighbour(request, device, peer)
			}
			if len(request) > most || i == len(peers)-1 && len(request) > 0 {
				if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
					return err
				}
				request = request[:0]
			}
		}
		return nil
	})
}

// A linkTable says which interfaces reach which addresses directly.
type linkTable []linkAddr

type linkAddr struct {
	netip.Prefix     // of the interface: its own address and how much of it is the network
	device       int // index
}

// onLink returns the table of this thread's namespace.
func onLink() (linkTable, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var table linkTable
	for _, device := range devices {
		if device.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := device.Addrs()
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			prefix, err := netip.ParsePrefix(addr.String())
			if err != nil {
				continue // not an Internet address
			}
			table = append(table, linkAddr{prefix, device.Index})
		}
	}
	return table, nil
}

// device returns the index of the interface that reaches peer directly, 0 if none.
func (t linkTable) device(peer netip.Addr) int {
	found := 0
	for _, l := range t {
		if l.Addr() == peer {
			return 0
		}
		if found == 0 && l.Contains(peer) {
			found = l.device
		}
	}
	return found
}

// appendNewNeighbour appends an RTM_NEWNEIGH request to b: a struct nlmsghdr, a struct
// ndmsg and the address. An entry that exists stays as it is.
func appendNewNeighbour(b []byte, device int, peer netip.Addr) []byte {
	const nlmsghdr, ndmsg = 16, 12
	family, addr := byte(unix.AF_INET6), peer.AsSlice()
	if peer.Is4() {
		family = unix.AF_INET
	}
	ne := binary.NativeEndian
	b = ne.AppendUint32(b, uint32(nlmsghdr+ndmsg+unix.SizeofRtAttr+len(addr)))
	b = ne.AppendUint16(b, unix.RTM_NEWNEIGH)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b = append(b, make([]byte, 8)...) // sequence number, port
	b = append(b, family, 0, 0, 0)
	b = ne.AppendUint32(b, uint32(device))
	b = ne.AppendUint16(b, unix.NUD_NONE)
	b = append(b, unix.NTF_EXT_LEARNED, 0)
	b = ne.AppendUint16(b, uint16(unix.SizeofRtAttr+len(addr)))
	b = ne.AppendUint16(b, unix.NDA_DST)
	return append(b, addr...)
}
