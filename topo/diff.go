package topo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// A Diff is what makes a planned network the one that a Spec describes. What is in neither of
// its lists stays untouched.
type Diff struct {
	Hosts       Changes[PlannedHost]       `json:"hosts,omitzero"`
	Switches    Changes[PlannedSwitch]     `json:"switches,omitzero"`
	Controllers Changes[PlannedController] `json:"controllers,omitzero"`
	Links       Changes[PlannedLink]       `json:"links,omitzero"`
	// Run are the commands to run then: those that were not in the plan, and those of nodes that
	// are new. Commands that are no longer there are not undone.
	Run []Command `json:"run,omitempty"`
	// Plan is the network as it will be.
	Plan *Plan `json:"-"`
}

// Changes are those of one kind of node or link, in the order of the plans.
type Changes[T any] struct {
	Remove []T         `json:"remove,omitempty"`
	Change []Change[T] `json:"change,omitempty"` // while it runs
	// Replace lists what must be removed and made anew.
	Replace []Change[T] `json:"replace,omitempty"`
	Add     []T         `json:"add,omitempty"`
}

// A Change is one of something that there is before and after.
type Change[T any] struct {
	From T `json:"from"`
	To   T `json:"to"`
	// What differs, for people: "ip 10.0.0.1/8 → 10.0.0.9/8".
	What []string `json:"what"`
}

// IsEmpty reports whether there is nothing to do.
func (d *Diff) IsEmpty() bool {
	return d.Hosts.count()+d.Switches.count()+d.Controllers.count()+d.Links.count()+len(d.Run) == 0
}

func (c Changes[T]) count() int {
	return len(c.Remove) + len(c.Change) + len(c.Replace) + len(c.Add)
}

// IsZero reports whether there is nothing to do.
func (c Changes[T]) IsZero() bool { return c.count() == 0 }

// Diff returns what is to be done to p, a network that runs, so that it becomes the one that s
// describes. What s leaves open stays as it is in p: addresses, ports, names of interfaces,
// datapath IDs. Links between the same two nodes are told apart by interface, then by port,
// then by their order. The name of s is not looked at. Its error names all that is wrong.
func (p *Plan) Diff(s Spec) (*Diff, error) {
	if p.index == nil {
		p = p.Clone()
	}
	m := &matcher{plan: p, spec: s, links: map[int]int{}}
	m.takeChosen()
	m.matchLinks()
	m.pin()
	want, err := m.spec.Plan()
	if err != nil {
		return nil, err
	}
	if err := sameAddressing(p.Addressing, want.Addressing); err != nil {
		return nil, err
	}
	want.Name, want.Trusted = p.Name, p.Trusted
	m.number(want)
	return m.compare(want)
}

// sameAddressing says why a network that runs cannot have other addressing.
func sameAddressing(is, want Addressing) error {
	if is == want {
		return nil
	}
	what := differences(is, want)
	return fmt.Errorf("%s: this concerns the addresses of all hosts; take the network down and up again", strings.Join(what, ", "))
}

// A matcher finds what of a plan is what of a Spec.
type matcher struct {
	plan  *Plan
	spec  Spec           // a copy: what it leaves open is filled in by pin
	links map[int]int    // place in spec.Links to place in plan.Links
	given map[claim]bool // what somebody chose in the Spec
}

// takeChosen copies the Spec and notes what it says itself.
func (m *matcher) takeChosen() {
	s := &m.spec
	s.Hosts, s.Switches, s.Links = slices.Clone(s.Hosts), slices.Clone(s.Switches), slices.Clone(s.Links)
	m.given = map[claim]bool{}
	for _, h := range s.Hosts {
		m.give(h.IP.IsValid(), addressClaim(h.IP.Addr().String()))
		m.give(h.IP6.IsValid(), addressClaim(h.IP6.Addr().String()))
		m.give(h.MAC != "", macClaim(strings.ToLower(h.MAC)))
	}
	for _, sw := range s.Switches {
		m.give(sw.DPID != 0, dpidClaim(sw.DPID))
	}
	for _, l := range s.Links {
		for _, e := range []LinkEnd{l.A, l.B} {
			m.give(e.IP.IsValid(), addressClaim(e.IP.Addr().String()))
			m.give(e.IP6.IsValid(), addressClaim(e.IP6.Addr().String()))
			m.give(e.MAC != "", macClaim(strings.ToLower(e.MAC)))
			m.give(e.Interface != "", nameClaim(e.Node, e.Interface))
			if e.Port != nil {
				m.give(true, portClaim(e.Node, *e.Port))
				m.give(e.Interface == "", nameClaim(e.Node, defaultName(e.Node, *e.Port)))
			}
		}
	}
}

