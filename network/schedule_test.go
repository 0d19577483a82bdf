package network

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weft/topo"
)

func schedulePlan(t testing.TB) *topo.Plan {
	t.Helper()
	spec, err := topo.Generate("linear,3")
	if err != nil {
		t.Fatal(err)
	}
	p, err := spec.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s Step) String() string {
	text := fmt.Sprintf("%d %v", s.Line, s.At)
	if s.Link != "" {
		text += " " + s.Link
	}
	for what, v := range map[string]*bool{"up": s.Change.Up, "cut": s.Change.Cut} {
		if v != nil {
			text += fmt.Sprintf(" %s=%v", what, *v)
		}
	}
	if s.Change.Options != nil {
		text += fmt.Sprintf(" %q", s.Change.Options)
	}
	if s.Partition != nil {
		text += " " + topo.FormatGroups(s.Partition)
	}
	if s.Heal {
		text += " heal"
	}
	return text
}

func TestParseSchedule(t *testing.T) {
	plan := schedulePlan(t)
	for _, c := range []struct{ name, text, want string }{
		{"blanks", `# what happens
0     s1-s2  delay=10ms bw=10   # slow
2.5   s1->s2 cut
5s    s1-s2  mend

1m    h1-s1  down
`, `2 0s s1-s2 ["delay=10ms" "bw=10"]
3 2.5s s1->s2 cut=true
4 5s s1-s2 cut=false
6 1m0s h1-s1 up=false`},
		{"CSV, in the order of time", `Time,Link,Action
10,h1-s1,up
1,s2→s1,down
2,s1-s2,"drop_if=udp port 53",loss=1
3,-,partition,{h1,h2}|rest
4,heal
5,partition {s1}|{s2}
`, `3 1s s2→s1 cut=true
4 2s s1-s2 ["drop_if=udp port 53" "loss=1"]
5 3s {h1,h2}|{rest}
6 4s heal
7 5s {s1}|{s2}
2 10s h1-s1 up=true`},
		{"all that is wrong", `x s1-s2 down
1 s1-s9 down
1 s1-s2 sideways
1 s1-s2
1 s1-s2 down now
1 - explode
-1 s1-s2 down
1 s1-s2 'delay=5ms
1 - partition {h1}
`, `line 1: "x" is not a time since the start; write 2.5 (seconds), 500ms or 1m30s
line 2: there is no link "s1-s9"; did you mean s1-s2?
line 3: there is no action "sideways"; write up, down, cut, mend, or options such as delay=50ms
line 4: write TIME LINK ACTION, for example 5s s1-s2 delay=50ms, or 5s - heal
line 5: "now" is too much after down
line 6: "explode" is nothing that happens to no link; write partition {h1,h2}|{h3}, or heal
line 7: "-1" is not a time since the start; write 2.5 (seconds), 500ms or 1m30s
line 8: there is no closing '
line 9: a partition has at least two groups; write {h1,h2}|{h3}, or {h1}|rest`},
		{"wrong when it is done", `3 s1-s2 jitter=1ms
1 s1-s2 loss=200
2 s1->s2 ba:loss=1
4 - partition {h1}|{h9}
5 s1-s2 record=x.csv
`, `line 2: loss: "200" is not a percentage from 0 to 100
line 3: the arrow and ba say different directions; write one of them
line 4: there is no host or switch "h9"
line 5: write the whole path of the file x.csv`},
		{"empty", "# nothing\n", "the schedule is empty; write lines TIME LINK ACTION, for example 5s s1-s2 delay=50ms"},
	} {
		steps, err := ParseSchedule(c.text, plan)
		var lines []string
		for _, s := range steps {
			lines = append(lines, s.String())
		}
		got := strings.Join(lines, "\n")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// Whatever is written, it is a schedule in the order of time, or there is a reason.
func FuzzSchedule(f *testing.F) {
	plan := schedulePlan(f)
	for _, s := range []string{"0 s1-s2 delay=10ms\n1 heal", "time,link\n1e3,s1->s2,cut", "1 - partition {h1}|rest # x", "'", "1 s1-s2 'a=b c'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := ParseSchedule(text, plan)
		if (err == nil) != (len(steps) > 0) {
			t.Fatalf("%d steps, %v", len(steps), err)
		}
		at := time.Duration(0)
		for _, s := range steps {
			if s.At < at || s.At > latest {
				t.Errorf("line %d at %v after %v", s.Line, s.At, at)
			}
			at = s.At
		}
	})
}

func TestFlapCheck(t *testing.T) {
	seed := uint64(1)
	for _, c := range []struct {
		flap Flap
		want string
	}{
		{Flap{Links: []string{"s1-s2"}, Period: time.Second, Down: 100 * time.Millisecond}, ""},
		{Flap{Links: []string{"s1-s2"}, MTBF: time.Second, MTTR: time.Second, Seed: &seed}, ""},
		{Flap{Period: time.Second, Down: 100 * time.Millisecond}, "which links"},
		{Flap{Links: []string{"s1-s2"}}, "write period and down, or mtbf and mttr"},
		{Flap{Links: []string{"s1-s2"}, Period: time.Second, Down: time.Second, MTBF: time.Second, MTTR: time.Second}, "write period and down, or"},
		{Flap{Links: []string{"s1-s2"}, Period: time.Second, Down: time.Second}, "at least 10ms"},
		{Flap{Links: []string{"s1-s2"}, Period: time.Second}, "at least 10ms"},
		{Flap{Links: []string{"s1-s2"}, MTBF: time.Second}, "mtbf and mttr are at least"},
		{Flap{Links: []string{"s1-s2"}, Period: time.Second, Down: 100 * time.Millisecond, Seed: &seed}, "a seed is for"},
		{Flap{Links: []string{"s1-s2"}, Period: time.Second, Down: 100 * time.Millisecond, Count: -1}, "-1 is not"},
	} {
		err := c.flap.check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.flap, err)
		}
	}
}

// The same seed fails the same links at the same times, and different links at different ones.
func TestRandomOf(t *testing.T) {
	plan := schedulePlan(t)
	seed := uint64(7)
	draw := func(l topo.PlannedLink) float64 {
		return randomOf(&seed, topo.LinkView{PlannedLink: l}).ExpFloat64()
	}
	if draw(plan.Links[0]) != draw(plan.Links[0]) || draw(plan.Links[0]) == draw(plan.Links[1]) {
		t.Error("chance does not follow from the seed and the link")
	}
}
