package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// theLab has what a file can ask of running nodes: files, commands at the start and later, and
// names that a shell would take for something else.
const theLab = `name: filelab
switches: s[1-2]
groups:
  web: {nodes: "h[2-3]", files: {/etc/motd: "a web server\n"}}
hosts:
  h[1-3]:
  h4:
    ip: 10.0.0.44/8
    files:
      "/srv/a b;touch stolen;$HOME'` + "`touch x`" + `": "odd\n"
      /usr/local/bin/greet: {content: "#!/bin/sh\necho hello $1\n", mode: 0755}
links:
  - h[1-2] -- s1
  - h[3-4] -- s2
  - s1 -- s2
run:
  - h1: ip addr add 192.0.2.1/32 dev lo; echo "it's $(hostname)"
  - s1: ovs-vsctl set bridge s1 other_config:e2e=yes
  - h4: {at: 200ms, command: greet later && ip addr add 192.0.2.4/32 dev lo}
`

// TestFile builds what a file describes, saves it, and builds that.
func TestFile(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"lab.yaml": theLab})
		has(t, weft(t, u, 0, "validate", filepath.Join(dir, "lab.yaml")), "4 hosts, 2 switches, 5 links")
		r := up(t, u, filepath.Join(dir, "lab.yaml"))
		exec := func(words ...string) string { return r.also(0, "exec", words...) }
		if got := exec("h2", "cat", "/etc/motd"); got != "a web server\n" {
			t.Errorf("a file of a group: %q", got)
		}
		if got := exec("h1", "sh", "-c", "cat /etc/motd 2>/dev/null || true"); strings.Contains(got, "web") {
			t.Errorf("a file of another host: %q", got)
		}
		if got := exec("h4", "ls", "-1", "/srv"); !strings.Contains(got, "a b;touch stolen;$HOME'`touch x`") {
			t.Errorf("a file with an odd name: %q", got)
		}
		if got := exec("h4", "sh", "-c", "cat /srv/a*"); got != "odd\n" {
			t.Errorf("a file with an odd name: %q", got)
		}
		if got := exec("h4", "greet", "$(touch stolen)"); got != "hello $(touch stolen)\n" {
			t.Errorf("a program of one's own: %q", got)
		}
		has(t, exec("h1", "ip", "-br", "addr"), "192.0.2.1/32", "10.0.0.1/8")
		has(t, exec("s1", "ovs-vsctl", "get", "bridge", "s1", "other_config"), "e2e=yes")
		if !until(mostReady, func() bool { return strings.Contains(exec("h4", "ip", "-br", "addr"), "192.0.2.4/32") }) {
			t.Error("a command for later has not run")
		}
		has(t, r.also(0, "logs", "h1"), "it's h1")
		has(t, r.also(0, "logs", "h4"), "hello later")

		save := func(r *run) string {
			c := r.alsoStart("save")
			c.exits(0)
			return c.out()
		}
		saved := save(r)
		r.also(0, "down")
		r.gone()
		again := up(t, u, filepath.Join(place(t, u, map[string]string{"saved.yaml": saved}), "saved.yaml"))
		withoutName := func(text string) string {
			name, rest, _ := strings.Cut(text, "\n")
			if !strings.HasPrefix(name, "name: ") {
				t.Errorf("saved without a name:\n%s", text)
			}
			return rest
		}
		if second := save(again); withoutName(second) != withoutName(saved) {
			t.Errorf("saved\n%s\nbuilt from it, and saved\n%s", saved, second)
		}
		has(t, again.also(0, "exec", "h1", "ping", "-c1", "-W5", "10.0.0.44"), "1 received")
		// It has lived on and changed: what is saved is what there is now.
		again.link(0, "set", "s1-s2", "delay=5ms")
		again.also(0, "exec", "h1", "true")
		has(t, save(again), "s1 -- s2: {delay: 5ms}")
		// No name was taken for a command.
		for _, d := range []string{dir, r.dir, again.dir} {
			filepath.WalkDir(d, func(path string, _ os.DirEntry, _ error) error {
				if name := filepath.Base(path); name == "stolen" || name == "x" {
					t.Errorf("a name was taken for a command: there is %s", path)
				}
				return nil
			})
		}
	})
}

// myTopology is a file of Mininet's way.
const myTopology = `from mininet.topo import Topo
from mininet.link import TCLink

class MyTopo(Topo):
    def build(self, n=2):
        s = [self.addSwitch('s%d' % (i + 1)) for i in range(2)]
        self.addLink(s[0], s[1])
        for i in range(n):
            self.addLink(self.addHost('h%d' % (i + 1)), s[i % 2])

topos = {'mytopo': MyTopo, 'three': (lambda: MyTopo(3))}
`

// TestCustom builds a network of a Mininet user's own file, in both dialects.
func TestCustom(t *testing.T) {
	need(t, "python3")
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"my topo.py": myTopology, "clos.star": "topo.leafspine(leaves=2, spines=2, hosts=1)\n"})
		mine := filepath.Join(dir, "my topo.py")
		has(t, weft(t, u, 0, "--custom", mine, "--topo", "mytopo,3", "--test", "pingall"), "6 of 6 received")
		has(t, weft(t, u, 0, "--custom", filepath.Join(dir, "clos.star"), "--test", "pingall"), "2 of 2 received")
		has(t, weft(t, u, 0, "mn", "--custom", mine, "--topo", "three", "--mac", "--test", "pingall"),
			"(h1, s1) (h2, s2) (h3, s1) (s1, s2) ", "*** Results: 0% dropped (6/6 received)")
		has(t, weft(t, u, 2, "--custom", mine, "--topo", "nosuch", "--test", "none"), "nosuch", "mytopo")
		r := up(t, u, mine, "--topo", "mytopo,n=4")
		has(t, r.also(0, "exec", "h4", "ip", "-br", "addr"), "10.0.0.4/8")
	})
}

