package topo

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// An NFKind is what must be known of an NF that comes with weft to check a description without
// running it. The NFs themselves are in dpdkhost/nf/builtin, and a test there compares.
type NFKind struct {
	Name string
	// Reads and Writes are its flags whose values are files.
	Reads, Writes []string
	// Alone says why a service of it has one instance; "" if it may have several.
	Alone string
	// Shared is a flag with the value with which it may have several all the same.
	Shared, SharedValue string
}

// NFKinds lists the NFs that come with weft, by name.
func NFKinds() []NFKind {
	const numbers = "instances with one key would number packets apart, and a number used twice tells the text"
	return []NFKind{
		{Name: "arp"},
		{Name: "balancer"},
		{Name: "bridge"},
		{Name: "decrypt", Reads: []string{"key-file"}, Alone: "an instance would not know the packets that another has seen, and replays would pass"},
		{Name: "encrypt", Reads: []string{"key-file"}, Alone: numbers},
		{Name: "firewall", Reads: []string{"rules"}},
		{Name: "forward"},
		{Name: "generator"},
		{Name: "limiter", Alone: "each instance would let the whole rate pass", Shared: "per", SharedValue: "flow"},
		{Name: "monitor"},
		{Name: "nat", Alone: "instances would give the same ports to different connections, and answers would find the wrong one"},
		{Name: "pcap", Writes: []string{"file"}},
		{Name: "router"},
		{Name: "scan", Reads: []string{"patterns"}},
		{Name: "speed"},
		{Name: "tracker", Writes: []string{"export"}},
	}
}

// FindNFKind returns the NF of a name that comes with weft.
func FindNFKind(name string) (NFKind, error) {
	var names []string
	for _, k := range NFKinds() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	hint := "there are " + strings.Join(names, ", ")
	if near := Nearest(name, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return NFKind{}, fmt.Errorf("no NF %q comes with weft; %s", name, hint)
}

// kind is what is known of an NF; nothing of a program of the user's.
func (n NF) kind() NFKind {
	if !n.Builtin() {
		return NFKind{Name: n.Name}
	}
	k, _ := FindNFKind(n.Name) // others are refused elsewhere
	return k
}

// Alone says why the NF's service has one instance; "" if it may have several.
func (n NF) Alone() string {
	k := n.kind()
	if k.Shared != "" {
		if v := n.values(k.Shared); len(v) > 0 && n.flagValue(v[len(v)-1]) == k.SharedValue {
			return ""
		}
		return fmt.Sprintf("%s; write --%s %s for a rate of each flow", k.Alone, k.Shared, k.SharedValue)
	}
	return k.Alone
}

// checkAlone says which NFs share a service with others, though they must not.
func checkAlone(nfs []NF) (errs []error) {
	for i, n := range nfs {
		why := n.Alone()
		if why == "" {
			continue
		}
		instances := 0
		for j, o := range nfs {
			if o.Service != n.Service {
				continue
			}
			if j < i && o.Alone() != "" {
				instances = 0 // said of the one before
				break
			}
			instances += max(o.Instances, 1)
		}
		if instances > 1 {
			errs = append(errs, fmt.Errorf("%s: service %d would have %d instances, and of this NF there can be one only: %s", n.Name, n.Service, instances, why))
		}
	}
	return errs
}

// values returns the places among the arguments at which the values of a flag are: those of
// "--flag=value" too.
func (n NF) values(flag string) (at []int) {
	for i, a := range n.Args {
		switch {
		case a == "--"+flag && i+1 < len(n.Args):
			at = append(at, i+1)
		case strings.HasPrefix(a, "--"+flag+"="):
			at = append(at, i)
		}
	}
	return at
}

// flagValue is the value at a place that values returned.
func (n NF) flagValue(at int) string {
	if _, v, ok := strings.Cut(n.Args[at], "="); ok && strings.HasPrefix(n.Args[at], "--") {
		return v
	}
	return n.Args[at]
}

// An NFFile is a file that the arguments of an NF name.
type NFFile struct {
	Flag, Path string
	Write      bool // it is written, not read
}

// Files lists the files that the arguments of an NF that comes with weft name.
func (n NF) Files() (files []NFFile) {
	n.eachFile(func(flag string, write bool, at int) {
		files = append(files, NFFile{flag, n.flagValue(at), write})
	})
	return files
}

func (n NF) eachFile(f func(flag string, write bool, at int)) {
	k := n.kind()
	for i, flag := range slices.Concat(k.Reads, k.Writes) {
		for _, at := range n.values(flag) {
			if n.flagValue(at) != "" {
				f(flag, i >= len(k.Reads), at)
			}
		}
	}
}

// Under returns the NF with its relative paths taken from a directory: those of the files that it
// reads and writes, the directory in which a program of the user's runs, and a container's.
func (n NF) Under(dir string) NF {
	if n.Command != "" && !n.Contained() && !filepath.IsAbs(n.Dir) {
		n.Dir = filepath.Join(dir, n.Dir)
	}
	if n.RootFS != "" && !filepath.IsAbs(n.RootFS) {
		n.RootFS = filepath.Join(dir, n.RootFS)
	}
	return n.Rename(func(path string, _ bool) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	})
}

// Rename returns the NF with other paths of the files that it reads and writes.
func (n NF) Rename(to func(path string, write bool) string) NF {
	n.Args = slices.Clone(n.Args)
	n.eachFile(func(flag string, write bool, at int) {
		old := n.flagValue(at)
		n.Args[at] = strings.TrimSuffix(n.Args[at], old) + to(old, write)
	})
	return n
}

// Whole says which paths of an NF are relative, which a network that runs could not find: its
// directory is another.
func (n NF) Whole() error {
	for _, f := range n.Files() {
		if !filepath.IsAbs(f.Path) {
			return fmt.Errorf("%s: --%s: write the whole path of the file %s", n.Name, f.Flag, f.Path)
		}
	}
	if n.Dir != "" && !filepath.IsAbs(n.Dir) {
		return fmt.Errorf("%s: dir: write the whole path of the directory %s", n.Name, n.Dir)
	}
	return nil
}

// Program returns the program that a command of the user's names by a path, "" if it names none or
// the shell has more to do with its first word than to cut it off.
func (n NF) Program() string {
	if n.Contained() { // its own file system is another
		return ""
	}
	word, _, _ := strings.Cut(strings.TrimSpace(n.Command), " ")
	if !strings.Contains(word, "/") || strings.ContainsAny(word, "'\"\\$`~*?[(){};&|<>=#!") {
		return ""
	}
	return word
}

var errDirOfCommand = errors.New("dir is where a command of your own runs, not in a container; leave it out")
