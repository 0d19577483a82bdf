package topo

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// OnlyNFs reports whether what differs between two descriptions, complete as a Plan has them, is
// NFs, chains and flows: a node that runs takes that.
func (d *DPDK) OnlyNFs(to *DPDK) bool {
	a, b := *d.Clone(), *to.Clone()
	a.NFs, a.Chains, a.Flows = nil, nil, nil
	b.NFs, b.Chains, b.Flows = nil, nil, nil
	a.NICs, b.NICs = append([]string{}, a.NICs...), append([]string{}, b.NICs...)
	return reflect.DeepEqual(a, b)
}

// dpdkDifferences says how two descriptions differ.
func dpdkDifferences(a, b *DPDK) (what []string) {
	if a == nil || b == nil {
		return nil // the driver says it
	}
	for _, t := range []struct {
		kind     string
		from, to map[string]string
	}{
		{"NF", nfTexts(a.NFs), nfTexts(b.NFs)},
		{"chain", chainTexts(a.Chains), chainTexts(b.Chains)},
		{"flow", flowTexts(a.Flows), flowTexts(b.Flows)},
	} {
		for _, name := range slices.Sorted(maps.Keys(union(t.from, t.to))) {
			from, before := t.from[name]
			to, after := t.to[name]
			switch {
			case !before:
				what = append(what, strings.TrimSpace(fmt.Sprintf("%s %s added %s", t.kind, name, to)))
			case !after:
				what = append(what, fmt.Sprintf("%s %s removed", t.kind, name))
			case from != to:
				what = append(what, fmt.Sprintf("%s %s: %s becomes %s", t.kind, name, from, to))
			}
		}
	}
	x, y := *a, *b
	x.NFs, x.Chains, x.Flows, y.NFs, y.Chains, y.Flows = nil, nil, nil, nil, nil, nil
	return append(what, differences(x, y)...)
}

// nfTexts are NFs by name and service, those that share both with a number.
func nfTexts(nfs []NF) map[string]string {
	m := map[string]string{}
	for _, n := range nfs {
		key := fmt.Sprintf("%s@%d", n.Name, n.Service)
		for i := 2; ; i++ {
			if _, taken := m[key]; !taken {
				break
			}
			key = fmt.Sprintf("%s@%d#%d", n.Name, n.Service, i)
		}
		m[key] = n.details()
	}
	return m
}

// details says what an NF has besides its name and service, of which the defaults are left out.
func (n NF) details() string {
	words := slices.Clone(n.Args)
	add := func(is bool, format string, args ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(n.Command != "", "command %q", n.Command)
	add(n.Dir != "", "in %s", n.Dir)
	add(n.Image != "", "image %s", n.Image)
	add(n.RootFS != "", "rootfs %s", n.RootFS)
	add(n.Host != "", "on %s", n.Host)
	add(n.Outside, "outside")
	add(n.Instances != 1, "×%d", n.Instances)
	add(n.Weight != 1, "weight %d", n.Weight)
	add(n.Core != 0, "core %d", n.Core)
	add(n.Fused, "fused")
	add(n.ReadOnly, "read-only")
	add(n.Copy, "copy")
	add(n.Restart != restartWords[0], "restart %s", n.Restart)
	add(n.OnDeath != deathWords[0], "on death %s", n.OnDeath)
	if len(words) == 0 {
		return "as it comes"
	}
	return strings.Join(words, " ")
}

func chainTexts(chains []Chain) map[string]string {
	m := map[string]string{}
	for _, c := range chains {
		m[c.Name] = c.String()
	}
	return m
}

func flowTexts(flows []string) map[string]string {
	m := map[string]string{}
	for _, f := range flows {
		m[f] = ""
	}
	return m
}
