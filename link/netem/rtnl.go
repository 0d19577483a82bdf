package netem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"weft/internal/ns"
)

// rtnl speaks rtnetlink(7) in one namespace, for what package netlink does not say. Its
// methods may be called concurrently.
type rtnl struct {
	net    *ns.Net
	socket *nl.SocketHandle
}

// openRTNL opens a socket in a namespace.
func openRTNL(home *ns.Net) (*rtnl, error) {
	r := &rtnl{net: home}
	err := home.Do(func() error {
		s, err := nl.Subscribe(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		r.socket = &nl.SocketHandle{Socket: s}
		// Old kernels say what is wrong in numbers only.
		_ = s.SetExtAck(true)
		return errors.Join(s.SetSendTimeout(&nl.SocketTimeoutTv), s.SetReceiveTimeout(&nl.SocketTimeoutTv))
	})
	if err != nil {
		r.close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return r, nil
}

func (r *rtnl) close() {
	if r.socket != nil {
		r.socket.Close()
	}
}

func (r *rtnl) request(kind, flags int, parts ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: r.socket}
	req.Data = parts
	return req
}

// do sends a request and waits for its acknowledgement.
func (r *rtnl) do(kind, flags int, parts ...nl.NetlinkRequestData) error {
	_, err := r.request(kind, flags|unix.NLM_F_ACK, parts...).Execute(unix.NETLINK_ROUTE, 0)
	return err
}

const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// A port is a device to make.
type port struct {
	index int // 0: the kernel chooses
	name  string
	mac   net.HardwareAddr
	mtu   int
	net   *ns.Net // nil: home
	// segments bounds the frames that one of the kernel's may stand for (GSO); 0: no bound.
	segments int
}

func (p port) info() *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(p.index)
	return m
}

// One queue: the kernel's default, one for each CPU, costs time and memory.
func (p port) attributes() []*nl.RtAttr {
	list := []*nl.RtAttr{
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.name)),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.mtu))),
		nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(1)),
		nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(1)),
	}
	if p.mac != nil {
		list = append(list, nl.NewRtAttr(unix.IFLA_ADDRESS, p.mac))
	}
	if p.net != nil {
		list = append(list, nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(p.net.FD()))))
	}
	if p.segments != 0 {
		list = append(list, nl.NewRtAttr(unix.IFLA_GSO_MAX_SEGS, nl.Uint32Attr(uint32(p.segments))))
	}
	return list
}

// peerInfo is VETH_INFO_PEER (linux/veth.h).
const peerInfo = 1

// veth makes a pair of devices.
func (r *rtnl) veth(a, b port) error {
	err := r.newLink("veth", a, func(data *nl.RtAttr) {
		peer := data.AddRtAttr(peerInfo, b.info().Serialize())
		for _, attr := range b.attributes() {
			peer.AddChild(attr)
		}
	})
	if err != nil {
		return fmt.Errorf("make veth pair %s, %s: %w", a.name, b.name, err)
	}
	return nil
}

// ifb makes an intermediate functional block device.
func (r *rtnl) ifb(p port) error {
	if err := r.newLink("ifb", p, func(*nl.RtAttr) {}); err != nil {
		return fmt.Errorf("make IFB %s: %w", p.name, err)
	}
	return nil
}

func (r *rtnl) newLink(kind string, p port, data func(*nl.RtAttr)) error {
	parts := []nl.NetlinkRequestData{p.info()}
	for _, attr := range p.attributes() {
		parts = append(parts, attr)
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	data(info.AddRtAttr(nl.IFLA_INFO_DATA, nil))
	return r.do(unix.RTM_NEWLINK, create, append(parts, info)...)
}

// IFLA_INET6_ADDR_GEN_MODE and IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
const (
	addrGenMode = 8
	addrGenNone = 1
)

// up takes devices up of which no host knows: they send nothing of their own.
func (r *rtnl) up(indices ...int) error {
	for _, index := range indices {
		spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
		spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(addrGenMode, nl.Uint8Attr(addrGenNone))
		// A kernel without IPv6 has nothing to turn off.
		_ = r.do(unix.RTM_SETLINK, 0, port{index: index}.info(), spec)
		if err := r.setFlags(index, unix.IFF_UP|unix.IFF_NOARP); err != nil {
			return err
		}
	}
	return nil
}

func (r *rtnl) setFlags(index int, flags uint32) error {
	m := port{index: index}.info()
	m.Flags, m.Change = flags, flags
	if err := r.do(unix.RTM_SETLINK, 0, m); err != nil {
		return fmt.Errorf("device %d up: %w", index, err)
	}
	return nil
}

// setMTU changes that of a device.
func (r *rtnl) setMTU(index, mtu int) error {
	if err := r.do(unix.RTM_SETLINK, 0, port{index: index}.info(), nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu)))); err != nil {
		return fmt.Errorf("MTU %d of device %d: %w", mtu, index, err)
	}
	return nil
}

// index returns that of a device by name.
func (r *rtnl) index(name string) (int, error) {
	msgs, err := r.request(unix.RTM_GETLINK, 0, port{}.info(), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))).Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil || len(msgs) == 0 {
		return 0, fmt.Errorf("device %s: %w", name, err)
	}
	return int(nl.DeserializeIfInfomsg(msgs[0]).Index), nil
}

