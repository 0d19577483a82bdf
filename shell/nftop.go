package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"weft/dpdkhost"
)

// nfTop shows a node again and again. At a terminal it has a screen of its own until q or Ctrl-C,
// and leaves the last look behind; elsewhere it shows one look, or --count. JSON is a document for
// each look, without an end.
func nfTop(ctx context.Context, c *call, node string, _ []string) error {
	t := top{call: c, node: node, every: time.Second}
	if v, ok := c.opts["--interval"]; ok {
		var err error
		if t.every, err = parseSpan(v); err != nil || t.every < 50*time.Millisecond {
			return fmt.Errorf("--interval: %q is not a time from 50ms", v)
		}
	}
	if v, ok := c.opts["--count"]; ok {
		var err error
		if t.looks, err = number("--count", v, 1); err != nil {
			return err
		}
	}
	if out, ok := c.results().(*os.File); ok && !c.json && term.IsTerminal(int(out.Fd())) {
		return t.onScreen(ctx, out)
	}
	if t.looks == 0 && !c.json {
		t.looks = 1
	}
	return t.look(ctx, nil, func(st, before *dpdkhost.State) error {
		if before != nil {
			c.show(view{value: st, native: func(w io.Writer) { c.writeStats(w, st, before) }})
		}
		return nil
	})
}

// A top is nf top as it runs.
type top struct {
	*call
	node  string
	every time.Duration
	looks int // with rates; 0 for no end
}

// look calls show with the state of now, and then with so many later ones and those before them,
// until ctx ends, which is no error. What comes by again is a call with the last two once more.
func (t *top) look(ctx context.Context, again <-chan os.Signal, show func(st, before *dpdkhost.State) error) error {
	var st, before *dpdkhost.State
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for n := 0; ; {
		next, err := t.net.NFs(ctx, t.node)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		st, before = next, st
		if err := show(st, before); err != nil {
			return err
		}
		if before != nil {
			n++
		}
		if t.looks > 0 && n == t.looks {
			return nil
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case <-again:
				if err := show(st, before); err != nil {
					return err
				}
			case <-tick.C:
				waiting = false
			}
		}
	}
}

// What a terminal does (xterm's control sequences).
const (
	screenOn  = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	screenOff = "\x1b[?25h\x1b[?1049l"
	goHome    = "\x1b[H"
	eraseEnd  = "\x1b[K" // of the line
	eraseRest = "\x1b[J"
)

// onScreen shows the node on a screen of its own.
func (t *top) onScreen(ctx context.Context, out *os.File) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	restore, err := t.keys(ctx, end)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	// Whoever ends this process finds the terminal as it was.
	ended, resized := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(ended)
	defer signal.Stop(resized)
	go func() {
		select {
		case <-ended:
			end()
		case <-ctx.Done():
		}
	}()
	last := ""
	if _, err := io.WriteString(out, screenOn); err != nil {
		return err
	}
	err = t.look(ctx, resized, func(st, before *dpdkhost.State) error {
		var text bytes.Buffer
		fmt.Fprintf(&text, "%s, manager %s, %s; every %v, q ends\n\n", t.node, st.Manager, st.At.Local().Format(time.TimeOnly), t.every)
		t.writeStats(&text, st, before)
		last = text.String()
		size := windowSize(int(out.Fd()))
		_, err := io.WriteString(out, fit(last, int(size.Rows), int(size.Cols)))
		return err
	})
	_, left := io.WriteString(out, screenOff+last)
	return errors.Join(err, left)
}

// fit makes of a text what fills a screen: its lines from the top, cut off at the right, and what
// is too much below.
func fit(text string, rows, columns int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if over := len(lines) - rows; over > 0 {
		lines = append(lines[:rows-1:rows-1], fmt.Sprintf("… %s more: make the window larger", plural(over+1, "line", "lines")))
	}
	for i, l := range lines {
		if r := []rune(l); len(r) > columns {
			lines[i] = string(r[:columns])
		}
		lines[i] += eraseEnd
	}
	return goHome + strings.Join(lines, "\r\n") + eraseRest
}

// keys calls end when q is typed, if a person types at all, until restore is called.
func (t *top) keys(ctx context.Context, end func()) (restore func() error, err error) {
	k := t.keyboard
	if k == nil || !term.IsTerminal(k.fd) {
		return func() error { return nil }, nil
	}
	was, err := unix.IoctlGetTermios(k.fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	mode := *was
	mode.Lflag &^= unix.ICANON | unix.ECHO // each key at once; Ctrl-C stays a signal
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(k.fd, unix.TCSETS, &mode); err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		buf := make([]byte, 64)
		for {
			n, err := k.read(ctx, buf)
			if err != nil {
				if errors.Is(err, io.EOF) {
					end() // the terminal is gone
				}
				return
			}
			if bytes.ContainsAny(buf[:n], "qQ\x04") {
				end()
				return
			}
		}
	}()
	return func() error {
		stop()
		<-stopped
		return unix.IoctlSetTermios(k.fd, unix.TCSETSW, was)
	}, nil
}
