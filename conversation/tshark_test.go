package conversation_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"weft/control"
	"weft/control/openflow"
	"weft/conversation"
)

var captures = flag.String("captures", "testdata", "directory of the captures that TestTshark compares; testdata/record.sh makes them")

// TestTshark decodes conversations with tshark's dissectors and with ours, and compares
// message by message and field by field: where each field stands, its value and the name
// of that. What differs must be in explanations.
//
//	go test ./conversation -run Tshark -captures DIR -v
func TestTshark(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("needs tshark")
	}
	files, err := filepath.Glob(filepath.Join(*captures, "*.pcapng.zst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in %s: %v", *captures, err)
	}
	c := comparison{decoder: openflow.NewDecoder(), differences: map[difference]int{}}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { c.file(t, f) })
	}
	t.Logf("%d messages, %d fields of tshark's: %d the same, %d differ as explained below", c.messages, c.fields, c.same, c.fields-c.same)
	t.Log("\n" + c.table(t))
}

// A comparison counts what is the same and what differs.
type comparison struct {
	decoder                *openflow.Decoder
	messages, fields, same int
	differences            map[difference]int
}

// A difference is a kind of field that the two do not agree on.
type difference struct {
	theirs string // name in tshark
	what   string
}

// An explanation says why a difference is none of meaning.
type explanation struct {
	theirs, what string // regular expressions
	why          string
}

func explanations() []explanation {
	const none = "no such field"
	return []explanation{
		// What the two show in different ways.
		{`^openflow(_v\d|_1_0)?\.(version|type|length|xid)$`, none, "the header is in Decoded itself"},
		{`\.(pad|padding|request_pad)\d?$|\.zeros$|reserved$|_reserved$`, none, "paddings mean nothing"},
		{`(\.length|_length|_len|\.len)$`, none, "lengths of what is decoded are not shown"},
		{`\.ox[ms]\.(class|field|hm|length|reserved)$`, none, "the class and number of a match field are its name"},
		{`\.oxm_experimenter\.experimenter$`, none, "the experimenter of a match field is part of its name"},
		{`\.multipart_(request|reply)\.type$|^openflow\.stats\.type$`, none, "the type of a multipart message is its name"},
		{`\.match\.type$|\.(prop|property)(\.|_)?type$|_prop\.(type|property)$|element\.type$|\.(action|instruction|band|bucket_prop|meter_band)\.type$|\.action_typ$`, none,
			"the type of an item is its kind"},
		{`\.experimenter\.(experimenter|exp_type)$|action_experimenter\.experimenter$`, "(nx_|FLOW_MOD|flow|ERROR|PACKET_OUT).*" + none,
			"Nicira's messages and actions are decoded; their names say experimenter and type"},
		{`\.switch_config\.flags\.fragments$`, none, "the two bits are named in flags"},
		{`\.oxs\.(duration|idle)_n?sec$`, none, "seconds and nanoseconds are one field"},
		{`^openflow\.datapath_(mac|imp)$`, none, "the two halves of the datapath ID are one field"},
		{`^openflow\.wildcards$`, none, "wildcards say which fields the match has"},
		{`^openflow\.`, "wildcarded", "fields that are wildcarded are not in the match"},
		{`\.next_table_id$`, none, "table numbers are in a list of their property"},
		{`\.error\.data\.body$`, none, "the message that an error is about is decoded"},

		// Faults of tshark 4.0.
		{``, "malformed in tshark", "tshark 4.0 fault: it reads the number of a 1.5 match field with the length of the match, and calls what follows malformed"},
		{`\.que?u?e+_stats\.|\.port_stats\.tx_errors$`, "MULTIPART_REPLY queue: ", "tshark 4.0 fault: it takes the padding in queue statistics of 1.4 and 1.5 for 2 bytes, not 6"},
		{`^openflow_v6\.port(_stats|_stats_prop|\.stats_prop)\.`, "MULTIPART_REPLY port: ", "tshark 4.0 fault: it does not skip the padding of properties in port statistics"},
		{`^openflow_v6\.(bucket|group_desc|action)\.`, `group_desc: |GROUP_MOD: |ERROR: `, "tshark 4.0 fault: it reads the buckets of 1.5 as those of 1.4"},
	}
}

