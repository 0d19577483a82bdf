package experiment

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"weft/topo"
)

// A file from a stranger changes nothing but its results, unless the user allows it. What its
// commands do is bounded where they run (internal/confine); this is about what weft itself
// would do for it.

// filesDir is the directory, in that of a trial, that programs on nodes write to.
const filesDir = "files"

// harmless says what of the experiment needs to be allowed.
func harmless(jobs []job) error {
	var errs []error
	seen := map[string]bool{}
	for _, j := range jobs {
		for _, err := range j.plan.NeedsTrust() {
			if !seen[err.Error()] {
				seen[err.Error()] = true
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// recordTo makes the records of links, named without a directory, files of the results; and so the
// files that NFs write at home, the directory of the experiment's file.
func recordTo(p *topo.Plan, dir, home string) {
	for i := range p.Switches {
		d := p.Switches[i].DPDK.Clone()
		if d == nil {
			continue
		}
		for k := range d.NFs {
			d.NFs[k] = d.NFs[k].Under(home).Rename(func(path string, write bool) string {
				if below, err := filepath.Rel(home, path); write && err == nil && filepath.IsLocal(below) {
					return filepath.Join(dir, filesDir, filepath.Base(below))
				}
				return path
			})
		}
		p.Switches[i].DPDK = d
	}
	for i := range p.Links {
		if r := &p.Links[i].Record; *r != "" && filepath.IsLocal(*r) {
			*r = filepath.Join(dir, *r)
		}
	}
}

// maxListed bounds how many files of programs are listed.
const maxListed = 1000

// listFiles adds what programs wrote to the files of the results.
func (t *Trial) listFiles() {
	n := 0
	filepath.WalkDir(filepath.Join(t.Dir, filesDir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || n == maxListed {
			return fs.SkipAll
		}
		if d.Type().IsRegular() {
			n++
			t.addFile(strings.TrimPrefix(path, t.Dir+string(filepath.Separator)))
		}
		return nil
	})
}
