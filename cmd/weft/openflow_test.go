package main

import (
	"bytes"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// conversationFile is a recorded conversation of two switches and the built-in controller.
const conversationFile = "../../conversation/testdata/builtin-1.3.pcapng.zst"

func TestOpenflow(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	empty := filepath.Join(t.TempDir(), "empty.pcap")
	if err := os.WriteFile(empty, []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		args     []string
		status   int
		lines    int
		out, err string // parts
	}{
		{"all", nil, 0, 32, "c0 → s1 OF1.3 HELLO xid=0 versions=1.0, 1.3\n", ""},
		{"filters", []string{"--switch", "s2", "--type", "PACKET_IN,PACKET_OUT", "--match", "in_port=2"}, 0, 2, "s2 → c0 OF1.3 PACKET_IN xid=0 in_port=2 reason=no_match 10.0.0.1 → 10.0.0.2 ARP who has 10.0.0.2\n", ""},
		{"count", []string{"-c", "3"}, 0, 3, "", ""},
		{"JSON", []string{"--json", "-c", "1"}, 0, 1, `"openflow":{"version":"1.3","message":"HELLO"`, ""},
		{"nothing matches", []string{"--match", "in_port=77"}, 0, 0, "", ""},
		{"no such field", []string{"--match", "in_prot=1"}, 0, 0, "", "Note: no message has a field in_prot\n"},
		{"statistics", []string{"--stats"}, 0, -1, "32 messages, 1866 bytes", ""},
		{"no such type", []string{"--type", "PACKET_IM"}, 2, 0, "", "did you mean PACKET_IN?"},
		{"no such port", []string{"--port", "70000"}, 2, 0, "", "there is no port 70000"},
		{"empty value", []string{"--switch", ""}, 2, 0, "", "--switch"},
		{"no form", []string{"--plot", "x.pdf", "--sequence", "y.png"}, 2, 0, "", "--sequence y.png: the name must end in .svg or .mmd"},
		{"nothing to plot", []string{"--type", "HELLO", "--plot", filepath.Join(t.TempDir(), "x.svg")}, 1, 0, "", "no PACKET_IN was answered"},
		{"two files", []string{"x"}, 2, 0, "", `unexpected argument "x"`},
		{"no conversation", []string{"FILE", empty}, 1, 0, "", "no OpenFlow in it: 0 packets"},
		{"no capture", []string{"FILE", "openflow_test.go"}, 1, 0, "", "not a capture file"},
		{"no such file", []string{"FILE", "./nosuch"}, 1, 0, "", "no such file"},
		{"no such network", []string{"FILE", "nosuch"}, 1, 0, "", "there is no file nosuch, and no network of yours"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"weft", "openflow", conversationFile}, tt.args...)
			if len(tt.args) > 0 && tt.args[0] == "FILE" {
				args = append(args[:2], tt.args[1])
			}
			got := weft(t, args...)
			if got.status != tt.status || tt.lines >= 0 && strings.Count(got.out, "\n") != tt.lines ||
				!strings.Contains(got.out, tt.out) || !strings.Contains(got.err, tt.err) || tt.err == "" && got.err != "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestOpenflowDrawings(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, args := range [][]string{{"--plot", path("a.svg"), "--sequence", path("b.mmd")}, {"--plot", path("a.png"), "--sequence", path("b.svg")}} {
		if got := weft(t, append([]string{"weft", "openflow", conversationFile}, args...)...); got != (outcome{}) {
			t.Errorf("%v: %+v", args, got)
		}
	}
	for name, start := range map[string]string{"a.svg": "<svg ", "b.svg": "<svg ", "b.mmd": "sequenceDiagram\n"} {
		b, err := os.ReadFile(path(name))
		if err != nil || !strings.HasPrefix(string(b), start) {
			t.Errorf("%s: %.20q, %v", name, b, err)
		}
	}
	b, err := os.ReadFile(path("a.png"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(b)); err != nil {
		t.Error(err)
	}
}

func TestOpenflowStatisticsJSON(t *testing.T) {
	got := weft(t, "weft", "openflow", conversationFile, "--stats", "--json")
	var s struct {
		Messages  int
		FlowSetup struct {
			PacketIns, Unanswered int
			First                 struct{ Count, P50, P99 float64 }
		}
	}
	if err := json.Unmarshal([]byte(got.out), &s); err != nil || s.Messages != 32 || s.FlowSetup.PacketIns != 3 || s.FlowSetup.First.P50 <= 0 {
		t.Errorf("%+v, %v: %s", s, err, got.out)
	}
}
