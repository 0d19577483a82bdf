package network

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"weft/internal/probe"
	"weft/topo"
)

// An IperfResult is a measured throughput; an IperfInterval about a second of it.
type (
	IperfResult   = probe.IperfResult
	IperfInterval = probe.IperfInterval
	// An Echo is one of a TrainResult.
	Echo = probe.Echo
)

// Ping exchanges ICMP echoes between hosts.
func (n *Network) Ping(ctx context.Context, r PingRequest) (PingResult, error) {
	start := time.Now()
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	pairs, err := pingPairs(plan, r)
	if err != nil {
		return PingResult{}, err
	}
	cfg := probe.PingConfig{IPv6: r.IPv6, Timeout: r.Timeout, Tries: r.Tries, Count: r.Count}
	var hosts []probe.Host
	index := map[string]int{}
	at := func(name string) int {
		i, ok := index[name]
		if !ok {
			i = len(hosts)
			index[name] = i
			hosts = append(hosts, n.probeHost(plan.Host(name)))
		}
		return i
	}
	for _, p := range pairs {
		cfg.Pairs = append(cfg.Pairs, [2]int{at(p[0]), at(p[1])})
	}
	results, err := probe.Ping(ctx, hosts, cfg, nil)
	if err != nil {
		return PingResult{}, err
	}
	out := PingResult{Pairs: make([]PingPair, 0, len(results))}
	for i, p := range results {
		dst := hosts[cfg.Pairs[i][1]]
		ip := dst.IP
		if r.IPv6 {
			ip = dst.IP6
		}
		out.Pairs = append(out.Pairs, PingPair{Src: pairs[i][0], Dst: pairs[i][1], DstIP: ip,
			Sent: p.Sent, Received: p.Received, Retries: p.Retries, RTT: p.RTT, Error: p.Error})
		out.Sent += p.Sent
		out.Received += p.Received
	}
	out.Duration = time.Since(start)
	return out, nil
}

// pingPairs lists who pings whom, by name.
func pingPairs(plan *topo.Plan, r PingRequest) ([][2]string, error) {
	pairs, names := r.Pairs, r.Hosts
	if pairs == nil {
		if names == nil {
			for _, h := range plan.Hosts {
				names = append(names, h.Name)
			}
		}
		for _, a := range names {
			for _, b := range names {
				if a != b {
					pairs = append(pairs, [2]string{a, b})
				}
			}
		}
	}
	for _, p := range pairs {
		for _, name := range p {
			if plan.Host(name) == nil {
				return nil, fmt.Errorf("no host named %s", name)
			}
		}
	}
	return pairs, nil
}

// probeHost is a host as package probe sees it: by its first interface that has an address.
func (n *Network) probeHost(h *topo.PlannedHost) probe.Host {
	p := probe.Host{Name: h.Name, Do: n.netOf(h.Name).Do}
	first := func(ip *netip.Addr, prefix netip.Prefix) {
		if !ip.IsValid() && prefix.IsValid() {
			*ip = prefix.Addr()
		}
	}
	for _, i := range h.Interfaces {
		first(&p.IP, i.IP)
		first(&p.IP6, i.IP6)
	}
	return p
}

// Train sends echo requests from a host to another at even times.
func (n *Network) Train(ctx context.Context, r TrainRequest) (TrainResult, error) {
	src, dst, err := n.twoHosts("ping", r.Src, r.Dst)
	if err != nil {
		return TrainResult{}, err
	}
	out := TrainResult{Started: time.Now()}
	out.Echoes, err = probe.Train(ctx, src, dst, probe.TrainConfig{IPv6: r.IPv6, Count: r.Count, Interval: r.Interval, Timeout: r.Timeout})
	return out, err
}

// Reach tries whether hosts reach ports of others.
func (n *Network) Reach(ctx context.Context, r ReachRequest) (ReachResult, error) {
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	pairs, err := pingPairs(plan, PingRequest{Pairs: r.Pairs})
	if err != nil {
		return ReachResult{}, err
	}
	cfg := probe.KnockConfig{UDP: r.UDP, Port: r.Port, IPv6: r.IPv6, Timeout: r.Timeout, Tries: r.Tries}
	var hosts []probe.Host
	index := map[string]int{}
	for _, p := range pairs {
		var at [2]int
		for i, name := range p {
			if _, known := index[name]; !known {
				index[name] = len(hosts)
				hosts = append(hosts, n.probeHost(plan.Host(name)))
			}
			at[i] = index[name]
		}
		cfg.Pairs = append(cfg.Pairs, at)
	}
	results, err := probe.Knock(ctx, hosts, cfg)
	if err != nil {
		return ReachResult{}, err
	}
	out := ReachResult{Pairs: []ReachPair{}}
	for i, k := range results {
		out.Pairs = append(out.Pairs, ReachPair{Src: pairs[i][0], Dst: pairs[i][1], Reached: k.Reached, Reason: k.Reason})
	}
	return out, nil
}

// twoHosts returns two different hosts as package probe sees them.
func (n *Network) twoHosts(what, a, b string) (src, dst probe.Host, err error) {
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	for _, name := range []string{a, b} {
		if plan.Host(name) == nil {
			return src, dst, fmt.Errorf("no host named %s", name)
		}
	}
	if a == b {
		return src, dst, fmt.Errorf("%s needs two hosts, got %s twice", what, a)
	}
	return n.probeHost(plan.Host(a)), n.probeHost(plan.Host(b)), nil
}

// Iperf measures the throughput between two hosts.
func (n *Network) Iperf(ctx context.Context, r IperfRequest) (IperfResult, error) {
	client, server, err := n.twoHosts("iperf", r.Client, r.Server)
	if err != nil {
		return IperfResult{}, err
	}
	return probe.Iperf(ctx, probe.IperfConfig{
		Client: client, Server: server, UDP: r.UDP, IPv6: r.IPv6,
		Rate: r.Rate, Duration: r.Duration, Port: r.Port, Length: r.Length,
	})
}
