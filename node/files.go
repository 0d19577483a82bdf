package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"weft/topo"
)

// Files of a host are seen by its programs alone. One that the machine has too is covered by
// a bind mount. Where the machine has none, an overlay file system lies over the nearest directory that
// there is: what programs of the host write there from then on is the host's own too.

// putFiles puts the host's files into the calling thread's mount namespace. Those in private
// directories follow later: putPrivateFiles.
func (h *Host) putFiles() error {
	var covers []topo.File
	layers := map[string][]topo.File{} // directory of the machine to files below it
	for _, f := range h.cfg.Files {
		if h.isPrivate(f.Path) {
			continue
		}
		switch st, err := os.Stat(f.Path); {
		case err == nil && !st.Mode().IsRegular():
			return fmt.Errorf("file %s: the machine has something there that is no file; choose another path", f.Path)
		case err == nil:
			covers = append(covers, f)
			continue
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
		dir, err := nearest(f.Path)
		if err != nil {
			return err
		}
		layers[dir] = append(layers[dir], f)
	}
	for _, dir := range outermost(layers) {
		if err := h.overlay(dir, layers[dir]); err != nil {
			return err
		}
	}
	for _, f := range covers {
		if err := h.cover(f); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}

// nearest returns the nearest directory above path that the machine has.
func nearest(path string) (string, error) {
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		switch {
		case err == nil && st.IsDir():
			return filepath.EvalSymlinks(dir)
		case err == nil:
			return "", fmt.Errorf("file %s: %s is no directory; choose another path", path, dir)
		}
	}
	top, _, _ := strings.Cut(path[1:], "/")
	return "", fmt.Errorf("file %s: this machine has no directory /%s; choose a path below one that it has, such as /etc, /srv or /var", path, top)
}

// outermost moves the files of directories in others to those, and returns the directories
// that are left, sorted.
func outermost(layers map[string][]topo.File) []string {
	var dirs []string
	for dir := range layers {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	var outer []string
	for _, dir := range dirs {
		i := slices.IndexFunc(outer, func(o string) bool { return strings.HasPrefix(dir, o+"/") })
		if i < 0 {
			outer = append(outer, dir)
			continue
		}
		layers[outer[i]] = append(layers[outer[i]], layers[dir]...)
	}
	return outer
}

// scratchDir makes a directory for the host's files in the network's own.
func (h *Host) scratchDir() (string, error) {
	if err := os.MkdirAll(h.cfg.FilesDir, 0o711); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(h.cfg.FilesDir, "")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	return dir, err
}

// overlay lays files over a directory.
func (h *Host) overlay(dir string, files []topo.File) error {
	fail := func(err error) error { return fmt.Errorf("files below %s: %w", dir, err) }
	base, err := h.scratchDir()
	if err != nil {
		return fail(err)
	}
	upper, work := filepath.Join(base, "upper"), filepath.Join(base, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return fail(err)
	}
	if st, err := os.Stat(dir); err == nil {
		os.Chmod(upper, st.Mode())
	}
	for _, f := range files {
		// Symbolic links on the way to the directory are resolved in dir alone.
		real, err := filepath.EvalSymlinks(existing(f.Path))
		if err != nil {
			return fail(err)
		}
		rel, err := filepath.Rel(dir, real+strings.TrimPrefix(f.Path, existing(f.Path)))
		if err != nil || !filepath.IsLocal(rel) {
			return fmt.Errorf("file %s: its directory is behind a symbolic link; write %s", f.Path, real)
		}
		if err := writeFile(filepath.Join(upper, rel), f); err != nil {
			return fail(err)
		}
	}
	escape := strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`)
	options := "lowerdir=" + escape.Replace(dir) + ",upperdir=" + escape.Replace(upper) + ",workdir=" + escape.Replace(work)
	// A user namespace's root may not write trusted.* attributes, and has to say userxattr.
	err = unix.Mount("weft", dir, "overlay", 0, options)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		err = unix.Mount("weft", dir, "overlay", 0, options+",userxattr")
	}
	if errors.Is(err, unix.ENODEV) {
		err = errors.New("the kernel has no overlay file system; give a path that the machine has a file at")
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// existing is the part of a path that there is.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

// cover mounts a file over the one that the machine has.
func (h *Host) cover(f topo.File) error {
	base, err := h.scratchDir()
	if err != nil {
		return err
	}
	own := filepath.Join(base, "file")
	if err := writeFile(own, f); err != nil {
		return err
	}
	return unix.Mount(own, f.Path, "", unix.MS_BIND, "")
}

// writeFile writes a file and the directories that lead to it.
func writeFile(path string, f topo.File) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := f.Mode
	if mode == 0 {
		mode = topo.DefaultFileMode
	}
	if err := os.WriteFile(path, f.Bytes(), os.FileMode(mode)); err != nil {
		return err
	}
	return os.Chmod(path, os.FileMode(mode)) // whatever the umask is
}

// isPrivate reports whether a path is in one of the host's private directories.
func (h *Host) isPrivate(path string) bool {
	return slices.ContainsFunc(h.cfg.PrivateDirs, func(dir string) bool {
		return strings.HasPrefix(path, filepath.Clean(dir)+"/")
	})
}

// putPrivateFiles writes the files that are in private directories, which are mounted.
func (h *Host) putPrivateFiles() error {
	for _, f := range h.cfg.Files {
		if !h.isPrivate(f.Path) {
			continue
		}
		if err := writeFile(f.Path, f); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}
