package dpdkhost

import (
	"fmt"
	"slices"
	"strings"
)

// OpenNetVMView renders a state as OpenNetVM's manager prints it on a terminal (onvm_stats.h,
// verbosity 1), whatever manages the node. Rates are those since the state before, which may be
// nil. Ports count from 1 and have their names in place of MAC addresses; cores count from 0, as
// OpenNetVM's do, "-" for any.
func OpenNetVMView(now, before *State) string {
	var b strings.Builder
	seconds := 0.0
	ports := map[int]Port{}
	instances := map[int]Instance{}
	if before != nil {
		seconds = now.At.Sub(before.At).Seconds()
		for _, p := range before.Ports {
			ports[p.Number] = p
		}
		for _, i := range before.Instances {
			instances[i.ID] = i
		}
	}
	rate := func(now, before uint64) uint64 {
		if seconds <= 0 || now < before { // it was started anew
			return 0
		}
		return uint64(float64(now-before) / seconds)
	}

	b.WriteString("PORTS\n-----\n")
	for _, p := range now.Ports {
		fmt.Fprintf(&b, "Port %d: '%s'\t", p.Number, p.Name)
	}
	b.WriteString("\n\n")
	for _, p := range now.Ports {
		was, ok := ports[p.Number]
		if !ok {
			was = p
		}
		fmt.Fprintf(&b, "Port %d - rx: %9d  (%9d pps)\ttx: %9d  (%9d pps)\n",
			p.Number, p.Received, rate(p.Received, was.Received), p.Sent, rate(p.Sent, was.Sent))
	}

	b.WriteString("\nNF TAG         IID / SID / CORE    rx_pps  /  tx_pps        rx_drop  /  tx_drop           out   /    tonf     /   drop\n" +
		"----------------------------------------------------------------------------------------------------------------------\n")
	const numbers = "%9d / %-9d   %11d / %-11d  %11d / %-11d / %-11d"
	type total struct{ count, rx, tx, rxDrop, txDrop, out, toNF, drop uint64 }
	totals := map[int]*total{}
	var services []int
	several := false
	for _, i := range now.Instances {
		core := "-"
		if i.Core > 0 {
			core = fmt.Sprint(i.Core - 1)
		}
		was, ok := instances[i.ID]
		if !ok {
			was = i
		}
		t := totals[i.Service]
		if t == nil {
			t = &total{}
			totals[i.Service] = t
			services = append(services, i.Service)
		}
		rx, tx := rate(i.Received, was.Received), rate(i.Sent, was.Sent)
		t.count++
		several = several || t.count > 1
		t.rx, t.tx = t.rx+rx, t.tx+tx
		t.rxDrop, t.txDrop = t.rxDrop+i.RxDrops, t.txDrop+i.TxDrops
		t.out, t.toNF, t.drop = t.out+i.Out, t.toNF+i.ToNF, t.drop+i.Dropped
		fmt.Fprintf(&b, "%-14s %2d  /  %-2d / %2s    "+numbers+" \n", i.Name, i.ID, i.Service, core, rx, tx, i.RxDrops, i.TxDrops, i.Out, i.ToNF, i.Dropped)
	}
	if several {
		b.WriteString("\nService id totals\n-----------------\n")
		slices.Sort(services)
		for _, s := range services {
			t, nfs := totals[s], "NFs"
			if t.count == 1 {
				nfs = "NF "
			}
			fmt.Fprintf(&b, "SID %-2d %2d%s -                   "+numbers+"\n", s, t.count, nfs, t.rx, t.tx, t.rxDrop, t.txDrop, t.out, t.toNF, t.drop)
		}
	}
	return b.String()
}
