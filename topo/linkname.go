package topo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A LinkView is a link as a person named it, from one of its ends.
type LinkView struct {
	PlannedLink
	// Turned says that the person looks from B: their ab is the link's BA.
	Turned bool
}

// Near returns the end that the person looks from, Far the other.
func (v LinkView) Near() PlannedEnd {
	if v.Turned {
		return v.B
	}
	return v.A
}

// Far returns the end that the person looks towards.
func (v LinkView) Far() PlannedEnd {
	if v.Turned {
		return v.A
	}
	return v.B
}

// Seen returns the settings as the person who named the link writes them.
func (v LinkView) Seen() LinkSettings {
	if v.Turned {
		return v.LinkSettings.Turned()
	}
	return v.LinkSettings
}

// Turned returns the settings as seen from the other end.
func (s LinkSettings) Turned() LinkSettings {
	s.AB, s.BA = s.BA, s.AB
	return s
}

// FindLinks returns the links that name stands for: A-B, all links between two nodes, as
// seen from A; an interface, its link as seen from its node; or the ID of a link. With A→B or
// A->B, oneWay is true: what is to be done is about that direction.
func (p *Plan) FindLinks(name string) (found []LinkView, oneWay bool, err error) {
	for _, l := range p.Links {
		if l.A.Interface == name || l.B.Interface == name {
			return []LinkView{{l, l.B.Interface == name}}, false, nil
		}
	}
	for _, arrow := range []string{"→", "->"} {
		if a, b, ok := strings.Cut(name, arrow); ok {
			if found := p.linksFrom(a, b); found != nil {
				return found, true, nil
			}
		}
	}
	for i, c := range name { // names of nodes may have hyphens themselves
		if c == '-' {
			if found := p.linksFrom(name[:i], name[i+1:]); found != nil {
				return found, false, nil
			}
		}
	}
	if id, err := strconv.Atoi(name); err == nil {
		if i := slices.IndexFunc(p.Links, func(l PlannedLink) bool { return l.ID == id }); i >= 0 {
			return []LinkView{{p.Links[i], false}}, false, nil
		}
	}
	return nil, false, p.noLink(name)
}

// linksFrom returns the links between a and b as seen from a, nil if there is none.
func (p *Plan) linksFrom(a, b string) []LinkView {
	var found []LinkView
	for _, l := range p.LinksBetween(a, b) {
		found = append(found, LinkView{l, l.A.Node != a})
	}
	return found
}

// noLink says that there is no such link, and which was perhaps meant.
func (p *Plan) noLink(name string) error {
	var names []string
	for _, l := range p.Links {
		names = append(names, l.A.Node+"-"+l.B.Node, l.B.Node+"-"+l.A.Node, l.A.Interface, l.B.Interface)
	}
	if near := Nearest(name, names); near != "" {
		return fmt.Errorf("there is no link %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("there is no link %q; write NODE-NODE, the name of an interface, or an ID", name)
}

// ChangeLink changes the settings of a link as LinkSettings.Set does, and returns them as
// the link has them. Its ab is that of the view. A link that is a veth pair because nothing
// was asked of it may be impaired, and the other way round.
func (p *Plan) ChangeLink(v LinkView, options ...string) (LinkSettings, error) {
	s := v.Seen()
	if s.Driver == LinkVeth {
		s.Driver = LinkAuto
	}
	if err := s.Set(options...); err != nil {
		return LinkSettings{}, err
	}
	s.complete(p.Seed, v.A, v.B)
	if (s.Driver == LinkAuto || s.Driver == "") && !s.Impaired() && !s.NeedsWire() {
		s.Driver = LinkVeth
	}
	if v.Turned {
		s = s.Turned()
	}
	return s, p.SetLink(v.ID, s)
}

// SetLink gives a link other settings. Its driver stays if a person chose it.
func (p *Plan) SetLink(id int, s LinkSettings) error {
	i := slices.IndexFunc(p.Links, func(l PlannedLink) bool { return l.ID == id })
	if i < 0 {
		return fmt.Errorf("no link has the ID %d", id)
	}
	if err := p.Links[i].mayHave(s); err != nil {
		return err
	}
	p.Links[i].LinkSettings = s
	return nil
}

// mayHave says why a link that exists cannot have other settings, nil if it can.
func (l PlannedLink) mayHave(s LinkSettings) error {
	if err := s.check(); err != nil {
		return err
	}
	free := l.Driver == LinkVeth || l.Driver == LinkAuto
	switch {
	case s.Driver != l.Driver && (!free || s.Driver == LinkPatch || s.Driver == LinkHW || s.Driver == LinkMemif):
		return fmt.Errorf("a %s link cannot become a %s link while it exists; delete it and add it again", l.Driver, s.Driver)
	}
	return nil
}
