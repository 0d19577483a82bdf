package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// A Hello is what a HELLO says about its sender.
type Hello struct {
	// Version is that of the header, the highest that the sender speaks.
	Version Version
	// Bitmap is the set of versions that it speaks, if it sent one; else 0.
	Bitmap Versions
}

// String lists the versions that the sender speaks.
func (h Hello) String() string {
	if h.Bitmap != 0 {
		return h.Bitmap.String()
	}
	return h.Version.String()
}

// helloVersionBitmap is the type of the only HELLO element (OpenFlow 1.3.5, 7.5.1).
const helloVersionBitmap = 1

// ParseHello reads a HELLO. Elements that it does not know are skipped, and so is
// what is no element before OpenFlow 1.3, where a HELLO's body had no meaning.
func ParseHello(m Message) (Hello, error) {
	if len(m) < HeaderLen {
		return Hello{}, shortError(m)
	}
	h := Hello{Version: m.Version()}
	for b := m.Body(); len(b) >= 4; {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if (n < 4 || n > len(b)) && h.Version < OpenFlow13 {
			break
		}
		if n < 4 || n > len(b) {
			return h, fmt.Errorf("a HELLO element of %d bytes where %d are left", n, len(b))
		}
		if binary.BigEndian.Uint16(b) == helloVersionBitmap && n >= 8 {
			h.Bitmap = Versions(binary.BigEndian.Uint32(b[4:]))
		}
		b = b[min(len(b), (n+7)&^7):]
	}
	return h, nil
}

// AppendHello appends a HELLO that offers the versions of set.
func AppendHello(b []byte, xid uint32, set Versions) []byte {
	start := len(b)
	highest := Version(bits.Len32(uint32(set)) - 1)
	b = begin(b, highest, TypeHello, xid)
	if set != 1<<OpenFlow10 { // a switch of that time need not know elements
		b = be16(b, helloVersionBitmap)
		b = be16(b, 8)
		b = be32(b, uint32(set))
	}
	return finish(b, start)
}

// errNoCommonVersion is returned by Negotiate.
var errNoCommonVersion = errors.New("no common OpenFlow version")

// Negotiate returns the version that two HELLOs agree on: the highest in both
// bitmaps, else the lower of the two headers, which any bitmap must have (OpenFlow
// 1.3.5, 6.3.1). Without a bitmap a peer may still refuse a lower version.
func Negotiate(a, b Hello) (Version, error) {
	if a.Bitmap != 0 && b.Bitmap != 0 {
		if common := a.Bitmap & b.Bitmap &^ 1; common != 0 {
			return Version(bits.Len32(uint32(common)) - 1), nil
		}
		return 0, errNoCommonVersion
	}
	v := min(a.Version, b.Version)
	for _, h := range []Hello{a, b} {
		if h.Bitmap != 0 && !h.Bitmap.Has(v) {
			return 0, errNoCommonVersion
		}
	}
	return v, nil
}
