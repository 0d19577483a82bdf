"""An os-ken application that says to each switch nearly all that its version of OpenFlow
lets it say, and learns addresses meanwhile so that hosts reach each other. record.sh
runs it. ROUNDS is how often it says everything, each time with other values.
"""
import ipaddress
import os
import random

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import dpset, ofp_event
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import (ofproto_v1_0, ofproto_v1_2, ofproto_v1_3,
                            ofproto_v1_4, ofproto_v1_5)

VERSIONS = {"1.0": ofproto_v1_0, "1.2": ofproto_v1_2, "1.3": ofproto_v1_3,
            "1.4": ofproto_v1_4, "1.5": ofproto_v1_5}


def mac():
    return "02:%02x:%02x:%02x:%02x:%02x" % tuple(random.randrange(256) for _ in range(5))


def ip():
    return str(ipaddress.ip_address(random.randrange(1 << 32)))


def ip6():
    return str(ipaddress.IPv6Address(random.randrange(1 << 128)))


class Mixed(app_manager.OSKenApp):
    OFP_VERSIONS = [VERSIONS[os.environ.get("VERSION", "1.3")].OFP_VERSION]
    _CONTEXTS = {"dpset": dpset.DPSet}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    @set_ev_cls(dpset.EventDP)
    def on_switch(self, ev):
        if ev.enter:
            hub.spawn(self.talk, ev.dp)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def on_packet(self, ev):
        m, dp = ev.msg, ev.msg.datapath
        p, o = dp.ofproto_parser, dp.ofproto
        old = o.OFP_VERSION == 1
        in_port = m.in_port if old else m.match["in_port"]
        eth = packet.Packet(m.data).get_protocol(ethernet.ethernet)
        known = self.ports.setdefault(dp.id, {})
        known[eth.src] = in_port
        out = known.get(eth.dst, o.OFPP_FLOOD)
        actions = [p.OFPActionOutput(out)]
        if out != o.OFPP_FLOOD:
            if old:
                dp.send_msg(p.OFPFlowMod(dp, p.OFPMatch(in_port=in_port, dl_dst=eth.dst), 0, o.OFPFC_ADD,
                                         idle_timeout=5, priority=100, actions=actions, flags=o.OFPFF_SEND_FLOW_REM))
            else:
                dp.send_msg(p.OFPFlowMod(
                    dp, match=p.OFPMatch(in_port=in_port, eth_dst=eth.dst), priority=100, idle_timeout=5,
                    flags=o.OFPFF_SEND_FLOW_REM,
                    instructions=[p.OFPInstructionActions(o.OFPIT_APPLY_ACTIONS, actions)]))
        data = m.data if m.buffer_id == o.OFP_NO_BUFFER else None
        if o.OFP_VERSION == 6:
            dp.send_msg(p.OFPPacketOut(dp, buffer_id=m.buffer_id, match=p.OFPMatch(in_port=in_port), actions=actions, data=data))
        else:
            dp.send_msg(p.OFPPacketOut(dp, buffer_id=m.buffer_id, in_port=in_port, actions=actions, data=data))

    def talk(self, dp):
        random.seed(dp.id)
        if dp.ofproto.OFP_VERSION > 1:
            p, o = dp.ofproto_parser, dp.ofproto
            dp.send_msg(p.OFPFlowMod(dp, priority=0, instructions=[p.OFPInstructionActions(
                o.OFPIT_APPLY_ACTIONS, [p.OFPActionOutput(o.OFPP_CONTROLLER, o.OFPCML_NO_BUFFER)])]))
        for n in range(int(os.environ.get("ROUNDS", "3"))):
            for make in (self.say10 if dp.ofproto.OFP_VERSION == 1 else self.say)(dp, n):
                try:
                    m = make()
                    if m is not None:
                        dp.send_msg(m)
                except Exception as e:  # not in this version, or not in os-ken
                    if n == 0 and not isinstance(e, AttributeError):
                        self.logger.warning("left out: %r", e)
                hub.sleep(0.002)

    def say10(self, dp, n):
        p, o = dp.ofproto_parser, dp.ofproto
        wild = o.OFPFW_ALL
        yield lambda: p.OFPEchoRequest(dp, b"echo %d" % n)
        yield lambda: p.OFPGetConfigRequest(dp)
        yield lambda: p.OFPSetConfig(dp, 0, 128 + n)
        yield lambda: p.OFPBarrierRequest(dp)
        yield lambda: p.OFPDescStatsRequest(dp, 0)
        yield lambda: p.OFPFlowStatsRequest(dp, 0, p.OFPMatch(), 0xff, o.OFPP_NONE)
        yield lambda: p.OFPAggregateStatsRequest(dp, 0, p.OFPMatch(), 0xff, o.OFPP_NONE)
        yield lambda: p.OFPTableStatsRequest(dp, 0)
        yield lambda: p.OFPPortStatsRequest(dp, 0, o.OFPP_NONE)
        yield lambda: p.OFPQueueStatsRequest(dp, 0, o.OFPP_ALL, o.OFPQ_ALL)
        yield lambda: p.OFPQueueGetConfigRequest(dp, 1)
        yield lambda: p.OFPPortMod(dp, 1, mac(), 0, 0x7f, 0)  # fails: another address
        yield lambda: p.NXTRequest(dp) if hasattr(p, "NXTRequest") else None
        for port in list(dp.ports.values())[:2]:
            yield lambda: p.OFPPortMod(dp, port.port_no, port.hw_addr, 0, o.OFPPC_NO_FLOOD, 0)
        actions = [
            p.OFPActionOutput(1, 64), p.OFPActionVlanVid(n % 4095 + 1), p.OFPActionVlanPcp(n % 8), p.OFPActionStripVlan(),
            p.OFPActionSetDlSrc(mac()), p.OFPActionSetDlDst(mac()), p.OFPActionSetNwSrc(ip()),
            p.OFPActionSetNwDst(ip()), p.OFPActionSetNwTos(4 * (n % 64)), p.OFPActionSetTpSrc(n + 1), p.OFPActionSetTpDst(n + 2),
            p.OFPActionEnqueue(1, n), p.NXActionResubmit(1), p.NXActionResubmitTable(1, 2), p.NXActionSetTunnel(n),
            p.NXActionRegLoad(0, 31, "reg1", n), p.NXActionNote([1, 2, 3]), p.NXActionExit(), p.NXActionPopQueue(),
            p.NXActionDecTtl(), p.NXActionController(64, 0, 0), p.NXActionFinTimeout(1, 2),
        ]
        for a in actions:
            yield lambda: p.OFPFlowMod(dp, p.OFPMatch(dl_type=0x800, nw_proto=6, nw_src=ip(), tp_dst=n + 1), n, o.OFPFC_ADD,
                                       idle_timeout=1, hard_timeout=2, priority=random.randrange(1 << 16), actions=[a],
                                       flags=o.OFPFF_SEND_FLOW_REM)
        for m in [dict(in_port=1), dict(dl_src=mac(), dl_dst=mac()), dict(dl_vlan=5, dl_vlan_pcp=2), dict(dl_type=0x806, nw_proto=1, nw_src=ip(), nw_dst=ip()),
                  dict(dl_type=0x800, nw_src="10.0.0.0", nw_src_mask=8), dict(dl_type=0x800, nw_proto=17, tp_src=53),
                  dict(dl_type=0x800, nw_proto=1, tp_src=8, tp_dst=0), dict(dl_type=0x800, nw_tos=16)]:
            yield lambda: p.OFPFlowMod(dp, p.OFPMatch(**m), n, o.OFPFC_ADD, priority=n + 7, actions=[p.OFPActionOutput(2)])
        yield lambda: p.OFPFlowStatsRequest(dp, 0, p.OFPMatch(), 0xff, o.OFPP_NONE)
        yield lambda: p.OFPFlowMod(dp, p.OFPMatch(in_port=77), 0, o.OFPFC_DELETE)
        yield lambda: p.NXTSetFlowFormat(dp, o.NXFF_NXM) if hasattr(p, "NXTSetFlowFormat") else None
        yield lambda: p.NXTSetPacketInFormat(dp, 0) if hasattr(p, "NXTSetPacketInFormat") else None
        yield lambda: p.NXTRoleRequest(dp, 0) if hasattr(p, "NXTRoleRequest") else None
        yield lambda: p.NXFlowStatsRequest(dp, 0, o.OFPP_NONE, 0xff) if hasattr(p, "NXFlowStatsRequest") else None
        yield lambda: p.OFPVendor(dp) if hasattr(p, "OFPVendor") else None

    def say(self, dp, n):
        p, o = dp.ofproto_parser, dp.ofproto
        v = o.OFP_VERSION
        yield lambda: p.OFPEchoRequest(dp, b"echo %d" % n)
        yield lambda: p.OFPGetConfigRequest(dp)
        yield lambda: p.OFPSetConfig(dp, 0, o.OFPCML_NO_BUFFER)
        yield lambda: p.OFPBarrierRequest(dp)
        yield lambda: p.OFPRoleRequest(dp, o.OFPCR_ROLE_EQUAL, 0)
        yield lambda: p.OFPDescStatsRequest(dp, 0)
        yield lambda: p.OFPTableStatsRequest(dp, 0)
        yield lambda: (p.OFPPortStatsRequest(dp, o.OFPP_ANY) if v == 3 else p.OFPPortStatsRequest(dp, 0, o.OFPP_ANY))
        yield lambda: (p.OFPQueueStatsRequest(dp, o.OFPP_ANY, o.OFPQ_ALL) if v == 3 else p.OFPQueueStatsRequest(dp, 0, o.OFPP_ANY, o.OFPQ_ALL))
        yield lambda: (p.OFPGroupStatsRequest(dp, o.OFPG_ALL) if v == 3 else p.OFPGroupStatsRequest(dp, 0, o.OFPG_ALL))
        yield lambda: (p.OFPGroupDescStatsRequest(dp) if v == 3 else p.OFPGroupDescStatsRequest(dp, 0, o.OFPG_ALL) if v == 6 else p.OFPGroupDescStatsRequest(dp, 0))
        yield lambda: (p.OFPGroupFeaturesStatsRequest(dp) if v == 3 else p.OFPGroupFeaturesStatsRequest(dp, 0))
        yield lambda: p.OFPMeterStatsRequest(dp, 0, o.OFPM_ALL)
        yield lambda: p.OFPMeterConfigStatsRequest(dp, 0, o.OFPM_ALL)
        yield lambda: p.OFPMeterDescStatsRequest(dp, 0, o.OFPM_ALL)
        yield lambda: p.OFPMeterFeaturesStatsRequest(dp, 0)
        if n == 0 and dp.id == 1 and os.environ.get("TABLES"):
            yield lambda: p.OFPTableFeaturesStatsRequest(dp, 0)
        yield lambda: (p.OFPPortDescStatsRequest(dp, 0, o.OFPP_ANY) if v == 6 else p.OFPPortDescStatsRequest(dp, 0))
        yield lambda: p.OFPTableDescStatsRequest(dp, 0)
        yield lambda: p.OFPQueueDescStatsRequest(dp, 0, o.OFPP_ANY, o.OFPQ_ALL)
        yield lambda: p.OFPQueueGetConfigRequest(dp, 1)
        yield lambda: p.OFPGetAsyncRequest(dp)
        if v == 4:
            yield lambda: p.OFPSetAsync(dp, 7, 7, 7, 7, 15, 15)
        if v >= 5:
            yield lambda: p.OFPSetAsync(dp, [p.OFPAsyncConfigPropReasons(o.OFPACPT_PACKET_IN_MASTER, 8, 0x3f),
                                             p.OFPAsyncConfigPropReasons(o.OFPACPT_PACKET_IN_SLAVE, 8, 0x3f),
                                             p.OFPAsyncConfigPropReasons(o.OFPACPT_FLOW_REMOVED_MASTER, 8, 0xf)])
            yield lambda: p.OFPFlowMonitorRequest(dp, 0, n + 1, o.OFPP_ANY, o.OFPG_ANY,
                                                  o.OFPFMF_INITIAL | o.OFPFMF_ADD | o.OFPFMF_REMOVED | o.OFPFMF_MODIFY | o.OFPFMF_INSTRUCTIONS,
                                                  o.OFPTT_ALL, o.OFPFMC_ADD, p.OFPMatch(in_port=1))
            for t in (o.OFPBCT_OPEN_REQUEST, "add", o.OFPBCT_CLOSE_REQUEST, o.OFPBCT_COMMIT_REQUEST):
                if t == "add":
                    def add():
                        m = p.OFPFlowMod(dp, match=p.OFPMatch(in_port=99), priority=3)
                        m.set_xid(1234 + n)
                        return p.OFPBundleAddMsg(dp, n + 1, o.OFPBF_ATOMIC, m, [])
                    yield add
                else:
                    yield lambda: p.OFPBundleCtrlMsg(dp, n + 1, t, o.OFPBF_ATOMIC, [])
        if v == 6:
            yield lambda: p.OFPBundleFeaturesStatsRequest(dp, 0, 0, [])
            yield lambda: p.OFPControllerStatusStatsRequest(dp, 0)
        yield lambda: p.OFPTableMod(dp, 3, o.OFPTC_TABLE_MISS_MASK if hasattr(o, "OFPTC_TABLE_MISS_MASK") else 0)
        if v == 5:
            yield lambda: p.OFPTableMod(dp, 4, o.OFPTC_EVICTION, [p.OFPTableModPropEviction(o.OFPTMPT_EVICTION, 8, o.OFPTMPEF_LIFETIME)])
        for port in list(dp.ports.values())[:2] if isinstance(dp.ports, dict) else []:
            if v < 5:
                yield lambda: p.OFPPortMod(dp, port.port_no, port.hw_addr, 0, 0x65, 0)
            else:
                yield lambda: p.OFPPortMod(dp, port.port_no, port.hw_addr, 0, 0x65, [p.OFPPortModPropEthernet(o.OFPPMPT_ETHERNET, 8, 0)])
        # Fails: there is no port with this address.
        yield lambda: p.OFPPortMod(dp, 1, mac(), 0, 0x65, 0 if v < 5 else [])

        # Meters and groups.
        for g in range(4):
            yield lambda: p.OFPMeterMod(dp, o.OFPMC_ADD, o.OFPMF_KBPS | o.OFPMF_BURST | o.OFPMF_STATS, 10 * n + g + 1, [
                p.OFPMeterBandDrop(rate=1000 + n, burst_size=10)] + ([p.OFPMeterBandDscpRemark(2000, 20, 1)] if g == 3 else []))
        bucket = lambda *a, w=0: (p.OFPBucket(bucket_id=random.randrange(100), actions=list(a), properties=(
            [p.OFPGroupBucketPropWeight(type_=o.OFPGBPT_WEIGHT, length=8, weight=w)] if w else [])) if v == 6
            else p.OFPBucket(weight=w, watch_port=o.OFPP_ANY, watch_group=o.OFPG_ANY, actions=list(a)))
        mod = lambda *a: p.OFPGroupMod(dp, *a) if v < 6 else p.OFPGroupMod(dp, a[0], a[1], a[2], o.OFPG_BUCKET_ALL, a[3])
        yield lambda: mod(o.OFPGC_ADD, o.OFPGT_ALL, 10 * n + 1, [bucket(p.OFPActionOutput(1)), bucket(p.OFPActionSetField(eth_dst=mac()), p.OFPActionOutput(2))])
        yield lambda: mod(o.OFPGC_ADD, o.OFPGT_SELECT, 10 * n + 2, [bucket(p.OFPActionOutput(1), w=3), bucket(p.OFPActionOutput(2), w=5)])
        yield lambda: mod(o.OFPGC_ADD, o.OFPGT_INDIRECT, 10 * n + 3, [bucket(p.OFPActionOutput(1))])
        yield lambda: mod(o.OFPGC_ADD, o.OFPGT_ALL, 10 * n + 1, [])  # fails: there is one

        # Flows: each field of matches, each action, each instruction.
        ipv4, ipv6, tcp, udp = dict(eth_type=0x800), dict(eth_type=0x86dd), dict(eth_type=0x800, ip_proto=6), dict(eth_type=0x800, ip_proto=17)
        icmp6 = dict(ipv6, ip_proto=58)
        matches = [
            dict(in_port=n + 1), dict(in_port=1, in_phy_port=1), dict(metadata=(n, 0xff)), dict(metadata=n), dict(eth_src=mac(), eth_dst=mac()),
            dict(eth_dst=("01:00:00:00:00:00", "01:00:00:00:00:00")), dict(vlan_vid=0x1000 | (n + 5)), dict(vlan_vid=(0x1000, 0x1000)), dict(vlan_vid=0x1005, vlan_pcp=3),
            dict(ipv4, ip_dscp=n % 64, ip_ecn=1), dict(ipv4, ipv4_src=ip(), ipv4_dst=("10.%d.0.0" % n, "255.255.0.0")), dict(ipv4, ipv4_src=("10.0.0.1", "255.0.0.255")),
            dict(tcp, tcp_src=n, tcp_dst=80), dict(udp, udp_src=53, udp_dst=n), dict(ipv4, ip_proto=132, sctp_src=1, sctp_dst=2), dict(ipv4, ip_proto=1, icmpv4_type=8, icmpv4_code=0),
            dict(eth_type=0x806, arp_op=1, arp_spa=ip(), arp_tpa=ip(), arp_sha=mac(), arp_tha=mac()), dict(ipv6, ipv6_src=ip6(), ipv6_dst=("fe80::", "ffff::")), dict(ipv6, ipv6_flabel=n),
            dict(icmp6, icmpv6_type=135, icmpv6_code=0, ipv6_nd_target=ip6(), ipv6_nd_sll=mac()), dict(icmp6, icmpv6_type=136, icmpv6_code=0, ipv6_nd_tll=mac()), dict(eth_type=0x8847, mpls_label=n + 16, mpls_tc=1),
            dict(eth_type=0x8847, mpls_bos=1), dict(tunnel_id=n), dict(tunnel_id=(n, 0xffff)), dict(ipv6, ipv6_exthdr=1), dict(tcp, tcp_flags=2), dict(reg0=n), dict(reg3=(n, 0xff)), dict(actset_output=1), dict(ct_state=1),
            dict(tcp, tcp_flags_nxm=2), dict(pkt_mark=n), dict(xreg1=n), dict(conj_id=n), dict(tun_ipv4_src=ip()), dict(eth_type=0x88e7, pbb_isid=n, pbb_uca=1),
        ]
        apply = lambda *a: p.OFPInstructionActions(o.OFPIT_APPLY_ACTIONS, list(a))
        flow = lambda m, *i, **k: p.OFPFlowMod(dp, match=p.OFPMatch(**m), table_id=n % 3, priority=random.randrange(1, 1 << 15), cookie=random.randrange(1 << 63),
                                              flags=o.OFPFF_SEND_FLOW_REM, instructions=list(i), **k)
        for m in matches:
            yield lambda: flow(m, apply(p.OFPActionOutput(1)), idle_timeout=1, hard_timeout=2)
        a = p
        actions = [
            (ipv4, lambda: a.OFPActionOutput(o.OFPP_CONTROLLER, 128)), (ipv4, lambda: a.OFPActionOutput(o.OFPP_IN_PORT)), ({}, lambda: a.OFPActionGroup(10 * n + 1)),
            (ipv4, lambda: a.OFPActionCopyTtlOut()), (ipv4, lambda: a.OFPActionSetNwTtl(n + 1)), (ipv4, lambda: a.OFPActionDecNwTtl()), ({}, lambda: a.OFPActionPushVlan(0x8100)),
            (dict(vlan_vid=0x1005), lambda: a.OFPActionPopVlan()), (ipv4, lambda: a.OFPActionPushMpls(0x8847)), (dict(eth_type=0x8847), lambda: a.OFPActionPopMpls(0x800)),
            (dict(eth_type=0x8847), lambda: a.OFPActionSetMplsTtl(9)), (dict(eth_type=0x8847), lambda: a.OFPActionDecMplsTtl()), ({}, lambda: a.OFPActionSetQueue(n)),
            ({}, lambda: a.OFPActionSetField(eth_src=mac())), (ipv4, lambda: a.OFPActionSetField(ipv4_dst=ip())), (tcp, lambda: a.OFPActionSetField(tcp_dst=n + 1)),
            (ipv6, lambda: a.OFPActionSetField(ipv6_src=ip6())), (dict(vlan_vid=0x1005), lambda: a.OFPActionSetField(vlan_vid=0x1000 | (n + 1))), ({}, lambda: a.OFPActionSetField(tunnel_id=n)),
            ({}, lambda: a.OFPActionPushPbb(0x88e7)), ({}, lambda: a.OFPActionPopPbb()), ({}, lambda: a.OFPActionMeter(10 * n + 1)),
            ({}, lambda: a.OFPActionCopyField(n_bits=32, oxm_ids=[a.OFPOxmId("reg0"), a.OFPOxmId("reg1")])), ({}, lambda: a.NXActionResubmit(1)), ({}, lambda: a.NXActionResubmitTable(1, 2)),
            ({}, lambda: a.NXActionRegLoad(0, 31, "reg1", n)), ({}, lambda: a.NXActionRegMove("reg0", "reg1", 16)), ({}, lambda: a.NXActionRegLoad2("reg1", n)),
            ({}, lambda: a.NXActionLearn(0, [a.NXFlowSpecMatch(("eth_dst", 0), ("eth_src", 0), 48), a.NXFlowSpecLoad(n, ("reg2", 0), 32), a.NXFlowSpecOutput(("in_port", 0), "", 32)], idle_timeout=3)),
            ({}, lambda: a.NXActionNote([n % 256, 2, 3])), ({}, lambda: a.NXActionExit()), (ipv4, lambda: a.NXActionDecTtl()), ({}, lambda: a.NXActionController(64, 0, 0)), (tcp, lambda: a.NXActionFinTimeout(1, 2)),
            ({}, lambda: a.NXActionStackPush("reg1", 0, 31)), ({}, lambda: a.NXActionStackPop("reg2", 0, 31)), ({}, lambda: a.NXActionOutputReg(0, 15, "reg1", 128)), ({}, lambda: a.NXActionSetTunnel64(n)),
            ({}, lambda: a.NXActionBundle(0, 0, 0, "", 2, 0, 0, "", [1, 2])), ({}, lambda: a.NXActionMultipath(0, 50, 0, 1, 0, 0, 31, "reg0")), (tcp, lambda: a.NXActionCT(1, "", n, 4, 0, [])), ({}, lambda: a.NXActionOutputTrunc(1, 100)),
        ]
        for m, act in actions:
            yield lambda: flow(m, apply(act()))
            yield lambda: p.OFPFlowMod(dp, match=p.OFPMatch(**m), priority=4, instructions=[p.OFPInstructionActions(o.OFPIT_WRITE_ACTIONS, [act()])])
        for i in [lambda: [p.OFPInstructionGotoTable(n % 3 + 4)], lambda: [p.OFPInstructionWriteMetadata(n, 0xffff), p.OFPInstructionGotoTable(9)],
                  lambda: [p.OFPInstructionActions(o.OFPIT_CLEAR_ACTIONS, [])], lambda: [p.OFPInstructionMeter(10 * n + 1), apply(p.OFPActionOutput(2))],
                  lambda: [apply(p.OFPActionOutput(n + 1)), p.OFPInstructionActions(o.OFPIT_WRITE_ACTIONS, [p.OFPActionOutput(3)])],
                  lambda: [p.OFPInstructionStatTrigger(0, p.OFPStats(flow_count=2, packet_count=9))]]:
            yield lambda: flow(dict(in_port=n + 20), *i())
        if v >= 3:
            flow_request = (lambda: p.OFPFlowStatsRequest(dp, o.OFPTT_ALL, o.OFPP_ANY, o.OFPG_ANY, 0, 0, p.OFPMatch())) if v == 3 else (
                lambda: p.OFPFlowStatsRequest(dp, 0, o.OFPTT_ALL, o.OFPP_ANY, o.OFPG_ANY, 0, 0, p.OFPMatch()))
            yield flow_request
            yield lambda: p.OFPFlowDescStatsRequest(dp, 0, o.OFPTT_ALL, o.OFPP_ANY, o.OFPG_ANY, 0, 0, p.OFPMatch())
            yield (lambda: p.OFPAggregateStatsRequest(dp, o.OFPTT_ALL, o.OFPP_ANY, o.OFPG_ANY, 0, 0, p.OFPMatch())) if v == 3 else (
                lambda: p.OFPAggregateStatsRequest(dp, 0, o.OFPTT_ALL, o.OFPP_ANY, o.OFPG_ANY, 0, 0, p.OFPMatch()))
        yield lambda: (p.OFPGroupDescStatsRequest(dp) if v == 3 else p.OFPGroupDescStatsRequest(dp, 0, o.OFPG_ALL) if v == 6 else p.OFPGroupDescStatsRequest(dp, 0))
        yield lambda: (p.OFPGroupStatsRequest(dp, o.OFPG_ALL) if v == 3 else p.OFPGroupStatsRequest(dp, 0, o.OFPG_ALL))
        yield lambda: p.OFPMeterConfigStatsRequest(dp, 0, o.OFPM_ALL)
        yield lambda: p.OFPMeterDescStatsRequest(dp, 0, o.OFPM_ALL)
        yield lambda: p.OFPMeterStatsRequest(dp, 0, o.OFPM_ALL)
        yield lambda: p.OFPFlowMod(dp, table_id=n % 3, command=o.OFPFC_DELETE, out_port=1, out_group=o.OFPG_ANY, match=p.OFPMatch(), priority=1)
        yield lambda: mod(o.OFPGC_DELETE, o.OFPGT_ALL, 10 * n + 3, [])
        yield lambda: p.OFPExperimenter(dp, experimenter=0x2320, exp_type=16, data=b"\0\0\0\2" if n == 0 else b"\0\0\0\0")
        yield lambda: p.OFPExperimenter(dp, experimenter=0x123456, exp_type=7, data=b"abcdefgh")


if __name__ == "__main__":
    cfg.CONF(args=["--ofp-tcp-listen-port", os.environ.get("PORT", "6653")], project="os_ken")
    app_manager.AppManager.run_apps(["os_ken.controller.ofp_handler", "mixed"])
