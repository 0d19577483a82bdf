package topo

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// LinkMemif is shared memory between the managers of two DPDK nodes, or between one and a program
// outside that speaks memif (VPP, DPDK's net_memif). There are no devices, so nothing impairs,
// captures or cuts it.
const LinkMemif LinkDriver = "memif"

// MemifPrefix begins the names of the ends of links that are a memif socket of a program outside:
// "memif:/run/vpp/memif.sock?id=2". No node has such a name.
const MemifPrefix = "memif:"

// Memif is a memif socket of a program outside.
type Memif struct {
	Socket string // path
	// ID tells the interfaces of one socket apart.
	ID uint32
	// Server says that the node makes the socket and the program connects to it.
	Server bool
	// Secret that both sides must know, at most 24 bytes; "" for none.
	Secret string
}

// maxSocketPath bounds the path of a Unix socket, bytes (unix(7)).
const maxSocketPath = 107

// ParseMemif reads the end of a link that is a memif socket: memif:PATH, and behind a question
// mark, with & between, id=N, role=server (of the node; client is the default) and secret=WORD.
// ok is false if it names something else.
func ParseMemif(end string) (m Memif, ok bool, err error) {
	text, ok := strings.CutPrefix(end, MemifPrefix)
	if !ok {
		return m, false, nil
	}
	fail := func(format string, args ...any) (Memif, bool, error) {
		return m, true, fmt.Errorf("%s: %s", end, fmt.Sprintf(format, args...))
	}
	socket, query, _ := strings.Cut(text, "?")
	if !path.IsAbs(socket) || path.Clean(socket) != socket || len(socket) > maxSocketPath || strings.ContainsFunc(socket, func(r rune) bool { return r <= ' ' || r == ',' || r == 0x7f }) {
		return fail("write the whole path of the socket, at most %d bytes without blanks and commas: %s/run/vpp/memif.sock", maxSocketPath, MemifPrefix)
	}
	m.Socket = socket
	for part := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "":
		case "id":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return fail("id: %q is not a number from 0 to 4294967295", value)
			}
			m.ID = uint32(n)
		case "role":
			if value != "client" && value != "server" {
				return fail("%v", unknown("role", value, []string{"client", "server"}))
			}
			m.Server = value == "server"
		case "secret":
			if len(value) > 24 || strings.ContainsAny(value, "?, \t\n") {
				return fail("a secret has at most 24 bytes, without blanks, commas and question marks")
			}
			m.Secret = value
		default:
			return fail("%v", unknown("setting", key, []string{"id", "role", "secret"}))
		}
	}
	return m, true, nil
}

// key tells sockets' interfaces apart, however they are written.
func (m Memif) key() string { return fmt.Sprintf("%s%s#%d", MemifPrefix, m.Socket, m.ID) }

// Outside reports whether the end of a link is no node but outside: a NIC or a memif socket.
func Outside(end string) bool {
	return strings.HasPrefix(end, NICPrefix) || strings.HasPrefix(end, MemifPrefix)
}

// Outside returns the end of a link that is outside, and the other, which is a node's. ok is false
// for a link between nodes.
func (l PlannedLink) Outside() (outside, node PlannedEnd, ok bool) {
	switch {
	case Outside(l.A.Node):
		return l.A, l.B, true
	case Outside(l.B.Node):
		return l.B, l.A, true
	}
	return PlannedEnd{}, PlannedEnd{}, false
}

// draftMemif checks the end of a link that is a memif socket. Its interface is called as the socket.
func (g *growth) draftMemif(where place, l LinkEnd) (*draftEnd, bool) {
	m, _, err := ParseMemif(l.Node)
	if err != nil {
		g.fail(where, "%w", err)
		return nil, false
	}
	where.text += " on " + l.Node
	if l.Interface != "" && l.Interface != l.Node || l.Port != nil || l.MAC != "" || l.IP.IsValid() || l.IP6.IsValid() {
		g.fail(where, "a memif socket has nothing but its name; leave all but node out")
		return nil, false
	}
	e := &draftEnd{want: l, where: where, outside: true}
	e.is.Name = l.Node
	if !g.take(nameClaim(m.key(), m.key()), where.text) {
		g.fail(where, "interface %d of %s is another link's already; write another id", m.ID, m.Socket)
	}
	return e, true
}

// checkMemif says what is wrong with a link that is shared memory, and completes its driver.
func (g *growth) checkMemif(a, b *draftEnd, s *LinkSettings) error {
	var socket bool
	var nodes []*draftEnd
	for _, e := range []*draftEnd{a, b} {
		if strings.HasPrefix(e.want.Node, MemifPrefix) {
			socket = true
		} else {
			nodes = append(nodes, e)
		}
	}
	switch {
	case !socket && s.Driver != LinkMemif:
		return nil
	case len(nodes) == 0 || a.outside && b.outside:
		return errors.New("a link joins two nodes, or a dpdk node and a memif socket; write a dpdk node at one end")
	case s.Driver != "" && s.Driver != LinkAuto && s.Driver != LinkMemif:
		return fmt.Errorf("what is behind a memif socket is reached by a memif link; leave driver %s out", s.Driver)
	case len(nodes) == 1 && !socket:
		return errors.New("a NIC is lent by a hw link; leave driver memif out")
	}
	weft := 0
	for _, e := range nodes {
		sw := g.Switch(e.want.Node)
		switch {
		case sw == nil || sw.DPDK == nil:
			return fmt.Errorf("a memif link joins the managers of dpdk nodes, and %s is none; leave driver memif out", e.want.Node)
		case sw.DPDK.Manager == ManagerONVM:
			return fmt.Errorf("the manager of %s, OpenNetVM, has no memif; leave driver memif out, or write manager weft", e.want.Node)
		case sw.DPDK.Manager == ManagerWeft:
			weft++
		}
	}
	if weft == 0 && !socket {
		return fmt.Errorf("%s and %s are both DPDK programs, of which one crashes if the other ends (net_memif); leave driver memif out, or put a node of manager weft at one end", a.want.Node, b.want.Node)
	}
	s.Driver = LinkMemif
	return nil
}

// memif leaves the driver memif to links between dpdk nodes whose managers can.
func (s *Spec) memif() {
	manager := map[string]NFManager{}
	for _, sw := range s.Switches {
		if sw.Driver == DriverDPDK {
			manager[sw.Name] = ManagerWeft
			if sw.DPDK != nil && sw.DPDK.Manager != "" {
				manager[sw.Name] = sw.DPDK.Manager
			}
		}
	}
	for i := range s.Links {
		l := &s.Links[i]
		a, b := manager[l.A.Node], manager[l.B.Node]
		can := a != "" && b != "" && a != ManagerONVM && b != ManagerONVM && (a == ManagerWeft || b == ManagerWeft)
		if l.Driver == LinkMemif && !can && !Outside(l.A.Node) && !Outside(l.B.Node) {
			l.Driver = LinkVeth
		}
	}
}