// file compares one capture.
func (c *comparison) file(t *testing.T, path string) {
	compressed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := z.DecodeAll(compressed, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "capture.pcapng")
	if err := os.WriteFile(file, plain, 0o644); err != nil {
		t.Fatal(err)
	}
	theirs := dissect(t, file)
	if regexp.MustCompile(`-1\.[12]\.`).MatchString(path) {
		if len(theirs) > 0 {
			t.Fatalf("tshark has learnt OpenFlow 1.1 or 1.2: compare")
		}
		c.alone(t, plain)
		return
	}
	i := 0
	report, err := conversation.ReadFile(bytes.NewReader(plain), conversation.Ports(), func(m control.TapMessage) error {
		if i == len(theirs) {
			return errors.New("tshark has fewer messages")
		}
		if p := theirs[i]; p.bytes[0] != m.Data[0] || p.bytes[1] != m.Data[1] || !bytes.Equal(p.bytes[4:8], m.Data[4:8]) {
			return fmt.Errorf("message %d is %x for tshark and %x for us", i, p.bytes, []byte(m.Data[:8]))
		}
		c.message(t, theirs[i], m.Data)
		i++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if i < len(theirs) || report.Skipped > 0 {
		t.Fatalf("tshark has %d messages, we %d: %v", len(theirs), i, report)
	}
}

// alone decodes a conversation of a version that tshark does not know.
func (c *comparison) alone(t *testing.T, plain []byte) {
	report, err := conversation.ReadFile(bytes.NewReader(plain), conversation.Ports(), func(m control.TapMessage) error {
		if d := c.decoder.Decode(m.Data); d.Malformed != "" {
			t.Errorf("message %v", d)
		}
		return nil
	})
	if err != nil || report.Messages == 0 {
		t.Errorf("%v, %v", report, err)
	}
	t.Logf("tshark does not know this version; %d messages decode without error", report.Messages)
}

// A pdu is a message as tshark dissects it.
type pdu struct {
	bytes  [8]byte // version, type, and at 4 the xid
	leaves []leaf
	broken bool // tshark calls the rest malformed
}

// A leaf is a field without parts. pos counts from the start of the message.
type leaf struct {
	name, show, showname string
	pos, size            int
	value                []byte
	masked               bool // bits of a value
	broken               bool // what tshark read here is what it calls malformed
}

// dissect returns the messages of a capture in tshark's order.
func dissect(t *testing.T, file string) []pdu {
	cmd := exec.Command("tshark", "-n", "-r", file, "-d", "tcp.port==6634,openflow", "-T", "pdml", "-J", "openflow openflow_v1 openflow_v4 openflow_v5 openflow_v6")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []pdu
	d := xml.NewDecoder(out)
	var current *pdu
	base := 0
	depth := 0 // of protos that are not OpenFlow within a message
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("tshark's output: %v\n%s", err, stderr.String())
		}
		switch e := token.(type) {
		case xml.StartElement:
			a := attributes(e)
			if e.Name.Local == "proto" {
				if strings.HasPrefix(a["name"], "openflow") && current == nil {
					all = append(all, pdu{})
					current, base = &all[len(all)-1], number(t, a["pos"])
				} else if current != nil {
					current.broken = current.broken || a["name"] == "_ws.malformed"
					depth++
				}
			}
			if e.Name.Local == "field" && current != nil && depth == 0 {
				current.add(t, a, base)
			}
		case xml.EndElement:
			if e.Name.Local == "proto" && current != nil {
				if depth == 0 {
					current = nil
				} else {
					depth--
				}
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	return all
}

func attributes(e xml.StartElement) map[string]string {
	a := map[string]string{}
	for _, attr := range e.Attr {
		a[attr.Name.Local] = attr.Value
	}
	return a
}

func number(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("tshark says %q where a number is due", s)
	}
	return n
}

// add notes a field.
func (p *pdu) add(t *testing.T, a map[string]string, base int) {
	if a["name"] == "" || a["value"] == "" || a["size"] == "0" || !strings.HasPrefix(a["name"], "openflow") {
		return
	}
	value := a["value"]
	if whole, ok := a["unmaskedvalue"]; ok {
		value = whole
	}
	l := leaf{name: a["name"], show: a["show"], showname: a["showname"], pos: number(t, a["pos"]) - base, size: number(t, a["size"]), broken: p.broken}
	_, l.masked = a["unmaskedvalue"]
	b, err := hex.DecodeString(value)
	if err == nil {
		l.value = b
	}
	if l.pos >= 0 && l.pos+len(b) <= 8 && len(b) == l.size {
		copy(p.bytes[l.pos:], b)
	}
	p.leaves = append(p.leaves, l)
}

// message compares a message.
func (c *comparison) message(t *testing.T, p pdu, m control.Message) {
	c.messages++
	d := c.decoder.Decode(m)
	if d.Malformed != "" {
		t.Errorf("message %v: %s", d, d.Malformed)
	}
	type span struct{ offset, size int }
	ours := map[span][]openflow.Field{}
	d.Fields.Walk(func(f openflow.Field) bool {
		if offset, size := f.Span(); size > 0 {
			ours[span{offset, size}] = append(ours[span{offset, size}], f)
			if mask, ok := maskOf(f, size); ok {
				ours[span{offset + size, size}] = append(ours[span{offset + size, size}], openflow.Field{Name: f.Name + "'s mask", Value: mask})
			}
		}
		return false
	})
	for _, l := range p.leaves {
		if l.masked || l.size != len(l.value) {
			continue // a bit of a field that is compared whole
		}
		c.fields++
		if l.broken {
			c.differences[difference{l.name, "malformed in tshark"}]++
			continue
		}
		what := "no such field"
		for _, f := range ours[span{l.pos, l.size}] {
			if what = compare(l, f); what == "" {
				break
			}
		}
		if what != "" && wildcarded(l.name, m) {
			what = "wildcarded"
		}
		if what == "" {
			c.same++
		} else {
			c.differences[difference{l.name, d.Name + ": " + what}]++
		}
	}
}

// wildcarded reports whether tshark shows a field of a 1.0 FLOW_MOD or flow request that
// the match's wildcards exclude.
func wildcarded(name string, m control.Message) bool {
	if m.Version() != control.OpenFlow10 || len(m) < 16 {
		return false
	}
	at := map[control.Type]int{control.TypeFlowMod: 8, 16: 12}[m.Type()]
	if at == 0 {
		return false
	}
	wild := binary.BigEndian.Uint32(m[at:])
	bit, ok := map[string]int{
		"openflow.in_port": 0, "openflow.dl_vlan": 1, "openflow.eth_src": 2, "openflow.eth_dst": 3, "openflow.ofp_match.dl_type": 4,
		"openflow.ofp_match.nw_proto": 5, "openflow.ofp_match.source_port": 6, "openflow.ofp_match.dest_port": 7,
		"openflow.ofp_match.source_addr": 13, "openflow.ofp_match.dest_addr": 19, // 32 bits or more are ignored
		"openflow.dl_vlan_pcp": 20, "openflow.ofp_match.tos": 21,
	}[name]
	return ok && wild&(1<<bit) != 0
}

// maskOf returns the mask of a field of so many bytes.
func maskOf(f openflow.Field, size int) (openflow.Data, bool) {
	text, ok := f.Value.(openflow.Text)
	if !ok {
		return nil, false
	}
	value, mask, ok := strings.Cut(string(text), "/")
	if !ok {
		return nil, false
	}
	if a, err := netip.ParseAddr(mask); err == nil {
		return a.AsSlice(), true
	}
	if a, err := net.ParseMAC(mask); err == nil {
		return openflow.Data(a), true
	}
	if _, err := netip.ParseAddr(value); err == nil && !strings.HasPrefix(mask, "0x") {
		n, err := strconv.Atoi(mask)
		return openflow.Data(net.CIDRMask(n, 8*size)), err == nil
	}
	b, err := hex.DecodeString(fmt.Sprintf("%0*s", 2*size, strings.TrimPrefix(mask, "0x")))
	return b, err == nil
}

// synonyms are the names that are not the same here and there.
func synonyms() map[string]string {
	return map[string]string{"ofp_no_buffer": "none"}
}

// named is how tshark writes a number with a name.
var named = regexp.MustCompile(`: (OFP[A-Z0-9]*_[A-Z0-9_]+) \(`)

// compare says how a field of tshark's differs from ours; empty: it does not.
func compare(l leaf, f openflow.Field) string {
	switch v := f.Value.(type) {
	case openflow.Number:
		if n := bigEndian(l.value); n != v.N && !(len(l.value) == 2 && n|0xffff0000 == v.N) {
			return fmt.Sprintf("%s is %d, not %d", f.Name, v.N, n)
		}
		if m := named.FindStringSubmatch(l.showname); m != nil {
			if name := strings.ToLower(m[1]); synonyms()[name] != v.Text && !strings.HasSuffix(name, "_"+v.Text) || v.Text == "" {
				return fmt.Sprintf("%s is called %q here, %q there", f.Name, v.Text, name)
			}
		}
		return ""
	case openflow.Text:
		if text, _, _ := strings.Cut(string(v), "/"); sameText(text, l) {
			return ""
		}
		return fmt.Sprintf("%s is %s, not %s", f.Name, v, l.show)
	case openflow.Data:
		if bytes.Equal(v, l.value) {
			return ""
		}
	case openflow.Packet:
		if bytes.Equal(v.Data, l.value) {
			return ""
		}
	}
	return f.Name + " has another value"
}

// sameText reports whether a text of ours says the bytes of a field of tshark's, or the same.
func sameText(text string, l leaf) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return bytes.Equal(a.AsSlice(), l.value)
	}
	if mac, err := net.ParseMAC(text); err == nil {
		return bytes.Equal(mac, l.value)
	}
	if n, err := strconv.ParseUint(text, 0, 64); err == nil && len(l.value) <= 8 {
		return n == bigEndian(l.value)
	}
	return text == strings.TrimRight(string(l.value), "\x00") || text == l.show
}

func bigEndian(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// table lists the differences, and fails if one is not explained.
func (c *comparison) table(t *testing.T) string {
	list := explanations()
	rows := map[string]int{}
	for d, n := range c.differences {
		why := ""
		for _, e := range list {
			if regexp.MustCompile(e.theirs).MatchString(d.theirs) && regexp.MustCompile(e.what).MatchString(d.what) {
				why = e.why
				break
			}
		}
		if why == "" {
			t.Errorf("unexplained, %d times: %s: %s", n, d.theirs, d.what)
			continue
		}
		rows[why] += n
	}
	var b strings.Builder
	for _, why := range slices.Sorted(func(yield func(string) bool) {
		for why := range rows {
			if !yield(why) {
				return
			}
		}
	}) {
		fmt.Fprintf(&b, "%8d  %s\n", rows[why], why)
	}
	return b.String()
}
