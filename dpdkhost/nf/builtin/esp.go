package builtin

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const encryptText = `
Encrypts what is above IP with AES-GCM: IPsec's ESP in transport mode (RFC 4303, RFC 4106), as
Linux and Wireshark know it. "decrypt" with the same key is the other end. The key is that of
"ip xfrm": AES's 16, 24 or 32 bytes and 4 bytes of salt. Each direction, and each NF that encrypts,
needs a key of its own: a key and a number used twice tell the text. Run one instance of each.

Packets become 34 to 37 bytes longer. Those that then exceed the MTU are dropped, and their senders told
so by ICMP if they forbid fragments, as TCP does. Fragments and IPv6 extension headers are
dropped. What is not IP, multicast and neighbour discovery pass as they are.`

const decryptText = `
Decrypts what "encrypt" encrypted. Packets with a wrong authentication, and those seen before,
are dropped; packets that are not ESP with its SPI pass, unless --only is given. Replays are told by the
initialisation vector, which "encrypt" lets grow even when it is started anew; for other
senders write --replay seq (RFC 4303, section 3.4.3) or --replay off.`

// sealing is what encrypt and decrypt have in common.
type sealing struct {
	clock
	aead  cipher.AEAD
	nonce [12]byte // salt, then the IV
	spi   uint32
	port  int // 0 for all
}

// keyFlags adds the flags of both.
func keyFlags(flags *pflag.FlagSet) func() (sealing, error) {
	text := flags.String("key", "", "key and salt in `HEX`: 20, 28 or 36 bytes; others see it in lists of processes")
	file := flags.String("key-file", "", "a `file` with the key and salt in hex")
	spi := flags.String("spi", "0x1000", "security parameters `index`, from 256")
	port := flags.Int("port", 0, "only packets that came in by this `port`; others go on")
	return func() (s sealing, err error) {
		switch {
		case (*text == "") == (*file == ""):
			return s, fmt.Errorf("tell it a --key or a --key-file")
		case *file != "":
			b, err := os.ReadFile(*file)
			if err != nil {
				return s, fmt.Errorf("--key-file: %w", err)
			}
			*text = strings.TrimSpace(string(b))
		}
		key, err := hex.DecodeString(strings.TrimPrefix(*text, "0x"))
		if n := len(key); err != nil || n != 20 && n != 28 && n != 36 {
			return s, fmt.Errorf("the key is no 20, 28 or 36 bytes in hex, such as openssl rand -hex 20 prints")
		}
		n, err := strconv.ParseUint(*spi, 0, 32)
		if err != nil || n < 256 {
			return s, fmt.Errorf("--spi %s: a number from 256", *spi)
		}
		if *port < 0 || *port >= maxPort {
			return s, fmt.Errorf("--port %d: ports have numbers from 1 to %d", *port, maxPort-1)
		}
		block, err := aes.NewCipher(key[:len(key)-4])
		if err != nil {
			return s, err
		}
		if s.aead, err = cipher.NewGCM(block); err != nil {
			return s, err
		}
		copy(s.nonce[:], key[len(key)-4:])
		s.spi, s.port = uint32(n), *port
		return s, nil
	}
}

// Sizes of ESP with AES-GCM.
const (
	espHead = 16 // SPI, sequence number, IV
	espTag  = 16
	espMost = espHead + 3 + 2 + espTag
)

type encrypt struct {
	sealing
	sequence                           uint32
	iv                                 uint64
	mtu                                int
	replies                            replies
	sealed, tooBig, unable, notOnAWire uint64
}

func defineEncrypt(flags *pflag.FlagSet) func() (nf.Function, error) {
	common := keyFlags(flags)
	mtu := flags.Int("mtu", 1500, "largest IP packet, `bytes`")
	return func() (nf.Function, error) {
		s, err := common()
		if err != nil {
			return nil, err
		}
		if *mtu < 576 || *mtu > 65535 {
			return nil, fmt.Errorf("--mtu %d: from 576 to 65535", *mtu)
		}
		// The IV is never the same twice, though the NF is started again with its key: it counts from
		// the time of the start, and packets are no faster than one in a nanosecond.
		return &encrypt{sealing: s, mtu: *mtu, iv: uint64(time.Now().UnixNano())}, nil
	}
}

func (e *encrypt) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		p.Next()
		h := p.Headers()
		if h.Version == 0 || e.port != 0 && e.port != p.Port() || isLink(&h, p.Data()) {
			continue
		}
		e.seal(p, &h)
	}
}

// isLink reports whether a packet is for the link only: multicast, broadcast, neighbour
// discovery.
func isLink(h *nf.Headers, b []byte) bool {
	src, dst := h.Addresses(b)
	return b[0]&1 != 0 || dst.IsMulticast() || src.IsLinkLocalUnicast() || dst.IsLinkLocalUnicast() || isNeighbour(h, b, solicitation) || isNeighbour(h, b, advertisement)
}

// ipHead returns the size of a plain IP header, 0 for one with IPv6 extensions.
func ipHead(h *nf.Headers, b []byte) int {
	if h.Version == 4 {
		return int(b[h.Network]&15) * 4
	}
	if b[h.Network+6] == h.Protocol {
		return 40
	}
	return 0
}

