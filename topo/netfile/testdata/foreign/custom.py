"""As in Mininet's custom/topo-2sw-2host.py, with options of links and hosts."""
from mininet.topo import Topo
from mininet.link import TCLink
from mininet.node import OVSBridge, CPULimitedHost, Node


class Router(Node):
    def config(self, **params):
        super().config(**params)
        self.cmd('sysctl net.ipv4.ip_forward=1')


class MyTopo(Topo):
    def build(self, n=2):
        left = self.addHost('h1', ip='10.0.0.7/24', mac='00:00:00:00:00:77', defaultRoute='via 10.0.0.1')
        right = self.addHost('h2', cls=CPULimitedHost, cpu=.5)
        s1, s2 = self.addSwitch('s1', protocols='OpenFlow13', dpid='a'), self.addSwitch('s2', cls=OVSBridge)
        self.addLink(left, s1, bw=10, delay='5ms', loss=1, max_queue_size=100, use_htb=True)
        self.addLink(s1, s2, port1=7, cls=TCLink, params1={'bw': 5})
        self.addLink(s2, right)
        r = self.addNode('r0', cls=Router, ip='10.0.0.1/24')
        self.addLink(s1, r, intfName2='r0-eth1', params2={'ip': '10.0.0.1/24'})


topos = {'mytopo': (lambda: MyTopo())}
