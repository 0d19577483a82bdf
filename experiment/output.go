package experiment

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

const (
	// maxKept bounds what of a program's output expectations see, bytes.
	maxKept = 1 << 20
	// maxLogged bounds its log: a program gone wild fills no disk.
	maxLogged = 64 << 20
)

// An output takes what a program writes: the first of it for expectations, more of it for
// a log among the results, which is made when there is something to log.
type output struct {
	path, name string
	trial      *Trial

	mu     sync.Mutex
	kept   []byte
	file   *os.File
	size   int64
	failed bool
}

// output returns an output with a log of that name below the trial's directory.
func (t *Trial) output(name string) *output {
	return &output{path: filepath.Join(t.Dir, name), name: name, trial: t}
}

// Write takes all, whatever becomes of the log: the program is not to blame.
func (o *output) Write(p []byte) (int, error) {
	if err := o.take(p); err != nil {
		o.trial.Note("log %s: %v", o.name, err)
	}
	return len(p), nil
}

// take keeps and logs p. An error ends the log, and is returned once.
func (o *output) take(p []byte) (err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := maxKept - len(o.kept); room > 0 {
		o.kept = append(o.kept, p[:min(room, len(p))]...)
	}
	if o.failed || len(p) == 0 {
		return nil
	}
	defer func() { o.failed = err != nil }()
	if o.file == nil {
		if err := os.MkdirAll(filepath.Dir(o.path), 0o777); err != nil {
			return err
		}
		if o.file, err = os.OpenFile(o.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
			return err
		}
		o.trial.addFile(o.name)
	}
	room := min(int64(len(p)), maxLogged-o.size)
	n, err := o.file.Write(p[:room])
	o.size += int64(n)
	if err == nil && room < int64(len(p)) {
		err = fmt.Errorf("it is cut at %d MiB", maxLogged>>20)
	}
	return err
}

// resultFile returns the path of a file among the trial's results, by its name.
func (t *Trial) resultFile(name string) (string, error) {
	if name == "" || !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q is no file of the results; write a name without a directory", name)
	}
	return filepath.Join(t.Dir, name), nil
}

// text returns what was written, the first maxKept bytes.
func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.kept)
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		o.file.Close()
	}
}
