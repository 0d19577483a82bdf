package shell

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	prompt "github.com/c-bata/go-prompt"
)

// screen is go-prompt's output. go-prompt writes the prompt and the line anew for each
// key and once more when the line ends; a program that waits for the prompt (expect)
// would take that for the next one. So screen collects what go-prompt writes between
// two Flushes, and if only text was added at the line's end, writes no more than
// that. Titles are left alone, and so are colours where there should be none.
type screen struct {
	prompt.VT100Writer // for the methods that go-prompt never calls

	out     io.Writer
	colours bool
	muted   bool // nothing is written: the line is about to be shown again

	frame   bytes.Buffer
	texts   int    // how many strings the frame has: prompt, line, then the menu's
	line    string // the second of them
	wrapped bool   // a line break follows it, for it fills the window
	moved   bool   // the cursor left its end
	cleared bool   // the screen was erased (Ctrl-L)
	inverse bool

	shown string // the line that is on the screen
	atEnd bool   // with the cursor at its end and no menu below
	fresh bool   // nothing is on the screen's current line yet
}

var _ prompt.ConsoleWriter = (*screen)(nil)

// open prepares for a prompt on a new line.
func (s *screen) open() {
	s.reset()
	s.fresh, s.atEnd, s.muted = true, false, false
}

// reopen prepares to show the prompt and the line in the place of what is shown.
func (s *screen) reopen() {
	s.open()
	s.erase()
}

// erase erases the line on the screen.
func (s *screen) erase() { s.out.Write([]byte("\r\x1b[J")) }

func (s *screen) reset() {
	s.frame.Reset()
	s.texts, s.wrapped, s.moved, s.cleared = 0, false, false, false
}

// Flush writes the frame, or what it adds to the line.
func (s *screen) Flush() error {
	defer s.reset()
	added, appended := strings.CutPrefix(s.line, s.shown)
	var out []byte
	switch {
	case s.muted:
		return nil
	case s.texts < 2 && !s.cleared: // go-prompt tidies up, but there is nothing to
		return nil
	case s.texts < 2:
		out, s.atEnd = s.frame.Bytes(), false
	case s.atEnd && s.texts == 2 && !s.moved && appended:
		if s.wrapped {
			added += "\n"
		}
		out = []byte(added)
	default:
		out, s.atEnd = s.frame.Bytes(), s.texts == 2 && !s.moved
	}
	if s.texts >= 2 {
		s.shown = s.line
		if s.fresh = strings.HasSuffix(s.line, "\n"); s.fresh {
			s.atEnd = false
		}
	}
	_, err := s.out.Write(out)
	return err
}

// WriteStr adds the prompt, the line or an entry of the menu to the frame.
func (s *screen) WriteStr(text string) {
	if s.texts++; s.texts == 2 {
		s.line = text
	}
	s.frame.WriteString(strings.ReplaceAll(text, "\x1b", "?"))
}

// WriteRaw adds the line break of a line that fills the window.
func (s *screen) WriteRaw(data []byte) {
	s.wrapped = s.wrapped || s.texts == 2
	s.frame.Write(data)
}

// EraseDown erases what is below the cursor.
func (s *screen) EraseDown() {
	if !s.fresh {
		s.frame.WriteString("\x1b[J")
	}
}

// EraseScreen erases all.
func (s *screen) EraseScreen() {
	s.cleared = true
	s.frame.WriteString("\x1b[2J")
}

// CursorGoTo moves the cursor; go-prompt only ever moves it to the corner.
func (s *screen) CursorGoTo(row, col int) { fmt.Fprintf(&s.frame, "\x1b[%d;%dH", row+1, col+1) }

// CursorUp moves the cursor up by n lines, down if n is negative.
func (s *screen) CursorUp(n int) { s.move(n, 'A', 'B') }

// CursorDown moves the cursor down by n lines, up if n is negative.
func (s *screen) CursorDown(n int) { s.move(n, 'B', 'A') }

// CursorForward moves the cursor right by n columns, left if n is negative.
func (s *screen) CursorForward(n int) { s.move(n, 'C', 'D') }

// CursorBackward moves the cursor left by n columns, right if n is negative.
func (s *screen) CursorBackward(n int) { s.move(n, 'D', 'C') }

func (s *screen) move(n int, way, back byte) {
	switch {
	case n > 0:
		fmt.Fprintf(&s.frame, "\x1b[%d%c", n, way)
	case n < 0:
		fmt.Fprintf(&s.frame, "\x1b[%d%c", -n, back)
	}
	s.moved = s.moved || n != 0 && s.texts >= 2
}

// ScrollDown moves the cursor down a line, and scrolls at the end of the screen.
func (s *screen) ScrollDown() { s.frame.WriteString("\x1bD") }

// ScrollUp moves the cursor up a line.
func (s *screen) ScrollUp() { s.frame.WriteString("\x1bM") }

// SetColor sets colours; without them, what is bold (the selected entry) is inverse.
func (s *screen) SetColor(fg, bg prompt.Color, bold bool) {
	switch {
	case s.colours:
		weight := 0
		if bold {
			weight = 1
		}
		fmt.Fprintf(&s.frame, "\x1b[%d;%d;%dm", weight, sgr(fg), sgr(bg)+10)
	case bold != s.inverse:
		code := map[bool]string{true: "\x1b[7m", false: "\x1b[0m"}
		s.frame.WriteString(code[bold])
		s.inverse = bold
	}
}

// sgr returns the terminal's number of a foreground colour.
func sgr(c prompt.Color) int {
	switch {
	case c == prompt.DefaultColor:
		return 39
	case c <= prompt.LightGray:
		return 30 + int(c-prompt.Black)
	}
	return 90 + int(c-prompt.DarkGray)
}

// ShowCursor does nothing: the cursor is never hidden.
func (s *screen) ShowCursor() {}

// HideCursor does nothing: a frame is written at once.
func (s *screen) HideCursor() {}

// SetTitle does nothing: the window's title is not ours.
func (s *screen) SetTitle(string) {}

// ClearTitle does nothing.
func (s *screen) ClearTitle() {}
