package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	prompt "github.com/c-bata/go-prompt"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// An editor reads lines at a terminal with go-prompt, by its Input method: its Run
// would end the process, and leave the network alone, at the first signal.
type editor struct {
	s       *Session
	history *history
	keys    *keys
	screen  *screen
	prompt  *prompt.Prompt

	menu     []prompt.Suggest // shown since the last Tab
	menuText string           // the line that it is for
}

// newEditor returns an editor, or an error if input or output is not a terminal.
func newEditor(s *Session) (*editor, error) {
	out, ok := s.cfg.Out.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return nil, errors.New("output is not a terminal")
	}
	modes, err := unix.IoctlGetTermios(s.keyboard.fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("input is not a terminal: %w", err)
	}
	// go-prompt opens it too, and panics if it cannot.
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return nil, err
	}
	tty.Close()
	e := &editor{s: s, history: openHistory(s.cfg), screen: &screen{out: out, colours: s.cfg.Dialect == Native}}
	e.start(&keys{keyboard: s.keyboard, modes: *modes, notices: &s.notices})
	return e, nil
}

// start makes a new prompt that reads k.
func (e *editor) start(k *keys) {
	e.keys = k
	e.prompt = prompt.New(func(string) {}, e.suggest,
		prompt.OptionParser(k),
		prompt.OptionWriter(e.screen),
		prompt.OptionPrefix(e.s.cfg.Dialect.Prompt()),
		prompt.OptionHistory(e.history.lines),
		prompt.OptionMaxSuggestion(8),
		prompt.OptionSetExitCheckerOnInput(e.handled),
		prompt.OptionAddKeyBind(
			prompt.KeyBind{Key: prompt.Tab, Fn: e.tab},
			prompt.KeyBind{Key: prompt.ControlC, Fn: e.interrupt},
		),
	)
}

func (e *editor) close() {
	if err := errors.Join(e.keys.restore(), e.history.trim()); err != nil {
		e.s.cfg.Log.Warn("cannot tidy up after the line editor", "error", err)
	}
}

// readLine lets the user edit a line.
func (e *editor) readLine(ctx context.Context) (string, error) {
	e.keys.listen(ctx)
	failures := 0
	e.s.notices.show(e.screen.out)
	for e.screen.open(); ; e.screen.reopen() {
		line, err := e.input()
		if err != nil {
			e.s.cfg.Log.Error("line editor failed", "error", err)
			if failures++; failures == 3 {
				return "", err
			}
			continue
		}
		switch _, why := e.keys.state(); why {
		case entered:
			if err := e.history.add(line); err != nil {
				e.s.cfg.Log.Warn("cannot write the history", "error", err)
			}
			return line, nil
		case resized:
			continue
		case noticed:
			e.screen.erase()
			e.s.notices.show(e.screen.out)
			continue
		case cancelled:
			return "", ctx.Err()
		}
		return "", io.EOF
	}
}

// input calls go-prompt. If that panics, the line is lost, the session is not.
func (e *editor) input() (line string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("go-prompt: %v", r)
			e.start(e.keys.successor())
		}
	}()
	return e.prompt.Input(), nil
}

// handled is go-prompt's exit checker.
func (e *editor) handled(string, bool) bool {
	leave := e.keys.handled()
	if leave {
		_, why := e.keys.state()
		e.screen.muted = why == resized || why == noticed
	}
	return leave
}

// interrupt is called for Ctrl-C, after go-prompt has dropped the line.
func (e *editor) interrupt(*prompt.Buffer) {
	if e.s.cfg.Dialect == Mininet {
		fmt.Fprint(e.screen.out, "Interrupt\n")
	}
}
