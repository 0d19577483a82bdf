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

// Iperf measures the throughput between two hosts.
func (n *Network) Iperf(ctx context.Context, r IperfRequest) (IperfResult, error) {
	n.mu.Lock()
	plan := n.plan
	n.mu.Unlock()
	client, server := plan.Host(r.Client), plan.Host(r.Server)
	switch {
	case client == nil:
		return IperfResult{}, fmt.Errorf("no host named %s", r.Client)
	case server == nil:
		return IperfResult{}, fmt.Errorf("no host named %s", r.Server)
	case client == server:
		return IperfResult{}, fmt.Errorf("iperf needs two hosts, got %s twice", r.Client)
	}
	return probe.Iperf(ctx, probe.IperfConfig{
		Client: n.probeHost(client), Server: n.probeHost(server), UDP: r.UDP, IPv6: r.IPv6,
		Rate: r.Rate, Duration: r.Duration, Port: r.Port, Length: r.Length,
	})
}
