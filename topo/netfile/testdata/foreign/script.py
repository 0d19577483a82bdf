#!/usr/bin/env python
"""A script that builds by itself, as Mininet's examples do."""
from functools import partial
from mininet.net import Mininet
from mininet.node import Controller, RemoteController, OVSKernelSwitch
from mininet.link import TCLink
from mininet.cli import CLI
from mininet.log import setLogLevel, info


def main():
    net = Mininet(controller=RemoteController, switch=OVSKernelSwitch, link=partial(TCLink, delay='2ms'), ipBase='10.2.0.0/16', autoSetMacs=True)
    info('*** Adding\n')
    c1 = net.addController('c1', controller=RemoteController, ip='127.0.0.1', port=6633)
    h1, h2 = net.addHost('h1', ip='10.2.0.9/16'), net.addHost('h2')
    s1 = net.addSwitch('s1')
    net.addLink(h1, s1)
    net.addLink(s1, h2, bw=20)
    net.build()
    c1.start()
    s1.start([c1])
    h1.cmd('ip route add 10.9.0.0/16 via 10.2.0.1')
    net.start()
    net.pingAll()
    CLI(net)
    net.stop()


if __name__ == '__main__':
    setLogLevel('info')
    main()