func (m *matcher) give(is bool, c claim) {
	if is {
		m.given[c] = true
	}
}

// matchLinks finds the links that there are already, and turns those of the Spec as they run.
func (m *matcher) matchLinks() {
	type pair struct{ a, b string }
	free := map[pair][]int{} // places of links in the plan
	key := func(a, b string) pair { return pair{min(a, b), max(a, b)} }
	kinds := map[string]nodeKind{}
	for _, h := range m.spec.Hosts {
		kinds[h.Name] = hostNode
	}
	for _, s := range m.spec.Switches {
		kinds[s.Name] = switchNode
	}
	same := func(name string) bool { return m.plan.index.nodes[name].kind == kinds[name] } // NICs have none
	for i, l := range m.plan.Links {
		if !same(l.A.Node) || !same(l.B.Node) {
			continue // a node of the same name, but of another kind
		}
		free[key(l.A.Node, l.B.Node)] = append(free[key(l.A.Node, l.B.Node)], i)
	}
	matched := make([]bool, len(m.spec.Links))
	for _, like := range []func(e LinkEnd, f *Interface) bool{
		func(e LinkEnd, f *Interface) bool { return e.Interface != "" && e.Interface == f.Name },
		func(e LinkEnd, f *Interface) bool { return e.Port != nil && *e.Port == f.Port },
		func(LinkEnd, *Interface) bool { return true },
	} {
		for i := range m.spec.Links {
			l := &m.spec.Links[i]
			if matched[i] {
				continue
			}
			list := free[key(l.A.Node, l.B.Node)]
			k := slices.IndexFunc(list, func(at int) bool {
				ends := ordered(*l, m.plan.Links[at])
				return like(ends.A, m.plan.Interface(m.plan.Links[at].A)) || like(ends.B, m.plan.Interface(m.plan.Links[at].B))
			})
			if k < 0 {
				continue
			}
			at := list[k]
			*l = ordered(*l, m.plan.Links[at])
			m.links[i], matched[i] = at, true
			free[key(l.A.Node, l.B.Node)] = slices.Delete(slices.Clone(list), k, k+1)
		}
	}
}

// ordered returns a link of the Spec with its ends as the planned one has them.
func ordered(l Link, as PlannedLink) Link {
	if l.A.Node != as.A.Node {
		l.A, l.B, l.LinkSettings = l.B, l.A, l.LinkSettings.Turned()
	}
	return l
}

// pin fills in what the Spec leaves open with what is so now, unless somebody chose that for
// another.
func (m *matcher) pin() {
	for i, at := range m.links {
		l, now := &m.spec.Links[i], m.plan.Links[at]
		m.pinEnd(&l.A, m.plan.Interface(now.A))
		m.pinEnd(&l.B, m.plan.Interface(now.B))
	}
	first := map[string]LinkEnd{} // ends that take their host's addresses
	for _, l := range m.spec.Links {
		for _, e := range []LinkEnd{l.A, l.B} {
			if f, ok := first[e.Node]; !ok || e.Port != nil && (f.Port == nil || *e.Port < *f.Port) {
				first[e.Node] = e
			}
		}
	}
	for i := range m.spec.Hosts {
		h := &m.spec.Hosts[i]
		now, end := m.plan.Host(h.Name), first[h.Name]
		if now == nil {
			continue
		}
		if !h.IP.IsValid() && !end.IP.IsValid() && now.IP.IsValid() && !m.given[addressClaim(now.IP.Addr().String())] {
			h.IP = now.IP
		}
		if !h.IP6.IsValid() && !end.IP6.IsValid() && now.IP6.IsValid() && !m.given[addressClaim(now.IP6.Addr().String())] {
			h.IP6 = now.IP6
		}
		if h.MAC == "" && end.MAC == "" && !m.given[macClaim(now.MAC)] {
			h.MAC = now.MAC
		}
	}
	for i := range m.spec.Switches {
		sw := &m.spec.Switches[i]
		now := m.plan.Switch(sw.Name)
		if now != nil && sw.DPID == 0 && sw.Driver != DriverLinux && !m.given[dpidClaim(now.DPID)] {
			sw.DPID = now.DPID
		}
	}
}

