package experiment

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weft/topo"
	"weft/topo/netfile"
)

var update = flag.Bool("update", false, "rewrite golden files")

// load makes networks as the command does, without files.
func load(t Topology) (topo.Spec, error) {
	if t.Text != "" {
		return topo.Options{Topo: t.Text}.Spec()
	}
	return netfile.ReadNode(context.Background(), t.File, t.Node, netfile.Params{})
}

// TestBroken holds the exact messages for files that are wrong: in testdata/broken.txt a line
// "== name", the file, a line "--" and the messages.
func TestBroken(t *testing.T) {
	golden := filepath.Join("testdata", "broken.txt")
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	count := 0
	for _, part := range strings.Split(string(text), "== ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		file, want, _ := strings.Cut(rest, "--\n")
		count++
		_, err := Parse("x.yaml", []byte(unescape(file)), load)
		got := "no error\n"
		if err != nil {
			got = err.Error() + "\n"
		} else {
			t.Errorf("%s: no error", name)
		}
		if got != want && !*update {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		out.WriteString("== " + name + "\n" + file + "--\n" + got)
	}
	if count < 25 {
		t.Errorf("only %d broken files", count)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// unescape makes tabs, which no editor shows.
func unescape(s string) string { return strings.ReplaceAll(s, "<TAB>", "\t") }

const whole = `
name: a whole experiment
doc: All that there is.
topology: linear,3
parameters:
  delay: 5ms
  n: {default: 3, doc: how many}
sweep: {delay: [1ms, 10ms]}
trials: 2
seed: 7
timeout: 1m
connect: no
steps:
  - connected
  - ping: {from: h1, to: h3, count: "${n}"}
    expect: {rtt: ["above ${delay}", below 1s], loss: 0}
    points: 2.5
    required: true
    name: "takes ${delay}"
  - exec: h1 echo ${HOME} ${delay}
    may_fail: yes
    timeout: 5s
  - parallel:
    - iperf: h1 -> h2
    - steps:
      - at: 1s
        down: s1-s2 s2
      - up: [s1-s2, s2]
  - repeat: {times: 2, every: 1s, steps: [{reach: h1 h2 -> h3}]}
  - link: {of: s1-s2, delay: "${delay}", "ab:loss": 1}
  - start: {as: web, on: h3, command: serve, ready: {tcp: 80, output: ready}}
  - stop: web
  - flows: {switch: s1, match: ip, priority: 1}
    expect: {count: 0}
    within: 2s
`

func TestParse(t *testing.T) {
	e, err := Parse("dir/whole.yaml", []byte(whole), load)
	if err != nil {
		t.Fatal(err)
	}
	if e.Name != "a whole experiment" || e.Trials != 2 || *e.Seed != 7 || e.Timeout != time.Minute || len(e.Parameters) != 2 || e.Parameters[1].Doc != "how many" {
		t.Errorf("%+v", e)
	}
	if trials, each := e.Extent(); trials != 4 || each < 7*time.Second || each > 12*time.Second {
		t.Errorf("%d trials of %v", trials, each)
	}
	in, err := e.Prepare(Points(e.Parameters, e.Sweep)[1])
	if err != nil {
		t.Fatal(err)
	}
	if in.Connect >= 0 || len(in.Steps) != 9 {
		t.Fatalf("%+v", in)
	}
	ping := in.Steps[1]
	if a := ping.Action.(*Ping); a.From != "h1" || a.To != "h3" || a.Count != 3 || *ping.Points != 2.5 || !ping.Required {
		t.Errorf("%+v %+v", ping, a)
	}
	if ping.Title() != "takes 10ms" || ping.Position != "dir/whole.yaml:15:5" || len(ping.Expect) != 2 {
		t.Errorf("%q at %s, %+v", ping.Title(), ping.Position, ping.Expect)
	}
	if c := in.Steps[2].Action.(*Exec).Command; c != "echo ${HOME} 10ms" {
		t.Errorf("command %q: variables of the shell must stay, parameters not", c)
	}
	inner := in.Steps[3].Action.(*Parallel).Steps[1].Action.(*Sequence).Steps
	if *inner[0].At != time.Second || len(inner[0].Action.(*Down).Targets) != 2 || len(inner[1].Action.(*Up).Targets) != 2 {
		t.Errorf("%+v", inner)
	}
	if o := in.Steps[5].Action.(*LinkOptions).Options; strings.Join(o, " ") != "ab:loss=1 delay=10ms" {
		t.Errorf("options %q", o)
	}
	if r := in.Steps[6].Action.(*Start).Ready; r.TCP != 80 || r.Output != "ready" {
		t.Errorf("%+v", r)
	}
	if f := in.Steps[8].Action.(*Flows); *f.Priority != 1 || f.Table != nil || in.Steps[8].Within != 2*time.Second {
		t.Errorf("%+v", f)
	}
}

func TestOverride(t *testing.T) {
	e, err := Parse("x.yaml", []byte(whole), load)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(9)
	if err := e.Override([]string{"delay=3ms"}, []string{"n=1,2"}, 5, &seed, time.Second); err != nil {
		t.Fatal(err)
	}
	points := Points(e.Parameters, e.Sweep)
	if len(points) != 2 || points[1]["n"] != "2" || points[1]["delay"] != "3ms" || e.Trials != 5 || *e.Seed != 9 || e.Timeout != time.Second {
		t.Errorf("%v %+v", points, e)
	}
	err = e.Override([]string{"dealy=1", "x"}, []string{"n", "m=1"}, 0, nil, 0)
	want := `there is no parameter "dealy" (there are: delay, n)
"x" is not KEY=VALUE
--sweep: "n" is not KEY=VALUE,VALUE,...; write for example delay=1ms,10ms
there is no parameter "m" (there are: delay, n)`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := e.Override(nil, []string{"n=" + strings.Repeat("1,", 5000) + "1"}, 10, nil, 0); err == nil {
		t.Error("50,000 trials were accepted")
	}
}

// The table of kinds must be whole: fields that all steps have cannot be an action's too.
func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if seen[k.Name] || k.Doc == "" || (k.Short == nil) != (k.Usage == "") {
			t.Errorf("kind %q is not right", k.Name)
		}
		seen[k.Name] = true
		if KindOf(k.New()).Name != k.Name {
			t.Errorf("%s: another kind has its type", k.Name)
		}
		for _, f := range k.Fields() {
			for _, s := range stepKeys() {
				if f.Name == s.Name {
					t.Errorf("%s has the field %s, which all steps have", k.Name, f.Name)
				}
			}
			if f.Doc == "" || f.Type == "" {
				t.Errorf("%s.%s is not documented", k.Name, f.Name)
			}
		}
		k.New().Estimate()
		_ = k.New().String()
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	if text, err := os.ReadFile(filepath.Join("testdata", "broken.txt")); err == nil {
		for _, part := range strings.Split(string(text), "== ")[1:] {
			_, rest, _ := strings.Cut(part, "\n")
			file, _, _ := strings.Cut(rest, "--\n")
			f.Add([]byte(unescape(file)))
		}
	}
	small := func(t Topology) (topo.Spec, error) { return topo.Options{Topo: "linear,3"}.Spec() }
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<14 {
			return
		}
		e, err := Parse("x.yaml", text, small)
		if (e == nil) == (err == nil) {
			t.Fatalf("experiment %v, error %v", e, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "x.yaml") {
			t.Errorf("an error that does not say where: %v", err)
		}
	})
}
