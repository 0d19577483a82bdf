// Package scaffold writes what a network function (NF) of a user's own begins with: a sample and
// what it needs to be built, without a network. It may import dpdkhost.
package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"weft/dpdkhost"
)

// Languages are those that an NF can be begun in.
func Languages() []string { return []string{"go", "c"} }

// New writes an NF into a directory, which is made, or is empty.
func New(dir, language string) error {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("%s is not empty; to renew only what comes from weft in it, say --library", dir)
	}
	files, err := sample(dir, language)
	if err != nil {
		return err
	}
	lib, err := library(language)
	if err != nil {
		return err
	}
	return write(dir, append(files, lib...))
}

// Library writes anew what comes from weft into the directory of an NF, after another version
// of weft was installed. What the user wrote stays as it is. It returns the language.
func Library(dir string) (language string, err error) {
	for _, l := range Languages() {
		lib, err := library(l)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(filepath.Join(dir, lib[0].name)); err == nil {
			return l, write(dir, lib)
		}
	}
	return "", fmt.Errorf("%s has no NF in it that weft nf new has made", dir)
}

// A file has a name below the directory, with slashes.
type file struct {
	name string
	text []byte
}

func write(dir string, list []file) error {
	for _, f := range list {
		to := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, f.text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goVersion is the oldest version of Go that the library is written for.
const goVersion = "1.22"

// library returns what comes from weft. The first file tells that it is there.
func library(language string) ([]file, error) {
	if language == "c" {
		text, err := fs.ReadFile(dpdkhost.Sources(), "nf/c/weft_nf.h")
		return []file{{"weft_nf.h", text}}, err
	}
	list := []file{{"weft/go.mod", []byte("module weft\n\ngo " + goVersion + "\n")}}
	for _, pattern := range []string{"shm/*.go", "nf/*.go"} {
		names, err := fs.Glob(dpdkhost.Sources(), pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			// What the manager alone needs has needs of its own.
			if strings.HasSuffix(name, "_test.go") || name == "shm/make.go" {
				continue
			}
			text, err := fs.ReadFile(dpdkhost.Sources(), name)
			if err != nil {
				return nil, err
			}
			list = append(list, file{path.Join("weft/dpdkhost", name), text})
		}
	}
	return list, nil
}

// sample returns the files that the user is to change.
func sample(dir, language string) ([]file, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	name := moduleName(dir)
	program := filepath.Join(dir, name)
	from, to, build := "nf/sample/main.go", "main.go", []file{
		{"go.mod", []byte("module example.com/" + name + "\n\ngo " + goVersion + "\n\nrequire weft v0.0.0\n\nreplace weft => ./weft\n")},
		{"README.md", []byte(fmt.Sprintf(readme, name, "go build", "weft/", program))},
	}
	switch language {
	case "go":
	case "c":
		from, to = "nf/c/main.c", "main.c"
		build = []file{
			{"Makefile", []byte(fmt.Sprintf("%[1]s: main.c weft_nf.h\n\t$(CC) -std=c99 -O2 -Wall -Wextra -o $@ main.c\n\nclean:\n\trm -f %[1]s\n", name))},
			{"README.md", []byte(fmt.Sprintf(readme, name, "make", "weft_nf.h", program))},
		}
	default:
		return nil, fmt.Errorf("language %q: there is %s", language, strings.Join(Languages(), " and "))
	}
	text, err := fs.ReadFile(dpdkhost.Sources(), from)
	return append(build, file{to, text}), err
}

const readme = `# %[1]s, a network function

    %[2]s

Then in a topology file:

    hosts: h1 h2
    dpdk:
      nf1:
        nfs: [{name: %[1]s, command: %[4]s}, bridge]
    links: [h1 -- nf1, nf1 -- h2]

or, in a network that runs:

    weft nf start %[1]s --command %[4]s

What is in ` + "`%[3]s`" + ` comes from weft; ` + "`weft nf new --library .`" + ` renews it.
`

// moduleName makes a name of a directory's.
func moduleName(dir string) string {
	name := strings.Trim(regexp.MustCompile(`[^a-zA-Z0-9_-]+`).ReplaceAllString(filepath.Base(dir), "-"), "-_")
	if name == "" {
		return "nf"
	}
	return name
}
