package main

import (
	"os"
	"strings"
	"testing"

	"weft/script"
)

func TestMain(m *testing.M) {
	script.Main()
	beNF()
	os.Exit(m.Run())
}

// What a script describes is what up builds; --help says what it takes.
func TestUpScript(t *testing.T) {
	const file = "testdata/star.star"
	o := weft(t, "weft", "up", "--dry-run", file, "name=core1", "arms=2")
	if o.status != 0 || o.err != "" || !strings.Contains(o.out, `"name": "core1"`) || strings.Count(o.out, `"node": "h`) != 2 {
		t.Errorf("%+v", o)
	}
	for _, words := range [][]string{{"up", file, "--help"}, {"up", "-h", file}} {
		o := weft(t, append([]string{"weft"}, words...)...)
		if o.status != 0 || o.err != "" {
			t.Errorf("%v: %+v", words, o)
		}
		golden(t, "testdata/help-star.txt", o.out)
	}
	for line, want := range map[string]string{
		"":                     "weft: testdata/star.star:7:13: the parameter name is missing; write name=STRING\n",
		"name=x arm=3":         "weft: testdata/star.star: there is no parameter \"arm\"; did you mean arms? (there are: arms, kind, name)\n",
		"name=x arms=x":        "weft: testdata/star.star:5:13: the parameter arms is \"x\", which is not a whole number\n",
		"name=x arms=1 arms=2": "weft: the parameter arms is given twice; write it once\n",
		"name=h1":              "weft: testdata/star.star:13:33: addHost: there is a switch h1 already (testdata/star.star:9:21); choose another name\n",
		"name=x kind=lxbr":     "weft: testdata/star.star:6:13: the parameter kind is lxbr; write one of ovs, ovsbr\n",
		"name":                 "weft: unexpected argument \"name\"; parameters of testdata/star.star are NAME=VALUE\n",
		"name=x --mac":         "weft: --mac: the file says this; leave the option out\n",
	} {
		o := weft(t, append([]string{"weft", "up", file}, strings.Fields(line)...)...)
		if o.status != 2 || o.out != "" || o.err != want {
			t.Errorf("%s: %+v\nwant %s", line, o, want)
		}
	}
}
