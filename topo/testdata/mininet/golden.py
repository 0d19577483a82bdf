"""Writes the files beside it from Mininet's own topologies:
PYTHONPATH=/directory/of/the/package python3 golden.py"""
import os
from mininet.topo import LinearTopo, MinimalTopo, SingleSwitchReversedTopo, SingleSwitchTopo
from mininet.topolib import TorusTopo, TreeTopo

CASES = {
    'minimal': MinimalTopo(),
    'single,1': SingleSwitchTopo(1),
    'single,12': SingleSwitchTopo(12),
    'reversed': SingleSwitchReversedTopo(),
    'reversed,11': SingleSwitchReversedTopo(11),
    'linear': LinearTopo(),
    'linear,12': LinearTopo(12),
    'linear,3,2': LinearTopo(3, 2),
    'linear,11,11': LinearTopo(11, 11),
    'linear,k=2,n=0': LinearTopo(2, 0),
    'tree': TreeTopo(),
    'tree,2': TreeTopo(2),
    'tree,2,3': TreeTopo(2, 3),
    'tree,depth=3,fanout=2': TreeTopo(3, 2),
    'tree,1,11': TreeTopo(1, 11),
    'tree,4,3': TreeTopo(4, 3),
    'torus,3,3': TorusTopo(3, 3),
    'torus,3,4,2': TorusTopo(3, 4, 2),
    'torus,11,10': TorusTopo(11, 10),
    'torus,3,3,0': TorusTopo(3, 3, 0),
}

for name, t in CASES.items():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + '.txt'), 'w') as f:
        f.write('hosts ' + ' '.join(t.hosts()) + '\n')
        for s in t.switches():
            dpid = t.nodeInfo(s).get('dpid')
            f.write('switch %s%s\n' % (s, ' dpid=' + dpid if dpid else ''))
        for a, b, i in t.links(sort=True, withInfo=True):
            f.write('link %s:%d %s:%d\n' % (a, i['port1'], b, i['port2']))
