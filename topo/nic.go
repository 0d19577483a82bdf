package topo

import (
	"errors"
	"fmt"
	"strings"
)

// LinkHW is a NIC of the machine, lent to a node: the link's other end is what the NIC is
// plugged into. It is chosen by its end, NICPrefix and a name.
const LinkHW LinkDriver = "hw"

// NICPrefix begins the names of the ends of links that are outside: "hw:eth3" or, by the address
// on the PCI bus, "hw:0000:03:00.0". No node has such a name.
const NICPrefix = "hw:"

// NIC returns the NIC that an end of a link names; ok is false if it names a node.
func NIC(node string) (nic string, ok bool) { return strings.CutPrefix(node, NICPrefix) }

// NIC returns the end of a hw link that is a NIC, and the other, where it is lent to. ok is
// false for other links.
func (l PlannedLink) NIC() (nic, node PlannedEnd, ok bool) {
	if l.Driver != LinkHW {
		return PlannedEnd{}, PlannedEnd{}, false
	}
	if _, is := NIC(l.A.Node); is {
		return l.A, l.B, true
	}
	return l.B, l.A, true
}

// draftNIC checks the end of a link that names a NIC. Its interface is called as the NIC, and
// has neither device nor MAC of the network's.
func (g *growth) draftNIC(where place, l LinkEnd) (*draftEnd, bool) {
	name, _ := NIC(l.Node)
	if err := checkName(name); err != nil {
		g.fail(where, "NIC: %w", err)
		return nil, false
	}
	where.text += " on " + l.Node
	if l.Interface != "" && l.Interface != l.Node || l.Port != nil || l.MAC != "" || l.IP.IsValid() || l.IP6.IsValid() {
		g.fail(where, "what a lent NIC is to have is written at the other end; leave all but node out")
		return nil, false
	}
	e := &draftEnd{want: l, where: where, outside: true}
	e.is.Name = l.Node
	if !g.take(nameClaim(l.Node, l.Node), where.text) {
		g.fail(where, "the NIC %s is lent to another node already; write another", name)
	}
	return e, true
}

// checkHW says what is wrong with the settings of a link, of which an end may be a NIC, and
// completes the driver of one.
func checkHW(a, b *draftEnd, s *LinkSettings) error {
	switch {
	case a.outside && b.outside:
		return errors.New("a link joins two nodes, or a node and a NIC; write a host or switch at one end")
	case !a.outside && !b.outside && s.Driver == LinkHW:
		return fmt.Errorf("a hw link has a NIC at one end; write for example %s -- %seth3", a.want.Node, NICPrefix)
	case !a.outside && !b.outside && s.Force:
		return errors.New("force is about a NIC that is in use; leave it out")
	case !a.outside && !b.outside:
		return nil
	case s.Driver != "" && s.Driver != LinkAuto && s.Driver != LinkHW:
		return fmt.Errorf("a NIC is lent by a hw link; leave driver %s out", s.Driver)
	}
	a.keepsMAC, b.keepsMAC = true, true
	s.Driver = LinkHW
	return nil
}

// outside reports whether an end of the link is no node.
func (l Link) outside() bool { return Outside(l.A.Node) || Outside(l.B.Node) }