// pinEnd lets an end be the interface that it is.
func (m *matcher) pinEnd(e *LinkEnd, now *Interface) {
	port := now.Port
	switch {
	case Outside(e.Node):
	case e.Port != nil || m.given[portClaim(e.Node, port)]:
	case e.Interface != "":
		e.Port = &port
	case !m.given[nameClaim(e.Node, now.Name)]:
		e.Interface, e.Port = now.Name, &port
	}
}

// number gives the links that there are already their IDs, and the others new ones.
func (m *matcher) number(want *Plan) {
	next := m.plan.NextLinkID
	for i := range want.Links {
		l := &want.Links[i]
		if at, ok := m.links[i]; ok {
			l.ID = m.plan.Links[at].ID
		} else {
			l.ID = next
			next++
		}
		for _, e := range []PlannedEnd{l.A, l.B} {
			want.Interface(e).Link = l.ID
		}
	}
	want.NextLinkID, want.NextHost = next, max(want.NextHost, m.plan.NextHost)
}

// compare says what differs between the plan and what is wanted.
func (m *matcher) compare(want *Plan) (*Diff, error) {
	d := &Diff{Plan: want}
	is := m.plan
	d.Controllers = changes(is.Controllers, want.Controllers, nodeType[PlannedController]{
		name:    func(c *PlannedController) string { return c.Name },
		inPlace: func(a, b *PlannedController) bool { return true },
	})
	d.Switches = changes(is.Switches, want.Switches, nodeType[PlannedSwitch]{
		name:       func(s *PlannedSwitch) string { return s.Name },
		interfaces: func(s *PlannedSwitch) *[]Interface { return &s.Interfaces },
		more: func(a, b *PlannedSwitch) []string {
			what := dpdkDifferences(a.DPDK, b.DPDK)
			a.DPDK, b.DPDK = nil, nil
			return what
		},
		// The ports of a DPDK node are in a namespace of its own.
		inPlace: func(a, b *PlannedSwitch) bool {
			return a.Device == b.Device && (a.Driver == DriverDPDK) == (b.Driver == DriverDPDK)
		},
	})
	d.Hosts = changes(is.Hosts, want.Hosts, nodeType[PlannedHost]{
		name:       func(h *PlannedHost) string { return h.Name },
		interfaces: func(h *PlannedHost) *[]Interface { return &h.Interfaces },
		inPlace: func(a, b *PlannedHost) bool {
			c := *a
			c.IP, c.IP6, c.MAC, c.DefaultRoute, c.Interfaces = b.IP, b.IP6, b.MAC, b.DefaultRoute, b.Interfaces
			return reflect.DeepEqual(&c, b)
		},
	})
	gone := map[string]bool{} // nodes that are removed or made anew
	for _, s := range d.Switches.Remove {
		gone[s.Name] = true
	}
	for _, s := range d.Switches.Replace {
		gone[s.To.Name] = true
	}
	for _, h := range d.Hosts.Remove {
		gone[h.Name] = true
	}
	for _, h := range d.Hosts.Replace {
		gone[h.To.Name] = true
	}
	m.compareLinks(d, gone)
	fresh := gone
	for _, s := range d.Switches.Add {
		fresh[s.Name] = true
	}
	for _, h := range d.Hosts.Add {
		fresh[h.Name] = true
	}
	for _, c := range want.Commands {
		if fresh[c.Node] || !slices.Contains(is.Commands, c) {
			d.Run = append(d.Run, c)
		}
	}
	return d, nil
}

// A nodeType is how nodes of one kind are compared.
type nodeType[T any] struct {
	name       func(*T) string
	interfaces func(*T) *[]Interface // nil: they have none
	// more says what differs that fields do not tell, and empties it; nil: nothing.
	more func(a, b *T) []string
	// inPlace reports whether a node may become another while its programs run.
	inPlace func(a, b *T) bool
}

// changes compares lists of nodes by name. Of interfaces, only those are compared that are
// there before and after; others come and go with links.
func changes[T any](is, want []T, t nodeType[T]) (c Changes[T]) {
	before := make(map[string]*T, len(is))
	for i := range is {
		before[t.name(&is[i])] = &is[i]
	}
	for i := range want {
		v := &want[i]
		old := before[t.name(v)]
		if old == nil {
			c.Add = append(c.Add, *v)
			continue
		}
		delete(before, t.name(v))
		what := t.differences(old, v)
		switch {
		case len(what) == 0:
		case t.inPlace(old, v):
			c.Change = append(c.Change, Change[T]{*old, *v, what})
		default:
			c.Replace = append(c.Replace, Change[T]{*old, *v, what})
		}
	}
	for i := range is {
		if _, left := before[t.name(&is[i])]; left {
			c.Remove = append(c.Remove, is[i])
		}
	}
	return c
}