// remove deletes a device, and its peer. One that is gone already is no error.
func (r *rtnl) remove(index int) error {
	err := r.do(unix.RTM_DELLINK, 0, port{index: index}.info())
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete device %d: %w", index, err)
	}
	return nil
}

// setSegments bounds the frames that one of the kernel's may stand for on a device.
func (r *rtnl) setSegments(index, segments int) error {
	err := r.do(unix.RTM_SETLINK, 0, port{index: index}.info(), nl.NewRtAttr(unix.IFLA_GSO_MAX_SEGS, nl.Uint32Attr(uint32(segments))))
	if err != nil {
		return fmt.Errorf("segments of device %d: %w", index, err)
	}
	return nil
}

// Where filters are (linux/pkt_sched.h).
const (
	clsactHandle  = 0xffff0000
	atRoot        = 0xffffffff
	filterIngress = 0xfffffff2
	filterEgress  = 0xfffffff3
)

// A redirect sends all frames that pass one side of a device to another. Which of two
// preferences its filter has alternates, so that there is always one while it changes.
type redirect struct {
	index   int
	side    uint32 // filterIngress or filterEgress
	pref    uint16
	target  int
	entered uint64 // by filters that are gone
}

// filters makes a device ready for redirects.
func (r *rtnl) filters(index int) error {
	err := r.do(unix.RTM_NEWQDISC, create, &nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Handle: clsactHandle, Parent: 0xfffffff1},
		nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("clsact")))
	if err != nil {
		return fmt.Errorf("filters of device %d (sch_ingress): %w", index, err)
	}
	return nil
}

// message addresses the filter of one preference.
func (d *redirect) message(pref uint16) *nl.TcMsg {
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	return &nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(d.index), Parent: d.side, Info: uint32(pref)<<16 | uint32(all)}
}

// Of linux/tc_act/tc_mirred.h, linux/pkt_cls.h.
const (
	egressRedirect = 1
	actStolen      = 4
)

// redirectTo redirects to the egress of another device from now on.
func (r *rtnl) redirectTo(d *redirect, target int) error {
	if d.target == target {
		return nil
	}
	// Those of both sides differ: u32 lists its filters of both.
	first := uint16(1)
	if d.side == filterEgress {
		first = 3
	}
	pref := first
	if d.pref == first {
		pref++
	}
	// The selector of u32 that matches every frame: one key with an empty mask.
	sel := &nl.TcU32Sel{Nkeys: 1, Flags: nl.TC_U32_TERMINAL, Keys: []nl.TcU32Key{{}}}
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_U32_SEL, sel.Serialize())
	action := options.AddRtAttr(nl.TCA_U32_ACT, nil).AddRtAttr(nl.TCA_ACT_TAB, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("mirred"))
	mirred := nl.TcMirred{Eaction: egressRedirect, Ifindex: uint32(target)}
	mirred.Action = actStolen
	action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_MIRRED_PARMS, mirred.Serialize())
	err := r.do(unix.RTM_NEWTFILTER, create, d.message(pref), nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("u32")), options)
	if err != nil {
		return fmt.Errorf("redirect device %d to %d (cls_u32, act_mirred): %w", d.index, target, err)
	}
	if d.pref != 0 {
		if d.entered, err = r.entered(d); err != nil {
			return err
		}
		// With this the one of lower preference takes over.
		if err := r.do(unix.RTM_DELTFILTER, 0, d.message(d.pref)); err != nil {
			return fmt.Errorf("redirect of device %d: %w", d.index, err)
		}
	}
	d.pref, d.target = pref, target
	return nil
}

// entered counts the frames that a redirect has taken.
func (r *rtnl) entered(d *redirect) (uint64, error) {
	if d.pref == 0 {
		return d.entered, nil
	}
	// The handle of a u32 filter depends on those that were there before: ask for all.
	msgs, err := r.request(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, d.message(0)).Execute(unix.NETLINK_ROUTE, unix.RTM_NEWTFILTER)
	if err != nil {
		return 0, fmt.Errorf("frames that entered device %d: %w", d.index, err)
	}
	for _, m := range msgs {
		if pref := nl.DeserializeTcMsg(m).Info >> 16; pref != uint32(d.pref) {
			continue
		}
		if b := find(m[nl.SizeofTcMsg:], nl.TCA_OPTIONS, nl.TCA_U32_ACT, nl.TCA_ACT_TAB, nl.TCA_ACT_STATS); b != nil {
			return d.entered + parseStats(b).packets, nil
		}
	}
	return 0, fmt.Errorf("frames that entered device %d: its filter is gone", d.index)
}

// find follows attributes inside each other; it returns nil if one is not there.
func find(b []byte, path ...uint16) []byte {
	for _, want := range path {
		attrs, err := nl.ParseRouteAttr(b)
		if err != nil {
			return nil
		}
		b = nil
		for _, a := range attrs {
			if a.Attr.Type&nlaTypeMask == want {
				b = a.Value
				break
			}
		}
		if b == nil {
			return nil
		}
	}
	return b
}

// nlaTypeMask takes the flags off an attribute's type (linux/netlink.h).
const nlaTypeMask = 0x3fff
