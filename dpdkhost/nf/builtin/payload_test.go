package builtin

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/nftest"
)

func TestScan(t *testing.T) {
	lab := nftest.New(t)
	file := filepath.Join(t.TempDir(), "patterns")
	if err := os.WriteFile(file, []byte("# bad words\nevil\n\n\\x00\\xff\\\\\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := start(t, "scan", "--patterns", file, "--pattern", `GET "/admin`, "--regexp", `pass(word|wd)=\S+`)
	udp := func(payload string) nf.Packet {
		return lab.Packet(1, nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", payload))
	}
	six := lab.Packet(1, nftest.TCP(t, "[fd00::1]:1", "[fd00::2]:2", "A", "an evil one"))
	got := lab.Run(f, udp("good"), udp("devil!"), udp("EVIL"), six, udp("a\x00\xff\\b"), udp(`GET "/admin" please`), udp("passwd=x"), udp("password="),
		lab.Packet(1, nftest.ARP(t, 1, "\x02evil\x02", "10.0.0.1", nobody, "10.0.0.2")))
	if v := verdicts(got); v != "next, drop, next, drop, drop, drop, drop, next, next" {
		t.Error(v)
	}
	counted(t, f, map[string]uint64{"scanned": 8, "matched": 5, `pattern "evil"`: 2, `regexp pass(word|wd)=\S+`: 1})
	folded := start(t, "scan", "--pattern", "eViL", "--ignore-case", "--action", "mark", "--dscp", "46")
	for _, p := range []nf.Packet{udp("dEvIl"), lab.Packet(1, nftest.UDP(t, "[fd00::1]:1", "[fd00::2]:2", "EVIL"))} {
		got := lab.Run(folded, p)[0]
		d := nftest.Decode(t, got.Data)
		class := uint8(0)
		if ip, ok := d.NetworkLayer().(*layers.IPv4); ok {
			class = ip.TOS
		} else {
			class = d.NetworkLayer().(*layers.IPv6).TrafficClass
		}
		if got.Verdict != "next" || class != 46<<2 {
			t.Errorf("%s, class %d", got.Verdict, class)
		}
	}
	if v := verdicts(lab.Run(start(t, "scan", "--pattern", "x", "--action", "count"), udp("xyz"))); v != "next" {
		t.Error(v)
	}
}

func TestPatternMistakes(t *testing.T) {
	_, err := parsePatterns(strings.NewReader("good\n\\x0\n\\q\n"), "f")
	if err == nil || !strings.Contains(err.Error(), `f:2: "\\x0": a wrong escape`) || !strings.Contains(err.Error(), "f:3: ") {
		t.Error(err)
	}
}

// The automaton finds what is there, and that first which ends first.
func FuzzAutomaton(f *testing.F) {
	f.Add("he\nshe\nhis\nhers", "ushers", false)
	f.Add("aab\nab\nb", "AAAB", true)
	f.Fuzz(func(t *testing.T, list, text string, fold bool) {
		var patterns []string
		for _, p := range strings.Split(list, "\n") {
			if p != "" {
				patterns = append(patterns, p)
			}
		}
		if len(list) > 1000 {
			return
		}
		a, err := newAutomaton(patterns, fold)
		if err != nil {
			t.Fatal(err)
		}
		in := func(s string) []byte {
			b := []byte(s)
			for i := range b {
				if fold {
					b[i] = lower(b[i])
				}
			}
			return b
		}
		ends := -1 // where the first match ends
		for _, p := range patterns {
			if at := bytes.Index(in(text), in(p)); at >= 0 && (ends < 0 || at+len(p) < ends) {
				ends = at + len(p)
			}
		}
		found := a.find([]byte(text))
		if (found >= 0) != (ends >= 0) {
			t.Fatalf("found %d, ends at %d", found, ends)
		}
		if found >= 0 && !bytes.HasSuffix(in(text[:ends]), in(patterns[found])) {
			t.Fatalf("found %q, which does not end first", patterns[found])
		}
	})
}

const testKey = "000102030405060708090a0b0c0d0e0f10111213"

func TestEncrypt(t *testing.T) {
	lab := nftest.New(t)
	seal, open := start(t, "encrypt", "--key", testKey), start(t, "decrypt", "--key", testKey, "--only")
	for _, b := range [][]byte{
		nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", ""),
		nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "x"),
		nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "xyz"),
		nftest.TCP(t, "10.0.0.1:1", "10.0.0.2:2", "PA", strings.Repeat("hello ", 230)),
		nftest.TCP(t, "[fd00::1]:1", "[fd00::2]:2", "PA", "hello"),
		nftest.Echo(t, "10.0.0.1", "10.0.0.2", 7, true),
		nftest.Echo(t, "fd00::1", "fd00::2", 7, true),
	} {
		h := nf.ParseHeaders(b)
		plain := b[:h.End] // without padding
		packets := []nf.Packet{lab.Packet(1, b)}
		if h.Protocol == nf.ProtocolTCP || h.Protocol == nf.ProtocolUDP {
			packets = append(packets, lab.Unfinished(1, b, 0))
		}
		for _, p := range packets {
			got := lab.Run(seal, p)[0]
			if got.Verdict != "next" {
				t.Fatal(got.Verdict)
			}
			sealed := append([]byte{}, got.Data...)
			d := nftest.Decode(t, sealed)
			esp, ok := d.Layer(layers.LayerTypeIPSecESP).(*layers.IPSecESP)
			if !ok || esp.SPI != 0x1000 || bytes.Contains(sealed, []byte("hello")) || len(sealed) < len(plain)+34 || len(sealed) > len(plain)+37 {
				t.Fatalf("%d bytes of %d: %v", len(sealed), len(plain), d)
			}
			back := lab.Run(open, lab.Packet(1, sealed))[0]
			if back.Verdict != "next" || string(back.Data) != string(plain) {
				t.Errorf("%s:\n% x, want\n% x", back.Verdict, back.Data, plain)
			}
			if again := lab.Run(open, lab.Packet(1, sealed))[0]; again.Verdict != "drop" {
				t.Error("a replay:", again.Verdict)
			}
		}
	}
	counted(t, seal, map[string]uint64{"encrypted": 12})
	counted(t, open, map[string]uint64{"decrypted": 12, "replayed": 12, "failed": 0})
	// What another program makes of a packet, by the letter of RFC 4106.
	got := lab.Run(seal, lab.Packet(1, nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "by hand")))[0].Data
	key, _ := hex.DecodeString(testKey)
	block, _ := aes.NewCipher(key[:16])
	gcm, _ := cipher.NewGCM(block)
	text, err := gcm.Open(nil, append(append([]byte{}, key[16:]...), got[34+8:34+16]...), got[34+16:], got[34:34+8])
	if err != nil || len(text)%4 != 0 || text[len(text)-1] != 17 || string(text[8:15]) != "by hand" || binary.BigEndian.Uint32(got[34+4:]) != 13 {
		t.Errorf("%v % x", err, text)
	}
	for i := range int(text[len(text)-2]) { // padding counts from 1 (RFC 4303, section 2.4)
		if text[15+i] != byte(i+1) {
			t.Errorf("padding % x", text[15:])
		}
	}
}

// A changed bit anywhere in ESP is noticed, and a wrong packet does not hinder the right one.
func TestDecryptForged(t *testing.T) {
	lab := nftest.New(t)
	seal, open := start(t, "encrypt", "--key", testKey), start(t, "decrypt", "--key", testKey)
	sealed := append([]byte{}, lab.Run(seal, lab.Packet(1, nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "hello")))[0].Data...)
	for at := 34 + 4; at < len(sealed); at++ { // another SPI is another's packet
		forged := append([]byte{}, sealed...)
		forged[at] ^= 0x10
		if v := lab.Run(open, lab.Packet(1, forged))[0].Verdict; v != "drop" {
			t.Errorf("byte %d: %s", at, v)
		}
	}
	counted(t, open, map[string]uint64{"failed": uint64(len(sealed) - 38)})
	if v := lab.Run(open, lab.Packet(1, sealed))[0].Verdict; v != "next" {
		t.Error("the right packet:", v)
	}
	if v := lab.Run(start(t, "decrypt", "--key", strings.Repeat("11", 20)), lab.Packet(1, sealed))[0].Verdict; v != "drop" {
		t.Error("the wrong key:", v)
	}
	if got := lab.Run(start(t, "decrypt", "--key", testKey, "--spi", "0x2000"), lab.Packet(1, sealed))[0]; got.Verdict != "next" || string(got.Data) != string(sealed) {
		t.Error("of another SPI:", got.Verdict)
	}
	clear := nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "clear")
	only := start(t, "decrypt", "--key", testKey, "--only", "--port", "2")
	if v := verdicts(lab.Run(only, lab.Packet(2, clear), lab.Packet(1, clear), lab.Packet(2, nftest.ARP(t, 1, nftest.SrcMAC, "10.0.0.1", nobody, "10.0.0.2")))); v != "drop, next, next" {
		t.Error(v)
	}
	// Who encrypts is started anew: his numbers go on.
	anew := start(t, "encrypt", "--key", testKey)
	p := lab.Run(anew, lab.Packet(1, clear))[0].Packet
	if v := lab.Run(open, p)[0].Verdict; v != "next" {
		t.Error("after a restart:", v)
	}
}

func TestEncryptTooBig(t *testing.T) {
	lab := nftest.New(t)
	seal := start(t, "encrypt", "--key", testKey)
	tick(seal, 2*time.Second)
	free := nftest.IP("10.0.0.1", "10.0.0.2", layers.IPProtocolUDP)
	bound := nftest.IP("10.0.0.1", "10.0.0.2", layers.IPProtocolUDP)
	bound[1].(*layers.IPv4).Flags = layers.IPv4DontFragment
	fragment := nftest.IP("10.0.0.1", "10.0.0.2", layers.IPProtocolUDP)
	fragment[1].(*layers.IPv4).FragOffset = 10
	udp, long := &layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload(make([]byte, 1472))
	super := lab.Unfinished(1, nftest.TCP(t, "10.0.0.1:1", "10.0.0.2:2", "A", strings.Repeat("x", 5000)), 1000)
	got := lab.Run(seal,
		lab.Packet(1, nftest.Frame(t, append(free, udp, long)...)),
		lab.Packet(1, nftest.Frame(t, append(bound, udp, long)...)),
		lab.Packet(1, nftest.Frame(t, append(fragment, gopacket.Payload("x"))...)),
		super)
	if v := verdicts(got); v != "drop, out 1, drop, drop" {
		t.Fatal(v)
	}
	h := nf.ParseHeaders(got[1].Data)
	d := nftest.Decode(t, got[1].Data)
	if c := d.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4).TypeCode; c != layers.CreateICMPv4TypeCode(3, 4) || binary.BigEndian.Uint32(got[1].Data[h.Transport+4:]) != 1463 {
		t.Errorf("%v", d)
	}
	counted(t, seal, map[string]uint64{"tooBig": 2, "unable": 1, "superframes": 1})
	// As large as the message says is not too big.
	if v := verdicts(lab.Run(seal, lab.Packet(1, nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", strings.Repeat("x", 1463-28))))); v != "next" {
		t.Error(v)
	}
}

func TestWindow(t *testing.T) {
	var w window
	for i, c := range []struct {
		n    uint64
		want bool
	}{{100, true}, {100, false}, {99, true}, {99, false}, {37, true}, {36, false}, {200, true}, {137, true}, {136, false}, {100, false}, {1 << 40, true}, {200, false}} {
		if w.fresh(c.n) != c.want {
			t.Errorf("%d: %d is fresh: %v", i, c.n, !c.want)
		}
		if w.fresh(c.n) {
			w.add(c.n)
		}
	}
}

func TestGenerator(t *testing.T) {
	lab := nftest.New(t)
	for name, args := range map[string]string{"v4": "--src 10.0.0.1:1000 --dst 10.0.0.2:9", "v6": "--src [fd00::1]:1000 --dst [fd00::2]:9 --size 100"} {
		f := start(t, "generator", append(strings.Fields(args), "--rate", "100", "--flows", "3", "--count", "25", "--out", "2", "--dst-mac", "02:00:00:00:00:22")...)
		for range 50 {
			lab.Run(f, lab.Fresh())
		}
		tick(f, time.Millisecond)
		if n := len(tick(f, 11*time.Millisecond)); n != 1 {
			t.Errorf("%s: %d packets in 11 ms at 100 a second", name, n)
		}
		sent := tick(f, 111*time.Millisecond)
		if len(sent) != 10 {
			t.Errorf("%s: %d packets in 100 ms at 100 a second", name, len(sent))
		}
		ports := map[string]int{}
		for _, r := range nftest.Results(sent) {
			d := nftest.Decode(t, r.Data)
			if r.Verdict != "out 2" || d.LinkLayer().LinkFlow().Dst().String() != "02:00:00:00:00:22" {
				t.Fatalf("%s: %s %v", name, r.Verdict, d)
			}
			ports[d.TransportLayer().TransportFlow().Src().String()]++
		}
		if fmt.Sprint(ports) != "map[1000:3 1001:3 1002:4]" {
			t.Errorf("%s: source ports %v", name, ports)
		}
		// Two come back, the second first, 20 ms later, with a packet of somebody else.
		tick(f, 111*time.Millisecond)
		tick(f, 131*time.Millisecond)
		if v := verdicts(lab.Run(f, sent[1], sent[0], lab.Packet(1, nftest.UDP(t, "10.0.0.1:1", "10.0.0.2:2", "other")))); v != "drop, drop, next" {
			t.Errorf("%s: %s", name, v)
		}
		counted(t, f, map[string]uint64{"received": 2, "outOfOrder": 1, "p50Nanoseconds": 20_000_000, "p99Nanoseconds": 20_000_000})
		tick(f, time.Second)
		tick(f, 2*time.Second)
		counted(t, f, map[string]uint64{"sent": 25})
	}
}

func TestSpeed(t *testing.T) {
	lab := nftest.New(t)
	f := start(t, "speed", "--service", "2", "--flight", "4")
	if f.(nf.Source).Frames() != 4 {
		t.Error("frames")
	}
	lab.Run(f, lab.Fresh(), lab.Fresh(), lab.Fresh(), lab.Fresh())
	lab.Run(f, lab.Fresh()) // one too many goes back
	sent := tick(f, time.Millisecond)
	if verdicts(nftest.Results(sent)) != "to 2, to 2, to 2, to 2" {
		t.Fatal(verdicts(nftest.Results(sent)))
	}
	lab.Run(f, lab.Fresh(), lab.Fresh())
	if n := len(tick(f, 2*time.Millisecond)); n != 0 {
		t.Errorf("%d more than may be on the way", n)
	}
	// What comes back goes again at once.
	if v := verdicts(lab.Run(f, sent[0], sent[1])); v != "to 2, to 2" {
		t.Error(v)
	}
	counted(t, f, map[string]uint64{"sent": 6, "received": 2, "p50Nanoseconds": 1_000_000})
	// The others are lost: after a while new ones go.
	if n := len(tick(f, 5*time.Second)); n != 2 {
		t.Errorf("%d packets after the loss", n)
	}
	text, err := f.(nf.Commander).Command([]string{"report"})
	if err != nil || !strings.HasPrefix(squeeze(text), "sent 8 ") || !strings.Contains(squeeze(text), "p50 1ms") {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := f.(nf.Commander).Command([]string{"rate", "5"}); err == nil {
		t.Error("speed has no rate")
	}
}