// differences says how two nodes of one name differ.
func (t nodeType[T]) differences(a, b *T) []string {
	x, y := *a, *b
	var addresses []string
	if t.interfaces != nil {
		addresses = interfaceDifferences(*t.interfaces(a), *t.interfaces(b))
		*t.interfaces(&x), *t.interfaces(&y) = nil, nil
	}
	var more []string
	if t.more != nil {
		more = t.more(&x, &y)
	}
	what := append(differences(x, y), more...)
	for _, line := range addresses {
		// That of the first interface has been said, as the host's.
		if _, said, _ := strings.Cut(line, " "); !slices.Contains(what, said) {
			what = append(what, line)
		}
	}
	return what
}

// interfaceDifferences compares the addresses of interfaces of the same name.
func interfaceDifferences(is, want []Interface) (what []string) {
	before := make(map[string]*Interface, len(is))
	for i := range is {
		before[is[i].Name] = &is[i]
	}
	for _, v := range want {
		old := before[v.Name]
		if old == nil || old.IP == v.IP && old.IP6 == v.IP6 && old.MAC == v.MAC {
			continue
		}
		type addresses struct {
			IP  netip.Prefix `json:"ip,omitzero"`
			IP6 netip.Prefix `json:"ip6,omitzero"`
			MAC string       `json:"mac"`
		}
		for _, line := range differences(addresses{old.IP, old.IP6, old.MAC}, addresses{v.IP, v.IP6, v.MAC}) {
			what = append(what, v.Name+" "+line)
		}
	}
	return what
}

// differences says which fields of two values differ, by their names in JSON.
func differences[T any](a, b T) (what []string) {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	before, after := fields(a), fields(b)
	for _, name := range slices.Sorted(maps.Keys(union(before, after))) {
		if from, to := before[name], after[name]; !bytes.Equal(from, to) {
			what = append(what, fmt.Sprintf("%s %s → %s", name, plain(from), plain(to)))
		}
	}
	return what
}

// fields returns a value's fields by their names in JSON.
func fields(v any) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	if b, err := json.Marshal(v); err == nil {
		json.Unmarshal(b, &m) // of a struct
	}
	return m
}

