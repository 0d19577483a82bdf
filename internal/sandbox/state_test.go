package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// ownBase gives the test a base directory of its own.
func ownBase(t *testing.T) string {
	t.Helper()
	if os.Getuid() == 0 {
		dir := t.TempDir()
		return dir
	}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	dir, err := BaseDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestClaim(t *testing.T) {
	base := ownBase(t)
	a, err := claimIn(base, "lab")
	if err != nil {
		t.Fatal(err)
	}
	var running *RunningError
	if _, err := claimIn(base, "lab"); !errors.As(err, &running) || running.Name != "lab" {
		t.Errorf("a second network of the same name: %v", err)
	}
	if _, err := claimIn(base, "lab2"); err != nil {
		t.Errorf("a network of another name: %v", err)
	}
	// A keeper that was killed leaves its directory, but not its lock.
	a.close()
	b, err := claimIn(base, "lab")
	if err != nil {
		t.Fatalf("the name of a dead network: %v", err)
	}
	if err := removeState(int(b.base.Fd()), "lab"); err != nil {
		t.Error(err)
	}
	b.close()
	if _, err := os.Stat(filepath.Join(base, "lab")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory after its removal: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "net1", "My-Lab_2.0", strings.Repeat("x", 40)} {
		if err := checkName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a b", "ä", "a\x00", "$(x)", strings.Repeat("x", 41)} {
		if checkName(name) == nil {
			t.Errorf("%q is taken as a network's name", name)
		}
	}
}

func TestSubIDs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	text := "# comment\nalice:100000:65536\nbob:1:10\nbob:300000:65536\ncarol:x:65536\n1005:400000:131072\nbroken\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"1001", "alice"}, "100000 65536"},
		{[]string{"1002", "bob"}, "300000 65536"}, // the first is too small
		{[]string{"1003", "carol"}, ""},
		{[]string{"1005"}, "400000 131072"},
		{[]string{"1006", "dave"}, ""},
	} {
		if got := subIDs(file, c.names); got != c.want {
			t.Errorf("%v: %q, want %q", c.names, got, c.want)
		}
	}
	if got := subIDs(file+"-", []string{"alice"}); got != "" {
		t.Errorf("without the file: %q", got)
	}
}

func TestUndoOfOthers(t *testing.T) {
	base := ownBase(t)
	for name, undo := range map[string]string{
		"a": "net/ipv4/conf/eth0/forwarding 0\n",
		"b": "net/ipv4/conf/eth1/forwarding 0\n../../etc/passwd x\n",
		"c": "",
	} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, name, undoFile), []byte(undo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	got, err := undoOfOthers(dir, "a")
	want := map[string]string{"net/ipv4/conf/eth1/forwarding": "0"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

func TestDeviceName(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range []string{"net1", "net2", strings.Repeat("long", 10)} {
		d := deviceName(n)
		if len(d) > 15 || seen[d] || !strings.HasPrefix(d, "weft-") {
			t.Errorf("device of %s: %q", n, d)
		}
		seen[d] = true
	}
}
