package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/nic"
)

// A NIC is lent by a process of its own outside, the lender, which outlives the keeper, init
// and the engine however they end:
//
//	engine ── Request, namespace ──► keeper ── starts ──► lender: writes down, lends
//	engine ◄──────────────── Lease ────────────────────── lender
//	engine ── end of the connection, of whatever cause ─► lender: puts back, ends
//
// What a lender that is killed itself leaves is in the journal, for `weft clean`.

// A Lease is a NIC of the machine's that this network has.
type Lease struct {
	nic.Lease
	nic  string // as it was asked for
	conn *net.UnixConn
	said *bufio.Reader
}

// returnTimeout bounds the wait for a NIC to be put back: as long as its driver may take.
const returnTimeout = 40 * time.Second

// Lend asks for a NIC of the user's own network, whose interface comes to the network namespace
// with descriptor fd.
func (b *Broker) Lend(ctx context.Context, fd int, q nic.Request) (*Lease, error) {
	msg, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	r, err := b.do(ctx, request{Op: opLend, Argv: []string{string(msg)}, FD: fd})
	if err != nil {
		return nil, err
	}
	c, err := net.FileConn(r.fd)
	r.fd.Close()
	if err != nil {
		return nil, err
	}
	l := &Lease{nic: q.NIC, conn: c.(*net.UnixConn), said: bufio.NewReader(c)}
	defer context.AfterFunc(ctx, func() { l.conn.SetReadDeadline(time.Now()) })()
	var a lenderAnswer
	if err := l.hear(&a); err != nil {
		l.conn.Close()
		return nil, fmt.Errorf("the lender of %s does not answer: %w", q.NIC, err)
	}
	if a.Error != "" {
		l.conn.Close()
		return nil, errors.New(a.Error)
	}
	l.Lease = a.Lease
	return l, nil
}

// hear reads what the lender says.
func (l *Lease) hear(a *lenderAnswer) error {
	line, err := l.said.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, a)
}

// Close gives the NIC back and waits until it is what it was.
func (l *Lease) Close() error {
	defer l.conn.Close()
	l.conn.CloseWrite()
	l.conn.SetReadDeadline(time.Now().Add(returnTimeout))
	var a lenderAnswer
	switch err := l.hear(&a); {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the process that was to put back the NIC %s was killed; `weft clean` does it", l.nic)
	case err != nil:
		return fmt.Errorf("the NIC %s is not back after %v; `weft clean` tries again", l.nic, returnTimeout)
	case a.Error != "":
		return errors.New(a.Error)
	}
	return nil
}

// A lenderAnswer is a line that the lender writes: when it has lent, and when it has put back.
type lenderAnswer struct {
	nic.Lease
	Error string `json:"error,omitempty"`
}

// Descriptors that a lender inherits.
const (
	fdBorrower  = 3 // whose end ends the loan
	fdNamespace = 4 // to which interfaces go
)

// lend is the keeper's part of Lend.
func (s *server) lend(q request) (*os.File, error) {
	var r nic.Request
	if len(q.Argv) != 1 || json.Unmarshal([]byte(q.Argv[0]), &r) != nil || q.lent == nil {
		return nil, errors.New("a request for a NIC without its namespace")
	}
	if s.rootless {
		return nil, fmt.Errorf("the NIC %s can be lent by root only: sudo weft …", r.NIC)
	}
	r.For = "network " + s.state.name
	arg, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	theirs, ours, err := streamPair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{lendName, string(arg)}
	cmd.ExtraFiles = []*os.File{fdBorrower - 3: ours, fdNamespace - 3: q.lent}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		theirs.Close()
		return nil, err
	}
	s.wg.Go(func() { cmd.Wait() })
	return theirs, nil
}

// lendMain is the life of a lender.
func lendMain(args []string) error {
	var r nic.Request
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &r) != nil {
		return errors.New("started by hand; run weft instead")
	}
	withstandSignals()
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	closeOnExec(fdBorrower, fdNamespace)
	f := os.NewFile(fdBorrower, "borrower")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return errors.New("started by hand; run weft instead")
	}
	say := func(l nic.Lease, err error) {
		a := lenderAnswer{Lease: l}
		if err != nil {
			a.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		if line, err := json.Marshal(a); err == nil {
			c.Write(append(line, '\n'))
		}
	}
	runtime.LockOSThread()
	ctx := context.Background()
	l, err := nic.MachineJournal.Take(ctx, "/", r, fdNamespace)
	if err != nil {
		say(nic.Lease{}, err)
		return nil // it has been said
	}
	say(*l, nil)
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, c)
		close(ended)
	}()
	select {
	case <-ended:
	case <-term:
	}
	err = l.Return(ctx)
	say(*l, err)
	return err
}