func union[K comparable, V any](a, b map[K]V) map[K]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// plain writes a JSON value as people read it.
func plain(v json.RawMessage) string {
	const most = 60
	var text string
	switch {
	case len(v) == 0, string(v) == "null", string(v) == "[]", string(v) == `""`:
		return "none"
	case json.Unmarshal(v, &text) == nil:
	default:
		text = string(v)
	}
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

// compareLinks says what becomes of links; those of nodes that are made anew are, too.
func (m *matcher) compareLinks(d *Diff, gone map[string]bool) {
	is, want := m.plan, d.Plan
	kept := map[int]bool{}
	for i, l := range want.Links {
		at, ok := m.links[i]
		if !ok {
			d.Links.Add = append(d.Links.Add, l)
			continue
		}
		old := is.Links[at]
		kept[old.ID] = true
		what := m.endDifferences(old, l, want, gone)
		replace := len(what) > 0
		what = append(what, settingDifferences(old.LinkSettings, l.LinkSettings)...)
		if len(what) == 0 {
			continue
		}
		if !replace && old.mayHave(l.LinkSettings) != nil {
			replace = true
		}
		if replace {
			d.Links.Replace = append(d.Links.Replace, Change[PlannedLink]{old, l, what})
		} else {
			d.Links.Change = append(d.Links.Change, Change[PlannedLink]{old, l, what})
		}
	}
	for _, l := range is.Links {
		if !kept[l.ID] {
			d.Links.Remove = append(d.Links.Remove, l)
		}
	}
}

// endDifferences says why a link that there is must be made anew, because of its ends.
func (m *matcher) endDifferences(old, l PlannedLink, want *Plan, gone map[string]bool) (what []string) {
	for _, ends := range [][2]PlannedEnd{{old.A, l.A}, {old.B, l.B}} {
		node := ends[1].Node
		a, b := m.plan.Interface(ends[0]), want.Interface(ends[1])
		switch {
		case gone[node]:
			what = append(what, node+" is made anew")
		case a.Name != b.Name || a.Port != b.Port:
			what = append(what, fmt.Sprintf("%s (port %d) → %s (port %d)", a.Name, a.Port, b.Name, b.Port))
		case a.Device != b.Device:
			what = append(what, fmt.Sprintf("device of %s %s → %s", b.Name, a.Device, b.Device))
		case a.MAC != b.MAC && want.Switch(node) != nil:
			what = append(what, fmt.Sprintf("%s mac %s → %s", b.Name, a.MAC, b.MAC))
		}
	}
	return what
}

// settingDifferences says how the settings of a link differ.
func settingDifferences(a, b LinkSettings) []string {
	if a.Driver == b.Driver && a.AB == b.AB && a.BA == b.BA && a.MTU == b.MTU && a.Record == b.Record && reflect.DeepEqual(a.Seed, b.Seed) {
		return nil
	}
	ab, ba := impairmentDifferences(a.AB, b.AB), impairmentDifferences(a.BA, b.BA)
	what := ab
	if !slices.Equal(ab, ba) {
		what = nil
		for _, w := range ab {
			what = append(what, "ab:"+w)
		}
		for _, w := range ba {
			what = append(what, "ba:"+w)
		}
	}
	a.AB, a.BA, b.AB, b.BA = Impairment{}, Impairment{}, Impairment{}, Impairment{}
	if chosen := func(d LinkDriver) bool { return d != LinkVeth && d != LinkAuto }; !chosen(a.Driver) && !chosen(b.Driver) {
		a.Driver = b.Driver // it follows from the rest
	}
	return append(what, differences(a, b)...)
}

func impairmentDifferences(a, b Impairment) (what []string) {
	options := func(i Impairment) map[string]string {
		values := map[string]string{}
		for _, o := range i.Options() {
			key, value, _ := strings.Cut(o, "=")
			values[key] = value
		}
		return values
	}
	before, after := options(a), options(b)
	for _, key := range slices.Sorted(maps.Keys(union(before, after))) {
		if from, to := before[key], after[key]; from != to {
			what = append(what, fmt.Sprintf("%s %s → %s", key, cmp.Or(from, "none"), cmp.Or(to, "none")))
		}
	}
	return what
}

// Drop removes nodes, of whatever kind, and links, without asking whether they are there.
func (p *Plan) Drop(nodes []string, links []PlannedLink) {
	gone := map[string]bool{}
	for _, name := range nodes {
		gone[name] = true
	}
	ids := map[int]bool{}
	for _, l := range links {
		ids[l.ID] = true
	}
	p.Hosts = slices.DeleteFunc(p.Hosts, func(h PlannedHost) bool { return gone[h.Name] })
	p.Switches = slices.DeleteFunc(p.Switches, func(s PlannedSwitch) bool { return gone[s.Name] })
	p.Controllers = slices.DeleteFunc(p.Controllers, func(c PlannedController) bool { return gone[c.Name] })
	p.removeLinks(func(l PlannedLink) bool { return ids[l.ID] || gone[l.A.Node] || gone[l.B.Node] })
}

// PutHost makes the plan say of a host what h says, and of those of its interfaces that h has
// too the same addresses. It does nothing if there is no such host; so do the others. They
// leave the index as it is: Clone makes a new one.
func (p *Plan) PutHost(h PlannedHost) {
	now := p.Host(h.Name)
	if now == nil {
		return
	}
	list := now.Interfaces
	for i := range list {
		k := slices.IndexFunc(h.Interfaces, func(f Interface) bool { return f.Name == list[i].Name })
		if k >= 0 {
			list[i].IP, list[i].IP6, list[i].MAC = h.Interfaces[k].IP, h.Interfaces[k].IP6, h.Interfaces[k].MAC
		}
	}
	*now = h
	now.Interfaces = list
}

// PutSwitch makes the plan say of a switch what s says, its ports apart.
func (p *Plan) PutSwitch(s PlannedSwitch) {
	if now := p.Switch(s.Name); now != nil {
		s.Interfaces = now.Interfaces
		*now = s
	}
}

// PutController makes the plan say of a controller what c says.
func (p *Plan) PutController(c PlannedController) {
	if now := p.Controller(c.Name); now != nil {
		*now = c
	}
}

// PutLink makes the plan say of a link's settings what l says.
func (p *Plan) PutLink(l PlannedLink) {
	if i := slices.IndexFunc(p.Links, func(o PlannedLink) bool { return o.ID == l.ID }); i >= 0 {
		p.Links[i].LinkSettings = l.LinkSettings
	}
}
