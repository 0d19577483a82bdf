# Made by weft convert. Try it: mn --custom FILE --topo network

from mininet.topo import Topo
from mininet.link import TCLink


class Network(Topo):
    def build(self):
        self.addSwitch('s1', dpid='000000000000004d', protocols='OpenFlow13')
        self.addSwitch('s2')
        self.addHost('h1', ip='10.0.0.7/24', mac='02:00:00:00:00:09', privateDirs=['/var/run'])
        self.addHost('h2', defaultRoute='via 10.0.0.9')
        self.addLink('h1', 's1', port1=0, port2=1, cls=TCLink, params1={'bw': 10, 'delay': '5ms'}, params2={'bw': 10, 'loss': 1.5})
        self.addLink('h2', 's2', port1=0, port2=1, cls=TCLink, params1={'bw': 10, 'delay': '5ms'}, params2={'bw': 10, 'loss': 1.5})
        self.addLink('s2', 's1', port1=2, port2=2, cls=TCLink, params1={'bw': 10, 'delay': '5ms'}, params2={'bw': 10, 'loss': 1.5})


topos = {'network': Network}
