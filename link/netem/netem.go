// Package netem makes links whose frames the kernel's queueing disciplines impair: veth
// pairs with sch_netem(8) and sch_tbf(8) between them. No frame leaves the kernel.
//
//	end A        in between, in the namespace of the link's driver             end B
//
//	 a ═════► a'   p ════════► q    ┌─ b' egress ─► rate ─┐                ═════► b
//	   veth   └──►─┘ fate      └──►─┘  (mirred)    (IFB)  └─► b' wait ────►  veth
//	                veth
//
// Frames that enter at a are redirected (mirred) from the inner end a' to p, where netem
// loses, duplicates and corrupts them (fate); then to b', but by an IFB, where TBF has the
// queue and the rate; then they leave b' through netem, which delays and reorders them (wait).
// The way back is the mirror image: q is its fate, a' its wait. A way without a rate has no fate
// and no IFB: its frames go from a' to b' at once, and the netem there does everything.
//
// Nothing is on the ends themselves: what users do there with tc(8) does not meet it, and
// the queue does not push back on the sender's sockets (TCP small queues), since the first netem
// takes the frames off their account.
//
// What differs from the order that topo.Impairment gives, and from its words:
//   - with ReorderGap n, at least n-1 frames are delayed before one may skip the delay;
//   - CoDel and FQ-CoDel count their queue in frames: bytes and time become as many frames of
//     the MTU;
//   - rates are in whole bytes a second: up to 7 bit/s are cut off;
//   - half of a droptail queue in bytes or time is in netem, which sends a frame when the rate has
//     carried those before it, exactly, however late its timers are. A change of the rate is for
//     the other half. With a queue in frames, RED, CoDel, a jitter or a burst, TBF alone has the
//     queue: what 1 ms carries passes at once besides the burst, to make good for late timers.
//
// What needs a seed, a record, a trace, numbers of frames or a filter is for package wire. So are
// loss in bursts together with duplication, a jitter above 2.1 s, and whatever this kernel was made
// without: see Probe.
//
// It may import link, topo and internal/ns.
package netem
