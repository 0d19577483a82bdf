"""A learning switch for os-ken, OpenFlow 1.3."""

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3


class Learning(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, ev):
        dp = ev.msg.datapath
        ofp, parser = dp.ofproto, dp.ofproto_parser
        actions = [parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)]
        apply = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)]
        dp.send_msg(parser.OFPFlowMod(datapath=dp, priority=0, match=parser.OFPMatch(), instructions=apply))

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, ev):
        dp = ev.msg.datapath
        ofp, parser = dp.ofproto, dp.ofproto_parser
        port = ev.msg.match["in_port"]
        eth = packet.Packet(ev.msg.data).get_protocol(ethernet.ethernet)
        table = self.ports.setdefault(dp.id, {})
        table[eth.src] = port
        actions = [parser.OFPActionOutput(table.get(eth.dst, ofp.OFPP_FLOOD))]
        if eth.dst in table:
            apply = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)]
            match = parser.OFPMatch(in_port=port, eth_dst=eth.dst, eth_src=eth.src)
            dp.send_msg(parser.OFPFlowMod(datapath=dp, priority=1, match=match, instructions=apply))
        dp.send_msg(parser.OFPPacketOut(datapath=dp, buffer_id=ofp.OFP_NO_BUFFER, in_port=port,
                                        actions=actions, data=ev.msg.data))