func (e *encrypt) seal(p *nf.Packet, h *nf.Headers) {
	b := p.Data()
	head := ipHead(h, b)
	switch {
	case h.Fragment || head == 0:
		e.unable++
		p.Drop()
		return
	case !p.CompleteChecksum():
		e.notOnAWire++
		p.Drop()
		return
	}
	start := h.Network + head // of what is encrypted
	length := h.End - start
	pad := -(length + 2) & 3
	if h.End-h.Network+espHead+pad+2+espTag > e.mtu {
		e.tooBig++
		p.Drop()
		if h.Version == 6 || b[h.Network+6]&0x40 != 0 {
			e.replies.icmp(p, h, netip.Addr{}, tooBig(), uint32(e.mtu-espMost))
		}
		return
	}
	if !p.Resize(espHead, h.End-len(b)+pad+2+espTag) {
		e.unable++
		p.Drop()
		return
	}
	b = p.Data()
	copy(b, b[espHead:espHead+start]) // Ethernet and IP move to the front
	text := b[start+espHead : start+espHead+length+pad+2]
	for i := range pad {
		text[length+i] = byte(i + 1)
	}
	text[length+pad], text[length+pad+1] = byte(pad), h.Protocol
	esp := b[start:]
	e.sequence++
	e.iv++
	binary.BigEndian.PutUint32(esp, e.spi)
	binary.BigEndian.PutUint32(esp[4:], e.sequence)
	binary.BigEndian.PutUint64(esp[8:], e.iv)
	copy(e.nonce[4:], esp[8:16])
	e.aead.Seal(text[:0], e.nonce[:], text, esp[:8])
	finishIP(b[h.Network:], head, nf.ProtocolESP)
	p.Whole()
	e.sealed++
}

// finishIP writes the length and the protocol of an IP packet that was changed, which ends
// with b.
func finishIP(b []byte, head int, protocol uint8) {
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		b[6] = protocol
		return
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[9] = protocol
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], nf.Checksum(nf.Sum(0, b[:head])))
}

// Tick lets ICMP messages be sent again.
func (e *encrypt) Tick(now time.Time, send []nf.Packet) (int, time.Duration) {
	e.replies.tick(now)
	return e.clock.Tick(now, send)
}

// Counters shows what was encrypted and what was dropped.
func (e *encrypt) Counters(f func(string, uint64)) {
	show(f, counter{"encrypted", &e.sealed}, counter{"tooBig", &e.tooBig}, counter{"unable", &e.unable}, counter{"superframes", &e.notOnAWire})
}

type decrypt struct {
	sealing
	only   bool
	replay string
	seen   window

	opened, failed, replayed, unable, plain uint64
}

func defineDecrypt(flags *pflag.FlagSet) func() (nf.Function, error) {
	common := keyFlags(flags)
	only := flags.Bool("only", false, "drop IP packets that are not encrypted")
	replay := flags.String("replay", "iv", "how to tell packets seen before: iv, seq or off")
	return func() (nf.Function, error) {
		s, err := common()
		if err != nil {
			return nil, err
		}
		if *replay != "iv" && *replay != "seq" && *replay != "off" {
			return nil, fmt.Errorf("--replay %s: iv, seq or off", *replay)
		}
		return &decrypt{sealing: s, only: *only, replay: *replay}, nil
	}
}

func (d *decrypt) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		p.Next()
		h := p.Headers()
		if h.Version == 0 || d.port != 0 && d.port != p.Port() {
			continue
		}
		b := p.Data()
		at := h.Transport
		if h.Protocol != nf.ProtocolESP || at == 0 || h.End-at < espHead+2+espTag || binary.BigEndian.Uint32(b[at:]) != d.spi {
			if d.only && !isLink(&h, b) {
				d.plain++
				p.Drop()
			}
			continue
		}
		d.open(p, &h)
	}
}

func (d *decrypt) open(p *nf.Packet, h *nf.Headers) {
	b := p.Data()
	head, start := ipHead(h, b), h.Transport
	if h.Fragment || head == 0 || h.Network+head != start {
		d.unable++
		p.Drop()
		return
	}
	esp := b[start:h.End]
	number := binary.BigEndian.Uint64(esp[8:])
	if d.replay == "seq" {
		number = uint64(binary.BigEndian.Uint32(esp[4:]))
	}
	if d.replay != "off" && !d.seen.fresh(number) {
		d.replayed++
		p.Drop()
		return
	}
	copy(d.nonce[4:], esp[8:16])
	text, err := d.aead.Open(esp[espHead:espHead], d.nonce[:], esp[espHead:], esp[:8])
	pad := 0
	if err == nil {
		pad = int(text[len(text)-2])
	}
	if err != nil || pad > len(text)-2 {
		d.failed++
		p.Drop()
		return
	}
	d.seen.add(number)
	protocol := text[len(text)-1]
	// Ethernet and IP move to where the text is.
	copy(b[espHead:], b[:start])
	if !p.Resize(-espHead, start+espHead+len(text)-pad-2-len(b)) {
		d.unable++
		p.Drop()
		return
	}
	finishIP(p.Data()[h.Network:], head, protocol)
	p.Whole()
	d.opened++
}

// Counters shows what was decrypted and what was dropped.
func (d *decrypt) Counters(f func(string, uint64)) {
	show(f, counter{"decrypted", &d.opened}, counter{"failed", &d.failed}, counter{"replayed", &d.replayed},
		counter{"notEncrypted", &d.plain}, counter{"unable", &d.unable})
}

// A window knows which of the last 64 numbers were seen (RFC 4303, appendix A2).
type window struct {
	top  uint64
	bits uint64 // bit n: top-n was seen
}

func (w *window) fresh(n uint64) bool {
	return n > w.top || w.top-n < 64 && w.bits>>(w.top-n)&1 == 0
}

// add notes a number, after its packet was found to be authentic.
func (w *window) add(n uint64) {
	if n > w.top {
		if shift := n - w.top; shift < 64 {
			w.bits <<= shift
		} else {
			w.bits = 0
		}
		w.top, w.bits = n, w.bits|1
		return
	}
	w.bits |= 1 << (w.top - n)
}
