package openflow

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"weft/control"
)

// messageOf returns a message of the hexadecimal digits in parts; its length is filled in.
func messageOf(t testing.TB, parts ...string) control.Message {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(parts, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	return b
}

// echo is an ICMP echo request from 10.0.0.1 to 10.0.0.2.
const echo = "000000000002 000000000001 0800" +
	"45000054000040004001 0000 0a000001 0a000002" + "0800 0000 0001 0001 0000000000000000"

func TestLine(t *testing.T) {
	d := NewDecoder()
	at := time.Date(2026, 1, 2, 12, 0, 0, 123456789, time.UTC)
	for _, tt := range []struct {
		name string
		m    control.Message
		want string
	}{
		{"packet in", messageOf(t, "040a0000 00000007 ffffffff 0032 00 00 0000000000000000 0001000c 80000004 00000001 00000000 0000", echo),
			"PACKET_IN xid=7 in_port=1 reason=no_match 10.0.0.1 → 10.0.0.2 ICMP echo request"},
		{"packet in, cut and buffered", messageOf(t, "010a0000 00000007 00000102 0062 0001 01 00", echo),
			"PACKET_IN xid=7 in_port=1 buffer_id=258 total_len=98 reason=action 10.0.0.1 → 10.0.0.2 ICMP echo request"},
		{"packet out", messageOf(t, "010d0000 00000008 ffffffff fff8 0010 0000000800020000 0000 0008 fffb ffff", echo),
			"PACKET_OUT xid=8 in_port=in_port actions=[output:2 output:flood] 10.0.0.1 → 10.0.0.2 ICMP echo request"},
		{"flow mod 1.0", messageOf(t, "010e0000 00000009 0038184e", "0001", "000000000000 000000000000 0000 00 00 0800 00 06 0000 0a000000 00000000 0000 0050",
			"00000000000000ab 0000 003c 0000 8000 ffffffff ffff 0001"),
			"FLOW_MOD xid=9 add in_port=1,eth_type=0x0800,ip_proto=6,ipv4_src=10.0.0.0/8,tcp_dst=80 cookie=0xab idle_timeout=60 priority=32768 flags=send_flow_rem actions=drop"},
		{"flow mod 1.3", messageOf(t, "040e0000 0000000a 0000000000000000 0000000000000000 00 00 0000 0000 000a ffffffff ffffffff ffffffff 0000 0000",
			"0001 001b 80000a020800 80001908 0a000000ff000000 80000601 02", "0000000000", "0004 0018 00000000 0000 0010 00000002 ffff 000000000000", "0001 0008 05 000000"),
			"FLOW_MOD xid=10 add priority=10 eth_type=0x0800,ipv4_dst=10.0.0.0/8,eth_dst=02 actions=[output:2] goto_table:5"},
		{"flow mod 1.1", messageOf(t, "020e0000 0000000a 0000000000000000 0000000000000000 00 00 0000 0000 000a ffffffff ffffffff ffffffff 0000 0000",
			"0000 0058 00000001 00000356 000000000000 ffffffffffff 000000000001 000000000000 0000 00 00 0800 00 06",
			"00000000 ffffffff 0a000000 00ffffff 0000 0050 00000000 00 000000 0000000000000005 ffffffffffffff00",
			"0003 0010 00000000 0017 0008 07 000000"),
			"FLOW_MOD xid=10 add priority=10 in_port=1,eth_dst=00:00:00:00:00:01,eth_type=0x0800,ip_proto=6,ipv4_dst=10.0.0.0/8,tcp_dst=80,metadata=0x5/0xff write_actions:[set_nw_ttl:7]"},
		{"error", messageOf(t, "04010000 0000000b 0004 0006 040e0050 0000000b"),
			"ERROR xid=11 error=BAD_MATCH/BAD_FIELD {OF1.3 FLOW_MOD xid=11}"},
		{"hello failed", messageOf(t, "01010000 00000001 0000 0000", hex.EncodeToString([]byte("only 1.3 here"))),
			`ERROR xid=1 error=HELLO_FAILED/INCOMPATIBLE text="only 1.3 here"`},
		{"hello", messageOf(t, "04000000 00000001 0001 0008 00000012"), "HELLO xid=1 versions=1.0, 1.3"},
		{"hello of a time to come", messageOf(t, "09000000 00000001 0001 0008 00000212"), ""},
		{"nicira", messageOf(t, "01040000 00000002 00002320 00000010 00000002"), "VENDOR nx_set_packet_in_format xid=2 format=nxt_packet_in2"},
		{"unknown experimenter", messageOf(t, "04040000 00000002 00123456 00000007 aabb"), "EXPERIMENTER xid=2 experimenter=0x00123456 exp_type=7 data=aabb"},
		{"unknown type", messageOf(t, "04630000 00000002 01020304"), "type 99 xid=2 body=01020304 length=12"},
		{"unknown multipart", messageOf(t, "04130000 00000002 0063 0000 00000000 0102"), "MULTIPART_REPLY xid=2 multipart_type=99 body=0102"},
		{"short", messageOf(t, "04060000 00000002 0000000000000001 0000"),
			"FEATURES_REPLY xid=2 datapath_id=0000000000000001 unread=0000 (malformed: n_buffers needs 4 bytes where 2 are left)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := control.TapMessage{Time: at, Switch: "s1", Controller: "c0", FromSwitch: true, Data: tt.m}
			got := Line(m, d.Decode(tt.m))
			want := "12:00:00.123456 s1 → c0 OF" + tt.m.Version().String() + " " + tt.want
			if tt.want != "" && got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	d := NewDecoder().Decode(messageOf(t, "010d0000 00000008 ffffffff fff8 0010 0000000800020000 0000 0008 fffb ffff", echo))
	got, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":"1.0","message":"PACKET_OUT","xid":8,"length":82,"fields":{"buffer_id":"none","in_port":"in_port",` +
		`"actions":[{"type":"output","port":2,"max_len":0},{"type":"output","port":"flood","max_len":"no_buffer"}],` +
		`"packet":{"summary":"10.0.0.1 → 10.0.0.2 ICMP echo request","length":50,` +
		`"headers":{"eth_src":"00:00:00:00:00:01","eth_dst":"00:00:00:00:00:02","eth_type":"0x0800","ipv4_src":"10.0.0.1","ipv4_dst":"10.0.0.2",` +
		`"ip_proto":1,"icmpv4_type":8,"icmpv4_code":0},"data":"` + strings.ReplaceAll(echo, " ", "") + `"}}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestJSONOfRepeatedFields(t *testing.T) {
	got, err := json.Marshal(Fields{{Name: "a", Value: Number{N: 1}}, {Name: "a", Value: Text("b")}})
	if want := `{"a":1,"a_2":"b"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// Whatever a message is nested in, decoding ends.
func TestNesting(t *testing.T) {
	d := NewDecoder()
	m := messageOf(t, "05140000 00000001")
	for range 200 { // bundles of bundles
		m = messageOf(t, "05220000 00000001 00000001 0000 0000", hex.EncodeToString(m))
	}
	if got := d.Decode(m); !strings.Contains(got.Malformed, "nested") {
		t.Errorf("%s", got.Malformed)
	}
}

func TestPrefixLen(t *testing.T) {
	for _, tt := range []struct {
		mask string
		want int
		ok   bool
	}{{"ffffff00", 24, true}, {"ff800000", 9, true}, {"00000000", 0, true}, {"ffffffff", 32, true}, {"ff00ff00", 8, false}, {"fe800001", 9, false}} {
		b, _ := hex.DecodeString(tt.mask)
		if n, ok := prefixLen(b); ok != tt.ok || ok && n != tt.want {
			t.Errorf("%s: %d, %v", tt.mask, n, ok)
		}
	}
}

// wire returns the messages in control's golden files.
func wire(t testing.TB) (all []control.Message) {
	t.Helper()
	files, err := filepath.Glob("../testdata/wire-*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		text := ""
		for s := bufio.NewScanner(f); s.Scan(); {
			if strings.HasPrefix(s.Text(), " ") {
				text += s.Text()
				continue
			}
			if text != "" {
				all = append(all, messageOf(t, text))
			}
			text = ""
		}
	}
	return all
}

// A message may end anywhere.
func TestCutMessages(t *testing.T) {
	d := NewDecoder()
	for _, m := range wire(t) {
		for n := control.HeaderLen; n < len(m); n++ {
			cut := append(control.Message{}, m[:n]...)
			cut[2], cut[3] = byte(n>>8), byte(n)
			sound(t, d.Decode(cut))
		}
	}
}

// sound checks what is true of every decoded message.
func sound(t testing.TB, got Decoded) {
	t.Helper()
	line := got.String()
	if strings.ContainsAny(line, "\n\r") || !utf8.ValidString(line) {
		t.Errorf("%q is no line of text", line)
	}
	b, err := json.Marshal(got)
	if err != nil || !json.Valid(b) {
		t.Errorf("JSON of %s: %v", line, err)
	}
	got.Fields.Walk(func(f Field) bool {
		if offset, size := f.Span(); size > 0 && (offset < 0 || offset+size > got.Length) {
			t.Errorf("%s at %d, %d bytes, is not within %d", f.Name, offset, size, got.Length)
		}
		return false
	})
	if len(got.Brief(20)) > 20*utf8.UTFMax {
		t.Error("Brief is long")
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range wire(f) {
		f.Add([]byte(m))
	}
	d := NewDecoder()
	for v := control.OpenFlow10; v <= control.OpenFlow15; v++ {
		for typ := range 36 {
			f.Add([]byte(messageOf(f, hex.EncodeToString([]byte{byte(v), byte(typ)}), "0000 00000001", strings.Repeat("0001", 40))))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sound(t, d.Decode(b))
	})
}
