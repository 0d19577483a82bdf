package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Names of logs that are no node's.
const (
	LogEngine  = "engine" // weft's own
	LogServer  = "ovsdb-server"
	LogVSwitch = "ovs-vswitchd"
)

// maxLog bounds the file of a node's log, bytes; one older of the same size is kept.
const maxLog = 4 << 20

// A LogInfo is a log that there is.
type LogInfo struct {
	// Name is a node's, or one of the Log constants.
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// logs are those of nodes: what controllers and the commands of the network's description
// write.
type logs struct {
	mu    sync.Mutex
	files map[string]*nodeLog
}

// A nodeLog is the log of one node, in a file that is made with the first write.
type nodeLog struct {
	path string
	mu   sync.Mutex
	file *os.File
	size int64
}

// log returns where what is written on a node's behalf goes.
func (n *Network) log(name string) io.Writer {
	n.logs.mu.Lock()
	defer n.logs.mu.Unlock()
	if n.logs.files == nil {
		n.logs.files = map[string]*nodeLog{}
	}
	l := n.logs.files[name]
	if l == nil {
		l = &nodeLog{path: filepath.Join(n.env.Dir, "log", name)}
		n.logs.files[name] = l
	}
	return l
}

// Write appends to the file, and begins another when it is full.
func (l *nodeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > maxLog {
		l.file.Close()
		l.file, l.size = nil, 0
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return 0, err
		}
	}
	if l.file == nil {
		if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
			return 0, err
		}
		var err error
		if l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return 0, err
		}
	}
	k, err := l.file.Write(p)
	l.size += int64(k)
	return k, err
}

// logPath returns the file of a log.
func (n *Network) logPath(name string) string {
	switch name {
	case LogEngine:
		return "/proc/self/fd/2" // the file lies below what covers the state directory here
	case LogServer, LogVSwitch:
		return filepath.Join(n.ovsDir(), name+".log")
	}
	if nf := n.nfLogs()[name]; nf != "" {
		return nf
	}
	return filepath.Join(n.env.Dir, "log", name)
}

// nfLogs are the files of what NFs wrote, by the names of these logs: NODE/NF-1.
func (n *Network) nfLogs() map[string]string {
	n.mu.Lock()
	switches := n.plan.Switches
	n.mu.Unlock()
	logs := map[string]string{}
	for _, sw := range switches {
		if sw.DPDK == nil {
			continue
		}
		files, _ := filepath.Glob(filepath.Join(n.dpdkDir(sw), "*.log"))
		for _, f := range files {
			logs[sw.Name+"/"+strings.TrimSuffix(filepath.Base(f), ".log")] = f
		}
	}
	return logs
}

// Logs lists the logs that there are.
func (n *Network) Logs() []LogInfo {
	names := []string{LogEngine, LogServer, LogVSwitch}
	n.logs.mu.Lock()
	for name := range n.logs.files {
		names = append(names, name)
	}
	n.logs.mu.Unlock()
	names = slices.AppendSeq(names, maps.Keys(n.nfLogs()))
	slices.Sort(names[3:])
	list := []LogInfo{}
	for _, name := range names {
		if st, err := os.Stat(n.logPath(name)); err == nil && st.Mode().IsRegular() {
			list = append(list, LogInfo{name, st.Size()})
		}
	}
	return list
}

// A LogRequest says which of a log to read.
type LogRequest struct {
	Name string
	// Tail is how many of the last lines; negative: all.
	Tail int
	// Follow goes on with what is written from then on.
	Follow bool
}

// followEvery is how long what is new in a log may wait to be seen.
const followEvery = 100 * time.Millisecond

// ReadLog copies a log to w until its end; with Follow until ctx or the network ends, or w
// fails.
func (n *Network) ReadLog(ctx context.Context, r LogRequest, w io.Writer) error {
	f, err := n.openLog(r.Name)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	if r.Tail >= 0 {
		if err := seekTail(f, r.Tail); err != nil {
			return fmt.Errorf("log %s: %w", r.Name, err)
		}
	}
	for {
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		if !r.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.ended:
			_, err := io.Copy(w, f)
			return err
		case <-time.After(followEvery):
		}
		if next := n.replaced(f, r.Name); next != nil {
			_, err := io.Copy(w, f)
			f.Close()
			f = next
			if err != nil {
				return err
			}
		}
	}
}

// openLog opens a log; one that is still to be written is empty.
func (n *Network) openLog(name string) (*os.File, error) {
	known := slices.ContainsFunc(n.Logs(), func(l LogInfo) bool { return l.Name == name })
	_, nodes, _ := n.Brief()
	if !known && !slices.Contains(slices.Concat(nodes.Hosts, nodes.Switches, nodes.Controllers), name) {
		var names []string
		for _, l := range n.Logs() {
			names = append(names, l.Name)
		}
		return nil, fmt.Errorf("%w and no log is called %q; there are logs of %s", ErrNoNode, name, strings.Join(names, ", "))
	}
	f, err := os.Open(n.logPath(name))
	if errors.Is(err, os.ErrNotExist) {
		return os.Open(os.DevNull)
	}
	return f, err
}

// replaced opens the file that has taken the place of f, if one has.
func (n *Network) replaced(f *os.File, name string) *os.File {
	next, err := os.Open(n.logPath(name))
	if err != nil {
		return nil
	}
	var a, b unix.Stat_t
	if unix.Fstat(int(f.Fd()), &a) == nil && unix.Fstat(int(next.Fd()), &b) == nil && (a.Ino != b.Ino || a.Dev != b.Dev) {
		return next
	}
	next.Close()
	return nil
}

// seekTail goes to where the last lines of a file begin.
func seekTail(f *os.File, lines int) error {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil || lines == 0 || at == 0 {
		return err
	}
	at-- // the last byte ends the last line, or is of it
	buf := make([]byte, 64<<10)
	for at > 0 {
		size := min(int64(len(buf)), at)
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil {
			return err
		}
		for i := bytes.LastIndexByte(buf[:size], '\n'); i >= 0; i = bytes.LastIndexByte(buf[:i], '\n') {
			if lines--; lines == 0 {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
