package topo

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseGroups(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"{h1,h2}|{h3}", "{h1,h2}|{h3}"},
		{" h1, h2 | { h3 h4 } |rest", "{h1,h2}|{h3,h4}|{rest}"},
		{"h1", "a partition has at least two groups; write {h1,h2}|{h3}, or {h1}|rest"},
		{"", "a group is empty; write {h1,h2}|{h3}"},
		{"{h1}|{}", "a group is empty; write {h1,h2}|{h3}"},
		{"{h1|h2}", `the group "h1" has no closing brace; write {h1,h2}|{h3}`},
		{"h1}|h2", `"h1}" is not a group; write {h1,h2}|{h3}`},
	} {
		groups, err := ParseGroups(c.text)
		got := FormatGroups(groups)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: %s; want %s", c.text, got, c.want)
		}
	}
}

func TestPartition(t *testing.T) {
	spec, err := Generate("linear,3,2") // h1s1 h2s1 h1s2 h2s2 h1s3 h2s3
	if err != nil {
		t.Fatal(err)
	}
	spec.Controllers = []Controller{{Name: "c0", Kind: ControllerBuiltin}}
	p, err := spec.Plan()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ groups, want string }{
		{"h1s1|h1s2", "h1s1=1 h1s2=2"},
		{"{s1}|{s2,h1s1}", "h1s1=2 h1s2=2 h2s1=1 h2s2=2 s1=1 s2=2"},
		{"{h1s1}|rest", "h1s1=1 h1s2=2 h1s3=2 h2s1=2 h2s2=2 h2s3=2"},
		{"{h1s1,h1s1}|{s3,rest}", "h1s1=1 h1s2=2 h1s3=2 h2s1=2 h2s2=2 h2s3=2 s3=2"},
		{"h1s1|h1s1", "h1s1 is in two groups"},
		{"rest|rest", "rest is in two groups"},
		{"h1s1|c0", "c0 is a controller, which has no links"},
		{"h1s1|h9", `there is no host or switch "h9"`},
	} {
		groups, err := ParseGroups(c.groups)
		if err != nil {
			t.Fatal(err)
		}
		in, err := p.Partition(groups)
		var got []string
		for _, h := range p.Hosts {
			if g := in[h.Name]; g != 0 {
				got = append(got, fmt.Sprintf("%s=%d", h.Name, g))
			}
		}
		for _, s := range p.Switches {
			if g := in[s.Name]; g != 0 {
				got = append(got, fmt.Sprintf("%s=%d", s.Name, g))
			}
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s: %s; want %s", c.groups, text, c.want)
		}
	}
}

func FuzzGroups(f *testing.F) {
	fuzzText(f, func(t *testing.T, text string) error {
		groups, err := ParseGroups(text)
		if err != nil {
			return err
		}
		again, err := ParseGroups(FormatGroups(groups))
		if err != nil || FormatGroups(again) != FormatGroups(groups) {
			t.Errorf("%q: %q, then %q, %v", text, groups, again, err)
		}
		return nil
	}, "{h1,h2}|{h3}", "h1|rest", "{|}")
}
