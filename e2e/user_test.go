package e2e

import (
	"fmt"
	"os"
	osuser "os/user"
	"strconv"
	"strings"
	"testing"
)

// A user is somebody who runs weft.
type user struct {
	name     string
	uid, gid int
}

func (u user) root() bool { return u.uid == 0 }

var (
	rootUser = user{"root", 0, 0}
	// nobody has no entry in /etc/subuid.
	nobody = user{"nobody", 65534, 65534}
)

// eachUser runs a test as root and as an ordinary user, or as whoever runs the tests.
func eachUser(t *testing.T, f func(t *testing.T, u user)) {
	t.Helper()
	list := []user{{"user", os.Getuid(), os.Getgid()}}
	if os.Geteuid() == 0 {
		list = []user{rootUser, nobody}
	}
	for _, u := range list {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			f(t, u)
		})
	}
}

// ordinary returns an ordinary user.
func ordinary() user {
	if os.Geteuid() == 0 {
		return nobody
	}
	return user{"user", os.Getuid(), os.Getgid()}
}

// needRoot skips the test unless the tests run as root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the tests do not run as root")
	}
}

// withSubIDs returns a user who has a range of further user IDs.
func withSubIDs() (user, error) {
	text, err := os.ReadFile("/etc/subuid")
	if err != nil {
		return user{}, err
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		if u, err := osuser.Lookup(name); err == nil {
			uid, err1 := strconv.Atoi(u.Uid)
			gid, err2 := strconv.Atoi(u.Gid)
			if err1 == nil && err2 == nil {
				return user{name, uid, gid}, nil
			}
		}
	}
	return user{}, fmt.Errorf("/etc/subuid names no user of this machine")
}
