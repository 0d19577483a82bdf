package nic

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A Journal is a directory with a file for each change of the machine that is to be undone,
// written before the change is made. Whoever made it keeps the file locked (flock(2)) as long as
// it is to stand; so what a killed process left is what nobody has locked.
//
//	Write ──► Record, locked ──► Undo, which removes the file
//	              └─ killed, or Release ──► Left ──► Undo
type Journal string

// MachineJournal is where weft writes what it changes of this machine. It goes with a reboot, as
// all that is in it does.
const MachineJournal Journal = "/run/weft-machine"

// An Entry is what a Record says. One of the pointers is set.
type Entry struct {
	Time time.Time `json:"time"`
	// For says for whom, in words: "network net1", "weft dpdk bind".
	For   string  `json:"for"`
	Bound *Change `json:"bound,omitempty"`
	Lent  *Lent   `json:"lent,omitempty"`
	Pages *Pages  `json:"pages,omitempty"`
}

// String says what was changed.
func (e Entry) String() string {
	switch {
	case e.Bound != nil:
		return fmt.Sprintf("the driver of %s, which was %s", e.Bound.Address, cmp.Or(e.Bound.Driver, "none"))
	case e.Lent != nil:
		return fmt.Sprintf("the NIC %s", e.Lent.Name)
	case e.Pages != nil:
		return fmt.Sprintf("the number of %s hugepages%s, which was %d", pageSize(e.Pages.Size), onNode(e.Pages.Node), e.Pages.Total)
	}
	return "nothing"
}

// A Record is an entry of the journal that this process has locked.
type Record struct {
	Entry
	file *os.File
}

// Write writes an entry down, so that it is there after a crash of the machine too (fsync(2)).
func (j Journal) Write(e Entry) (*Record, error) {
	e.Time = time.Now()
	f, err := j.create()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	r := &Record{e, f}
	if err := r.save(); err != nil {
		return nil, errors.Join(err, r.remove())
	}
	return r, nil
}

// create makes a locked file.
func (j Journal) create() (*os.File, error) {
	var f *os.File
	for {
		err := os.MkdirAll(string(j), 0o700)
		if err == nil {
			f, err = os.CreateTemp(string(j), "*"+suffix)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) { // another took its last entry out of it
			return nil, err
		}
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

const suffix = ".json"

// save writes the entry as it is now.
func (r *Record) save() error {
	b, err := json.MarshalIndent(r.Entry, "", "  ")
	if err == nil {
		_, err = r.file.WriteAt(append(b, '\n'), 0)
	}
	if err == nil {
		err = r.file.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(r.file.Name()))
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Release lets go of the entry, which stays: somebody else is to undo it.
func (r *Record) Release() error { return r.file.Close() }

// remove takes the entry out of the journal.
func (r *Record) remove() error {
	err := os.Remove(r.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	os.Remove(filepath.Dir(r.file.Name())) // if it is empty
	return errors.Join(err, r.file.Close())
}

// Entries returns what the journal says, newest first.
func (j Journal) Entries() ([]Entry, error) {
	var list []Entry
	err := j.each(func(f *os.File, e Entry) error {
		list = append(list, e)
		return f.Close()
	})
	slices.SortFunc(list, newestFirst)
	return list, err
}

func newestFirst(a, b Entry) int { return b.Time.Compare(a.Time) }

// Left returns the entries that nobody holds, newest first, and locks them.
func (j Journal) Left(want func(Entry) bool) ([]*Record, error) {
	var list []*Record
	err := j.each(func(f *os.File, e Entry) error {
		if !want(e) || unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return f.Close()
		}
		if _, err := os.Lstat(f.Name()); err != nil {
			return f.Close() // it was undone in the meantime
		}
		list = append(list, &Record{e, f})
		return nil
	})
	slices.SortFunc(list, func(a, b *Record) int { return newestFirst(a.Entry, b.Entry) })
	return list, err
}

// each calls f for each entry that can be read, with its file, which f closes.
func (j Journal) each(f func(*os.File, Entry) error) error {
	names, err := filepath.Glob(filepath.Join(string(j), "*"+suffix))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("journal: %w", err))
			continue
		}
		var e Entry
		b, err := io.ReadAll(file)
		if len(b) == 0 && err == nil {
			// It is being written, or its writer was killed before anything was changed.
			errs = append(errs, j.dropEmpty(file))
			continue
		}
		if err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil {
			file.Close()
			errs = append(errs, fmt.Errorf("journal: %s: %w; if nothing of this machine's is out of place, remove it", name, err))
			continue
		}
		errs = append(errs, f(file, e))
	}
	return errors.Join(errs...)
}

// dropEmpty removes an empty file that nobody has locked.
func (j Journal) dropEmpty(f *os.File) error {
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	st, err := f.Stat()
	if err != nil || st.Size() > 0 || time.Since(st.ModTime()) < time.Minute {
		return err // it may be about to be locked
	}
	return os.Remove(f.Name())
}

// Undo puts back what the entry says and takes it out of the journal. If that fails it stays
// there, for another try.
func (r *Record) Undo(ctx context.Context, machine Root) error {
	var err error
	switch {
	case r.Bound != nil:
		err = machine.Restore(ctx, *r.Bound)
	case r.Lent != nil:
		err = r.Lent.restore(ctx)
	case r.Pages != nil:
		err = machine.setPages(*r.Pages)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("put back %s: %w", r.Entry, err), r.Release())
	}
	return r.remove()
}

// Restore undoes all that nobody holds, newest first, and says what: NICs and hugepages that were
// changed by hand, too, unless a process has the card open.
func (j Journal) Restore(ctx context.Context, machine Root) (done []string, err error) {
	left, err := j.Left(func(Entry) bool { return true })
	errs := []error{err}
	for _, r := range left {
		if r.Bound != nil {
			if n, err := machine.Card(r.Bound.Address); err == nil && len(n.Users) > 0 {
				errs = append(errs, fmt.Errorf("%s stays with the driver %s: %s uses it; end that first", n.Address, n.Driver, n.Users[0]), r.Release())
				continue
			}
		}
		what := r.String()
		if err := r.Undo(ctx, machine); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, what)
	}
	return done, errors.Join(errs...)
}