// jsonText is text as JSON writes it.
func jsonText(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOddNames holds that a name is never a part of a command or a path.
func TestOddNames(t *testing.T) {
	u := ordinary()
	const odd = "h1 ;touch stolen"
	for name, text := range map[string]string{
		"a.json":     `{"hosts": [{"name": "` + odd + `"}]}`,
		"c.yaml":     "hosts: [../../h1]\n",
		"d.yaml":     "hosts: [\"-h1\"]\n",
		"e.yaml":     "name: \"../x\"\nhosts: [h1]\n",
		"g.star":     "host('" + odd + "')\n",
		"h.yaml":     "hosts: {h1: {files: {\"../etc/passwd\": x}}}\n",
		"i.yaml":     "hosts: {h1: {files: {\"/etc/../../x\": x}}}\n",
		"k.clab.yml": "name: x\ntopology:\n  nodes:\n    \"" + odd + "\": {kind: linux}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := place(t, u, map[string]string{name: text})
			r := start(t, launch{user: u, args: []string{"up", filepath.Join(dir, name)}})
			r.exits(2)
			has(t, r.err(), filepath.Base(name)+":", "write ")
		})
	}
	// Others are names as any: none of these is a command of a shell's, or what ends one.
	names := []string{"s;touch`touch", "$(touch)", "q\"q'}", "é€&|<>*?!#"}
	var dir string
	for _, kind := range []string{"user", "lxbr"} {
		text := strings.NewReplacer("SW", jsonText(t, names[0]), "H1", jsonText(t, names[1]), "H2", jsonText(t, names[2]), "H3", jsonText(t, names[3])).Replace(
			`{"switches": [{"name": SW}], "hosts": [{"name": H1}, {"name": H2}, {"name": H3}], "controllers": [{"name": "c0", "kind": "builtin"}],
			"links": [{"a": {"node": H1}, "b": {"node": SW}}, {"a": {"node": H2}, "b": {"node": SW}}, {"a": {"node": H3}, "b": {"node": SW}}]}`)
		if kind == "lxbr" {
			text = strings.Replace(text, `"switches": [{`, `"switches": [{"driver": "lxbr", `, 1)
		}
		dir = place(t, u, map[string]string{"odd.json": text})
		r := up(t, u, filepath.Join(dir, "odd.json"))
		p := start(t, launch{user: u, prompt: true, args: []string{"attach"}, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
		has(t, p.ask("pingall"), "6 of 6 received")
		if kind == "user" {
			has(t, p.ask("flows"), "dl_dst=")
			has(t, p.ask("trace %s in_port=1", names[0]), "bridge(")
			has(t, p.ask("dpctl dump-ports"), "port")
			has(t, p.ask("py net.switches[0].dpctl('dump-ports', 'x')"), "port")
		}
		p.ask("py net.hosts[1].setIP('10.0.0.77/8')")
		p.ask("py net.hosts[1].setDefaultRoute()")
		p.ask("link set 3 delay=2ms")
		p.ask("switch '%s' stop", names[0])
		p.ask("switch '%s' start", names[0])
		for _, command := range []string{"links", "net", "dump", "status", "link verify", "link faults", "openflow stop", "capture all x.pcapng", "capture stop"} {
			p.ask("%s", command)
		}
		if got := r.also(0, "exec", "lab", names[1], "--", "ip", "-br", "addr"); !strings.Contains(got, "10.0.0.1/8") {
			t.Errorf("a host with an odd name says %q", got)
		}
		for _, args := range [][]string{{"inspect", "lab", names[1]}, {"graph"}, {"save"}, {"logs"}, {"events", "--no-follow", "--since", "all"}} {
			r.also(0, args[0], args[1:]...)
		}
		p.in.Close()
		p.wait()
		if strings.Contains(p.err()+p.out(), "missing file operand") {
			t.Errorf("a name was taken for a command:\n%s", p.transcript())
		}
		r.also(0, "down")
	}
	// Formats whose names are free get others that are safe, and what is built is theirs.
	dir = place(t, u, map[string]string{"zoo.graphml": `<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key attr.name="label" attr.type="string" for="node" id="d0"/><graph edgedefault="undirected">
<node id="0"><data key="d0">S&#227;o Paulo;touch stolen</data></node><node id="1"><data key="d0">$(touch stolen)</data></node>
<edge source="0" target="1"/></graph></graphml>`})
	r := up(t, u, filepath.Join(dir, "zoo.graphml"))
	out := start(t, launch{user: u, wrap: []string{"sh", "-c", `echo pingall | "$@"`, "sh"}, args: []string{"attach"}, env: []string{"XDG_RUNTIME_DIR=" + r.runtimeDir()}})
	out.exits(0)
	has(t, out.out(), "2 of 2 received")
	// What is given to a program arrives as it is.
	single := up(t, u, "--topo", "single,2")
	for _, word := range []string{"$(touch stolen)", "`touch stolen`; touch stolen", "a  b\n'c'\"d\"\\", "*", ""} {
		if got := single.also(0, "exec", "h1", "--", "printf", "[%s]", word); got != "["+word+"]" {
			t.Errorf("of %q came %q", word, got)
		}
	}
	for _, d := range []string{dir, r.dir, out.dir, single.dir} {
		if _, err := os.Lstat(filepath.Join(d, "stolen")); err == nil {
			t.Errorf("a name was taken for a command in %s", d)
		}
	}
}
