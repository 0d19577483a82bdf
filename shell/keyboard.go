package shell

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pollEvery bounds how long a reader takes to notice that its ctx has ended, ms.
const pollEvery = 50

// A keyboard is the input: lines are read from it, keys, or what a program on a node is
// to get. Its readers wait with poll, so that one which is no longer wanted never
// takes what is meant for the next.
type keyboard struct {
	file *os.File // keeps fd open
	fd   int

	mu      sync.Mutex // held while reading
	pending []byte     // read by readLine beyond its line
}

func newKeyboard(f *os.File) *keyboard {
	return &keyboard{file: f, fd: int(f.Fd())}
}

// errIdle is returned by poll when nothing came in time.
var errIdle = errors.New("no input")

// read waits for input and reads it. A terminal that is gone is an end of file.
func (k *keyboard) read(ctx context.Context, p []byte) (int, error) {
	for {
		n, err := k.poll(ctx, p)
		if err != errIdle {
			return n, err
		}
	}
}

// poll is read that gives up with errIdle after pollEvery.
func (k *keyboard) poll(ctx context.Context, p []byte) (int, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}
	switch n, err := unix.Poll(fds, pollEvery); {
	case err != nil && !errors.Is(err, unix.EINTR):
		return 0, err
	case err != nil || n == 0:
		return 0, errIdle
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	n, err := unix.Read(k.fd, p)
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return 0, errIdle
	case errors.Is(err, unix.EIO), err == nil && n == 0:
		return 0, io.EOF
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	}
	return n, nil
}

// readLine returns the next line, without its end.
func (k *keyboard) readLine(ctx context.Context) (string, error) {
	buf := make([]byte, 4096)
	for {
		if line, rest, ok := bytes.Cut(k.pending, []byte("\n")); ok {
			k.pending = rest
			return string(line), nil
		}
		n, err := k.read(ctx, buf)
		if err == io.EOF && len(k.pending) > 0 {
			line := string(k.pending)
			k.pending = nil
			return line, nil
		}
		if err != nil {
			return "", err
		}
		k.pending = append(k.pending, buf[:n]...)
	}
}

// typed is the keyboard as a program on a node gets it, until ctx ends.
type typed struct {
	ctx      context.Context
	keyboard *keyboard
}

func (t typed) Read(p []byte) (int, error) {
	n, err := t.keyboard.read(t.ctx, p)
	if t.ctx.Err() != nil && n == 0 {
		err = io.EOF
	}
	return n, err
}
