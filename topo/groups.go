package topo

import (
	"errors"
	"fmt"
	"strings"
)

// Rest stands for all hosts that no group names.
const Rest = "rest"

// ParseGroups reads groups of nodes: {h1,h2}|{h3}|rest. Braces and blanks may be left out.
func ParseGroups(text string) ([][]string, error) {
	var groups [][]string
	for part := range strings.SplitSeq(text, "|") {
		part = strings.TrimSpace(part)
		if inner, ok := strings.CutPrefix(part, "{"); ok {
			if part, ok = strings.CutSuffix(inner, "}"); !ok {
				return nil, fmt.Errorf("the group %q has no closing brace; write {h1,h2}|{h3}", inner)
			}
		}
		if strings.ContainsAny(part, "{}") {
			return nil, fmt.Errorf("%q is not a group; write {h1,h2}|{h3}", part)
		}
		group := strings.FieldsFunc(part, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		if len(group) == 0 {
			return nil, errors.New("a group is empty; write {h1,h2}|{h3}")
		}
		groups = append(groups, group)
	}
	if len(groups) < 2 {
		return nil, errors.New("a partition has at least two groups; write {h1,h2}|{h3}, or {h1}|rest")
	}
	return groups, nil
}

// FormatGroups writes groups as ParseGroups reads them.
func FormatGroups(groups [][]string) string {
	texts := make([]string, len(groups))
	for i, g := range groups {
		texts[i] = "{" + strings.Join(g, ",") + "}"
	}
	return strings.Join(texts, "|")
}

// Partition says which group, from 1, each node is in; those in none are not there. A switch
// stands for itself and the hosts that are linked to it and named in no group; Rest for all
// other hosts.
func (p *Plan) Partition(groups [][]string) (map[string]int, error) {
	in := map[string]int{}
	rest := 0
	var errs []error
	for i, g := range groups {
		for _, name := range g {
			switch {
			case p.Host(name) == nil && p.Switch(name) == nil && name == Rest && (rest == 0 || rest == i+1):
				rest = i + 1
			case p.Controller(name) != nil:
				errs = append(errs, fmt.Errorf("%s is a controller, which has no links", name))
			case p.Host(name) == nil && p.Switch(name) == nil && name != Rest:
				errs = append(errs, fmt.Errorf("there is no host or switch %q", name))
			case name == Rest || in[name] != 0 && in[name] != i+1:
				errs = append(errs, fmt.Errorf("%s is in two groups", name))
			default:
				in[name] = i + 1
			}
		}
	}
	if len(groups) < 2 {
		errs = append(errs, errors.New("a partition has at least two groups"))
	}
	if err := oneLine(errs); err != nil {
		return nil, err
	}
	var adopted []string
	for _, l := range p.Links {
		for _, ends := range [][2]string{{l.A.Node, l.B.Node}, {l.B.Node, l.A.Node}} {
			host, sw := ends[0], ends[1]
			if p.Host(host) != nil && p.Switch(sw) != nil && in[host] == 0 && in[sw] != 0 {
				adopted = append(adopted, host)
				in[host] = -in[sw]
			}
		}
	}
	for _, h := range adopted {
		if in[h] < 0 {
			in[h] = -in[h]
		}
	}
	if rest != 0 {
		for _, h := range p.Hosts {
			if in[h.Name] == 0 {
				in[h.Name] = rest
			}
		}
	}
	return in, nil
}
