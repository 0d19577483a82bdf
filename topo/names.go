package topo

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// checkName says what is wrong with a name that people give.
func checkName(name string) error {
	bad := func(r rune) bool {
		return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
	}
	switch {
	case name == "":
		return errors.New("the name is empty; write one")
	case !utf8.ValidString(name):
		return fmt.Errorf("the name %q is not valid UTF-8", name)
	case strings.HasPrefix(name, NICPrefix):
		return fmt.Errorf("the name %q begins with %s, which stands for a NIC of this machine; write another", name, NICPrefix)
	case strings.HasPrefix(name, MemifPrefix):
		return fmt.Errorf("the name %q begins with %s, which stands for a socket of a program outside; write another", name, MemifPrefix)
	case name == "." || name == "..":
		return fmt.Errorf("%q cannot be a name; write one with a letter or digit", name)
	case name[0] == '-':
		return fmt.Errorf("the name %q begins with a hyphen, as an option does; write another", name)
	case strings.ContainsFunc(name, bad):
		better := strings.Map(func(r rune) rune {
			if bad(r) {
				return '-'
			}
			return r
		}, name)
		return fmt.Errorf("the name %q has spaces, slashes or invisible characters; write for example %q", name, better)
	}
	return nil
}

// deviceLen is the longest name of a network device in bytes (IFNAMSIZ less the
// final zero of C).
const deviceLen = 15

// legalDevice reports whether the kernel takes name for a device that we make, in
// any namespace, and no program takes it for an option: the rules of the kernel's
// dev_valid_name, without '%', which stands for a number, and without what is not ASCII,
// where its isspace finds spaces.
func legalDevice(name string) bool {
	if name == "" || len(name) > deviceLen {
		return false
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || strings.IndexByte("/:%", c) >= 0 {
			return false
		}
	}
	switch name {
	case ".", "..", "all", "default", // "all" and "default" are directories of net.ipv4.conf
		"lo", "tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0": // the kernel's own
		return false
	}
	// Open vSwitch's own, and those between the ends of netem links.
	return !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, "ovs-") && !strings.HasPrefix(name, "netem~")
}

var ethSuffix = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`-eth[0-9]{1,5}$`) })

// deriveDevice makes a device name for name, which does not fit: some of its
// beginning, five characters of a hash of id, and its -ethN. Salt is for the
// rare hash that is taken.
func deriveDevice(name, id string, salt int) string {
	suffix := ethSuffix().FindString(name)
	sum := hash("device", id, salt)
	code := "_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5])[:5])
	var prefix strings.Builder
	for _, c := range []byte(strings.TrimSuffix(name, suffix)) {
		if prefix.Len() == deviceLen-len(code)-len(suffix) {
			break
		}
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			prefix.WriteByte(c)
		}
	}
	return prefix.String() + code + suffix
}

// hash returns bytes that depend on nothing but what they are for.
func hash(purpose, id string, salt int) [sha256.Size]byte {
	return sha256.Sum256([]byte(purpose + "\x00" + id + "\x00" + strconv.Itoa(salt)))
}

var digits = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[0-9]+`) })

// nameDPID returns the first number in a switch's name, as Mininet does; 0 if
// there is none that fits.
func nameDPID(name string) uint64 {
	n, err := strconv.ParseUint(digits().FindString(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// hashDPID returns a datapath ID of 48 bits for a name without a number.
func hashDPID(name string, salt int) uint64 {
	sum := hash("dpid", name, salt)
	return max(1, binary.BigEndian.Uint64(sum[:8])>>16)
}

// hashMAC returns a locally administered MAC for an interface.
func hashMAC(id string, salt int) string {
	sum := hash("mac", id, salt)
	return formatMAC(0x02<<40 | binary.BigEndian.Uint64(sum[:8])>>24)
}

// formatMAC writes the low 48 bits of n as a MAC.
func formatMAC(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[2], b[3], b[4], b[5], b[6], b[7])
}

// parseMAC checks a MAC that a person wrote and returns it in lower case.
func parseMAC(s string) (string, error) {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '-' })
	var n uint64
	for _, part := range parts {
		b, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(parts) != 6 || len(s) > 17 {
			return "", fmt.Errorf("%q is not a MAC address; write six bytes, such as 02:00:00:00:00:01", s)
		}
		n = n<<8 | b
	}
	switch {
	case len(parts) == 0:
		return "", fmt.Errorf("%q is not a MAC address; write six bytes, such as 02:00:00:00:00:01", s)
	case n == 0:
		return "", fmt.Errorf("the MAC %s stands for no address; write for example 02:00:00:00:00:01", s)
	case n>>40&1 == 1:
		return "", fmt.Errorf("the MAC %s is a multicast address; write one whose first byte is even", s)
	}
	return formatMAC(n), nil
}

// CompareNames orders names as people and Mininet do, h2 before h10; below zero: a comes first.
func CompareNames(a, b string) int {
	for a != "" && b != "" {
		i, j := digitsLen(a), digitsLen(b)
		if i > 0 && j > 0 {
			x, y := strings.TrimLeft(a[:i], "0"), strings.TrimLeft(b[:j], "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
				return c
			}
			a, b = a[i:], b[j:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digitsLen returns how many digits s begins with.
func digitsLen(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}
