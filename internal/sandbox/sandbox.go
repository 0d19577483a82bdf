// Package sandbox holds a network in namespaces that die with their keeper.
//
//	outside                               inside
//	keeper ── lifeline (pipe) ──────────► init: PID 1, reaps, ends with the keeper
//	       ◄─ broker (seqpacket, fds) ──► engine: runs the network, serves the API
//
// The keeper is the user's process. Init is the first process of new mount, PID and
// network namespaces (and a user namespace, if the user is not root). When the keeper
// goes, however it goes, the lifeline ends, init ends, and the kernel ends everything
// inside. When init goes, the keeper learns it from wait(2).
//
// The broker is the only way out of the sandbox: the engine asks for a connection,
// a listener, a process or a NIC of the user's own namespaces and gets file descriptors.
//
// It may import dpdkhost/nic, which imports nothing of weft.
package sandbox

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// argv[0] of the processes that this package starts.
const (
	initName   = "weft-init"
	engineName = "weft-engine"
	keeperName = "weft-keeper" // one that lives on when the user's process has ended
	runName    = "weft-run"    // supervisor of a process outside
	lendName   = "weft-lend"   // lender of a NIC
)

// File descriptors that init inherits; the engine gets those up to fdBroker.
const (
	fdListener = 3 + iota // API listener; init makes it
	fdBroker              // engine's end of the broker
	fdLifeline            // read end of the keeper's pipe
	fdBase                // directory that holds the state directory
	fdOutside             // the keeper's network namespace
	fdMapped              // readable once the user namespace's ids are mapped
	fdEnd
)

// An Inside is what the engine finds in its sandbox.
type Inside struct {
	// Name is the network's name.
	Name string
	// Dir is a directory in memory that only this sandbox sees.
	Dir string
	// Rootless says that the sandbox is in a user namespace.
	Rootless bool
	// Listener is the API's, in the user's namespaces.
	Listener net.Listener
	// Broker reaches the user's namespaces.
	Broker *Broker
}

// Main runs this process as a sandbox's init or engine and does not return, if it
// was started as one (or as the supervisor of a process outside, or the lender of a NIC). It must be the first thing that main does.
func Main(engine func(Inside) error) {
	var err error
	switch os.Args[0] {
	case initName:
		err = initMain(os.Args[1:])
	case engineName:
		err = engineMain(os.Args[1:], engine)
	case keeperName:
		err = keeperMain(os.Args[1:])
	case runName:
		err = superviseMain(os.Args[1:])
	case lendName:
		err = lendMain(os.Args[1:])
	default:
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(1)
	}
	os.Exit(0)
}

func engineMain(args []string, engine func(Inside) error) error {
	if len(args) != 3 {
		return fmt.Errorf("started by hand; run weft instead")
	}
	withstandSignals()
	f := os.NewFile(fdListener, "api")
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("API listener: %w", err)
	}
	f.Close()
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	b, err := newBroker(fdBroker)
	if err != nil {
		return err
	}
	return engine(Inside{
		Name: args[0], Dir: args[1], Rootless: args[2] == "rootless",
		Listener: l, Broker: b,
	})
}

// withstandSignals lets signals that a terminal or its end causes pass without effect on this
// process. It catches rather than ignores them, because what is ignored, by this process or
// by who started it (nohup, the background jobs of scripts), is ignored by all programs that
// it starts, who want their Ctrl-C.
func withstandSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE)
}

// tail returns the last n lines of what r holds.
func tail(r io.ReaderAt, size int64, n int) string {
	const most = 16 << 10
	off := max(0, size-most)
	buf := make([]byte, size-off)
	k, _ := r.ReadAt(buf, off)
	lines := strings.Split(strings.TrimSpace(string(buf[:k])), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func closeOnExec(fds ...int) {
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
}
