package netfile

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"weft/topo"
)

// A foreign collects a network from a file that is not weft's, and where its parts are.
type foreign struct {
	complaint
	spec  topo.Spec
	tell  func(string)
	told  map[string]bool
	nodes map[string]node
	// The places of hosts, switches, controllers, links and commands: line and column.
	places       map[string][][2]int
	uncontrolled bool
}

func newForeign(path string, p Params) *foreign {
	return &foreign{complaint: complaint{file: path}, tell: p.Note, told: map[string]bool{}, nodes: map[string]node{}, places: map[string][][2]int{}}
}

// maxNotes bounds what is told of one file.
const maxNotes = 20

// note tells what people should know of what was read.
func (f *foreign) note(format string, args ...any) {
	text := f.file + ": " + fmt.Sprintf(format, args...)
	if f.tell == nil || f.told[text] || len(f.told) > maxNotes {
		return
	}
	f.told[text] = true
	if len(f.told) > maxNotes {
		text = f.file + ": and more of that kind"
	}
	f.tell(text)
}

// claim enters a node's name.
func (f *foreign) claim(k kind, name string, line, column int) bool {
	if have, taken := f.nodes[name]; taken {
		f.at(line, column, "there is a %s %s already, in line %d; choose another name", have.kind, name, f.places[string(have.kind)][have.at][0])
		return false
	}
	if len(f.nodes) >= topo.MaxNodes {
		f.at(line, column, "the network has more than %d nodes", topo.MaxNodes)
		return false
	}
	f.nodes[name] = node{k, len(f.places[string(k)])}
	f.places[string(k)] = append(f.places[string(k)], [2]int{line, column})
	return true
}

func (f *foreign) addHost(h topo.Host, line, column int) {
	if f.claim(hostKind, h.Name, line, column) {
		f.spec.Hosts = append(f.spec.Hosts, h)
	}
}

func (f *foreign) addSwitch(s topo.Switch, line, column int) {
	if f.claim(switchKind, s.Name, line, column) {
		f.spec.Switches = append(f.spec.Switches, s)
	}
}

func (f *foreign) addController(c topo.Controller, line, column int) {
	if f.claim(controllerKind, c.Name, line, column) {
		f.spec.Controllers = append(f.spec.Controllers, c)
	}
}

func (f *foreign) addLink(l topo.Link, line, column int) {
	if len(f.spec.Links) >= topo.MaxLinks {
		f.at(line, column, "the network has more than %d links", topo.MaxLinks)
		return
	}
	f.spec.Links = append(f.spec.Links, l)
	f.places["link"] = append(f.places["link"], [2]int{line, column})
}

func (f *foreign) addCommand(c topo.Command, line, column int) {
	f.spec.Commands = append(f.spec.Commands, c)
	f.places["command"] = append(f.places["command"], [2]int{line, column})
}

// prefix4 reads an IPv4 address, whose network is /8 if it says none, as in Mininet.
func (f *foreign) prefix4(text string, line int) netip.Prefix {
	full := text
	if !strings.Contains(text, "/") {
		full += "/8"
	}
	p, err := netip.ParsePrefix(full)
	if err != nil {
		f.at(line, 0, "%q is not an address and its length; write for example 10.0.0.1/8", text)
	}
	return p
}

func (f *foreign) address(text string, line int) netip.Addr {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		f.at(line, 0, "%q is not an address; write for example 10.0.0.1", text)
	}
	return a
}

// finish returns the network if it is valid.
func (f *foreign) finish() (topo.Spec, error) {
	if len(f.errs) == 0 && len(f.spec.Hosts)+len(f.spec.Switches) == 0 {
		f.at(0, 0, "the file has no nodes")
	}
	if len(f.spec.Controllers) == 0 && !f.uncontrolled {
		f.spec.Controllers = []topo.Controller{{Name: freeName("c", f.nodes), Kind: topo.ControllerBuiltin}}
		f.places[string(controllerKind)] = [][2]int{{}}
	}
	if len(f.errs) == 0 {
		if err := f.spec.Validate(); err != nil {
			for _, e := range flatten(err) {
				f.explain(e)
			}
		}
	}
	if err := f.err(); err != nil {
		return topo.Spec{}, err
	}
	return f.spec, nil
}

// explain says where an error of topo is.
func (f *foreign) explain(err error) {
	var at [2]int
	var fault *topo.Fault
	if errors.As(err, &fault) && fault.Index < len(f.places[fault.Kind]) {
		at = f.places[fault.Kind][fault.Index]
	}
	for line := range strings.Lines(err.Error()) {
		f.at(at[0], at[1], "%s", strings.TrimSpace(line))
	}
}

// legalName makes a node's name of a label: without spaces and slashes, which no name has, and
// unlike those that are taken.
func (f *foreign) legalName(label, fallback string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '/' || r == '\t' || r == '\n':
			return '-'
		case r < ' ' || strings.ContainsRune("()[]{}'\"`$&;|<>\\*?!,", r):
			return -1
		}
		return r
	}, strings.TrimSpace(label))
	name = strings.Trim(name, "-.")
	if name == "" {
		name = fallback
	}
	unique := name
	for i := 2; ; i++ {
		if _, taken := f.nodes[unique]; !taken {
			return unique
		}
		unique = fmt.Sprintf("%s-%d", name, i)
	}
}
