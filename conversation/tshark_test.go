package conversation_test

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
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
	return []explanation{
		{`\.(version|type|length|xid)$|of_version|^openflow\.(ofp_)?header`, `no such field`, "the header is in Decoded itself"},
		{`\.pad(ding)?$|_pad$|\.unused$`, `no such field`, "paddings mean nothing"},
		{`(_length|_len|\.len)$`, `no such field`, "lengths of what is decoded are in what is decoded"},
		{`\.oxm\.(class|field|has_mask|hasmask|length|value_mask)|oxm_(field|class|hm|length)|\.oxm_`, ``, "the class and number of a match field are its name, the mask stands behind its value"},
		{`\.value_mask$|_mask$`, `no such field`, "the mask stands behind its value"},
		{`\.(type|prop\.type|property)$`, `no such field`, "the type of an item is its kind"},
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
	i := 0
	report, err := conversation.ReadFile(bytes.NewReader(plain), conversation.Ports(), func(m control.TapMessage) error {
		if i == len(theirs) {
			return errors.New("tshark has fewer messages")
		}
		if p := theirs[i]; p.bytes[0] != m.Data[0] || p.bytes[1] != m.Data[1] || !bytes.Equal(p.bytes[4:8], m.Data[4:8]) {
			return fmt.Errorf("message %d is %x for tshark and %x for us", i, p.bytes, m.Data[:8])
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

// A pdu is a message as tshark dissects it.
type pdu struct {
	bytes  [8]byte // version, type, and at 4 the xid
	leaves []leaf
}

// A leaf is a field without parts. pos counts from the start of the message.
type leaf struct {
	name, show, showname string
	pos, size            int
	value                []byte
	masked               bool // bits of a value
}

// dissect returns the messages of a capture in tshark's order.
func dissect(t *testing.T, file string) []pdu {
	cmd := exec.Command("tshark", "-n", "-r", file, "-T", "pdml", "-J", "openflow openflow_v1 openflow_v4 openflow_v5 openflow_v6")
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
	l := leaf{name: a["name"], show: a["show"], showname: a["showname"], pos: number(t, a["pos"]) - base, size: number(t, a["size"])}
	_, l.masked = a["unmaskedvalue"]
	b, err := hex.DecodeString(value)
	if err == nil {
		l.value = b
	}
	if l.pos >= 0 && l.pos+len(b) <= 8 && !l.masked && len(b) == l.size {
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
		}
		return false
	})
	for _, l := range p.leaves {
		if l.masked || l.size != len(l.value) {
			continue // a bit of a field that is compared whole
		}
		c.fields++
		what := "no such field"
		for _, f := range ours[span{l.pos, l.size}] {
			if what = compare(l, f); what == "" {
				break
			}
		}
		if what == "" {
			c.same++
		} else {
			c.differences[difference{l.name, d.Name + ": " + what}]++
		}
	}
}

// named is how tshark writes a number with a name.
var named = regexp.MustCompile(`: (OFP[A-Z0-9]*_[A-Z0-9_]+) \(`)

// compare says how a field of tshark's differs from ours; empty: it does not.
func compare(l leaf, f openflow.Field) string {
	switch v := f.Value.(type) {
	case openflow.Number:
		if n := new(bigNumber).set(l.value); n != v.N && !(len(l.value) == 2 && n|0xffff0000 == v.N) {
			return fmt.Sprintf("%s is %d, not %d", f.Name, v.N, n)
		}
		if m := named.FindStringSubmatch(l.showname); m != nil {
			if name := strings.ToLower(m[1]); v.Text == "" || !strings.HasSuffix(name, "_"+v.Text) {
				return fmt.Sprintf("%s is called %q here, %q there", f.Name, v.Text, name)
			}
		}
		return ""
	case openflow.Text:
		text, _, _ := strings.Cut(string(v), "/")
		if text == l.show || sameAddress(text, l.show) || strings.Contains(l.showname, text) {
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

type bigNumber struct{}

func (*bigNumber) set(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func sameAddress(a, b string) bool {
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err1 == nil && err2 == nil && x == y
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
