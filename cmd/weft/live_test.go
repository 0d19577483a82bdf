package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"weft/network"
	"weft/topo"
)

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 14, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"5m": now.Add(-5 * time.Minute), "0": now, "all": {},
		"13:30":                     time.Date(2026, 11, 23, 13, 30, 0, 0, time.Local),
		"15:30":                     time.Date(2026, 11, 22, 15, 30, 0, 0, time.Local),
		"2026-11-20":                time.Date(2026, 11, 20, 0, 0, 0, 0, time.Local),
		"2026-11-20 08:00:01":       time.Date(2026, 11, 20, 8, 0, 1, 0, time.Local),
		"2026-11-20T08:00:01Z":      time.Date(2026, 11, 20, 8, 0, 1, 0, time.UTC),
		"2026-11-20T08:00:01+02:00": time.Date(2026, 11, 20, 6, 0, 1, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-5m", "yesterday", "25:00", "5"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestShortAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 60 * time.Second: "1m", 61 * time.Second: "1m1s",
		3 * time.Hour: "3h", 3*time.Hour + 59*time.Second: "3h", 49*time.Hour + time.Minute: "2d1h",
	} {
		if got := shortAge(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// Lines of several logs stay whole.
func TestPrefixer(t *testing.T) {
	var out bytes.Buffer
	var mu sync.Mutex
	a, b := &prefixer{w: &out, mu: &mu, prefix: "a | "}, &prefixer{w: &out, mu: &mu, prefix: "b | "}
	for _, text := range []string{"on", "e\ntwo\nth", "ree"} {
		a.Write([]byte(text))
		b.Write([]byte(strings.ToUpper(text)))
	}
	a.end()
	b.end()
	if want := "a | one\na | two\nb | ONE\nb | TWO\na | three\nb | THREE\n"; out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// Templates call fields as in Go or as in JSON.
func TestInspectFormats(t *testing.T) {
	host := network.NodeState{Host: &network.HostDetail{PlannedHost: topo.PlannedHost{Name: "h1",
		Interfaces: []topo.Interface{{Name: "h1-eth0", Port: 0}, {Name: "h1-eth1", Port: 1}}}, PID: 17}}
	for format, want := range map[string]string{
		"{{.Name}} {{.PID}}":                       "h1 17\n",
		"{{.name}} {{.pid}}":                       "h1 17\n",
		"{{range .interfaces}}{{.name}} {{end}}":   "h1-eth0 h1-eth1 \n",
		"{{(index .Interfaces 1).Port}}":           "1\n",
		`{{json .pid}}`:                            "17\n",
		`{{join .PrivateDirs ","}}`:                "\n",
		`{{len .interfaces}}{{if .nat}}nat{{end}}`: "",
	} {
		write, err := formatter(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		var out bytes.Buffer
		err = write(&out, host)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "there are: interfaces, name, pid") {
				t.Errorf("%s: %q, %v", format, out.String(), err)
			}
			continue
		}
		if err != nil || out.String() != want {
			t.Errorf("%s: %q, %v", format, out.String(), err)
		}
	}
	for _, format := range []string{"yaml", "{{.name", "{{nosuch .}}"} {
		if _, err := formatter(format); err == nil {
			t.Errorf("the format %q is accepted", format)
		}
	}
	var links bytes.Buffer
	if err := execute(template.Must(template.New("").Parse("{{.ID}}")), &links, []network.LinkState{{ID: 1}, {ID: 2}}); err != nil || links.String() != "1\n2\n" {
		t.Errorf("links: %q, %v", links.String(), err)
	}
}
