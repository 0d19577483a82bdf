package nic

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A User is a process that has a card open.
type User struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

func (u User) String() string { return fmt.Sprintf("%s (%d)", u.Name, u.PID) }

// users returns the processes that have a card open, by the last element of its file's name:
// /dev/vfio/GROUP, /dev/uioN. Those of other users are not to be seen without root.
func (r Root) users() map[string][]User {
	users := map[string][]User{}
	links, _ := filepath.Glob(r.path("proc/[0-9]*/fd/*"))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		name := filepath.Base(target)
		isGroup := strings.HasPrefix(target, "/dev/vfio/") && name != "vfio"
		name = strings.TrimPrefix(name, "noiommu-")
		if !isGroup && !strings.HasPrefix(target, "/dev/uio") {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		who := User{pid, Root(dir).text("comm")}
		if list := users[name]; len(list) == 0 || list[len(list)-1] != who {
			users[name] = append(list, who)
		}
	}
	return users
}
