package topo

import (
	"slices"
	"strings"
	"testing"
)

// Arguments are taken as a shell takes them, and written so that they are read again.
func TestParseNF(t *testing.T) {
	for text, want := range map[string][]string{
		"bridge":                                 nil,
		"firewall@2 --rules web.rules":           {"--rules", "web.rules"},
		"firewall --rule 'allow tcp dport 80'":   {"--rule", "allow tcp dport 80"},
		`firewall --rule "allow tcp" a\ b ''`:    {"--rule", "allow tcp", "a b", ""},
		"limiter@1 -- --rate 1G":                 {"--rate", "1G"},
		`scan --pattern "it's" --pattern '"'`:    {"--pattern", "it's", "--pattern", `"`},
		"scan --pattern '#no comment' '$HOME *'": {"--pattern", "#no comment", "$HOME *"},
	} {
		n, err := ParseNF(text)
		if err != nil || !slices.Equal(n.Args, want) {
			t.Errorf("%s: %q, %v; want %q", text, n.Args, err, want)
		}
		if again, err := ParseNF(n.String()); err != nil || !slices.Equal(again.Args, want) || !n.Brief() {
			t.Errorf("%s: written %s, read again %q, %v", text, n, again.Args, err)
		}
	}
	for _, text := range []string{"", " ", "firewall 'a", `firewall "a`, "firewall a\\", "a → b", "bridge@0", "bridge@x", "a/b"} {
		if n, err := ParseNF(text); err == nil {
			t.Errorf("%q is no NF, but %+v was made of it", text, n)
		}
	}
}

// NFs that hold what instances cannot share have one.
func TestAlone(t *testing.T) {
	node := func(nfs ...NF) string {
		_, errs := planDPDK(&DPDK{NFs: nfs}, true)
		var text []string
		for _, e := range errs {
			text = append(text, e.Error())
		}
		return strings.Join(text, "\n")
	}
	for _, c := range []struct {
		nfs  []NF
		want string // "" for no error
	}{
		{[]NF{{Name: "nat"}, {Name: "encrypt"}, {Name: "decrypt"}}, ""},
		{[]NF{{Name: "nat"}, {Name: "nat"}}, ""}, // services of their own
		{[]NF{{Name: "nat", Instances: 2}}, "nat: service 1 would have 2 instances"},
		{[]NF{{Name: "nat", Service: 3}, {Name: "nat", Service: 3}}, "nat: service 3 would have 2 instances"},
		{[]NF{{Name: "bridge", Service: 3}, {Name: "encrypt", Service: 3}}, "used twice tells the text"},
		{[]NF{{Name: "decrypt", Instances: 3}}, "replays would pass"},
		{[]NF{{Name: "firewall", Instances: 3}}, ""},
		{[]NF{{Name: "nat", Command: "./nat", Instances: 2}}, ""}, // another one of that name
		{[]NF{{Name: "limiter", Instances: 2, Args: []string{"--rate", "1G"}}}, "write --per flow"},
		{[]NF{{Name: "limiter", Instances: 2, Args: []string{"--rate", "1G", "--per", "source"}}}, "write --per flow"},
		{[]NF{{Name: "limiter", Instances: 2, Args: []string{"--rate", "1G", "--per", "flow"}}}, ""},
		{[]NF{{Name: "limiter", Instances: 2, Args: []string{"--per=flow"}}}, ""},
		{[]NF{{Name: "bridg"}}, "did you mean bridge? (one of your own needs command"},
		{[]NF{{Name: "bridge", Dir: "/x"}}, "leave it out"},
	} {
		if got := node(c.nfs...); c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Count(got, "\n") > 0 {
			t.Errorf("%v: %q, want %q", c.nfs, got, c.want)
		}
	}
}

// Paths of files are taken from a directory, wherever they stand among the arguments.
func TestNFUnder(t *testing.T) {
	for _, c := range []struct {
		n    NF
		args string
		dir  string
	}{
		{NF{Name: "firewall", Args: []string{"--idle", "1s", "--rules", "a.rules"}}, "--idle 1s --rules /lab/a.rules", ""},
		{NF{Name: "firewall", Args: []string{"--rules=../a=b"}}, "--rules=/a=b", ""},
		{NF{Name: "firewall", Args: []string{"--rules", "/etc/a"}}, "--rules /etc/a", ""},
		{NF{Name: "firewall", Args: []string{"--rules"}}, "--rules", ""}, // the NF says it
		{NF{Name: "pcap", Args: []string{"--file", "x.pcap"}}, "--file /lab/x.pcap", ""},
		{NF{Name: "pcap", Command: "./mine", Args: []string{"--file", "x"}}, "--file x", "/lab"},
		{NF{Name: "mine", Command: "./mine", Dir: "sub"}, "", "/lab/sub"},
		{NF{Name: "mine", Command: "./mine", Dir: "/opt"}, "", "/opt"},
		{NF{Name: "mine", Command: "/mine", Image: "x"}, "", ""},
	} {
		before := strings.Join(c.n.Args, " ")
		got := c.n.Under("/lab")
		if strings.Join(got.Args, " ") != c.args || got.Dir != c.dir {
			t.Errorf("%v: %v in %s, want %s in %s", c.n, got.Args, got.Dir, c.args, c.dir)
		}
		if err := got.Whole(); err != nil {
			t.Errorf("%v: %v", got, err)
		}
		if strings.Join(c.n.Args, " ") != before {
			t.Errorf("%v: Under changed its argument", c.n)
		}
	}
	if err := (NF{Name: "firewall", Args: []string{"--rules", "a"}}).Whole(); err == nil {
		t.Error("a relative path counts as whole")
	}
}

func TestNFProgram(t *testing.T) {
	for command, want := range map[string]string{"./mine --x": "./mine", "/opt/a b": "/opt/a", "python3 a.py": "", "'./my nf'": "", "$HOME/x": "", "a=1 ./x": "", "./a;b": ""} {
		if got := (NF{Command: command}).Program(); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}
