package api

import (
	"context"
	"io"
)

// A ShellRequest runs a command line in a node's persistent shell (hosts and
// switches; "" means the fabric namespace, where Open vSwitch runs, as REPL `sh`).
type ShellRequest struct {
	Node    string `json:"node"`
	Command string `json:"command"`
	// TTY connects the command to the caller's terminal: input is forwarded, bytes
	// are not translated, and Rows and Cols are the window's size. Without it
	// the command reads end of file and newlines are plain.
	TTY  bool   `json:"tty,omitempty"`
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
	Term string `json:"term,omitempty"` // $TERM for the command
	// Env are variables that the command sees besides the shell's own (DISPLAY).
	Env []string `json:"env,omitempty"`
}

// Size is a terminal window's size.
type Size struct {
	Rows, Cols uint16
}

// Shell runs r and copies the command's output (both streams) to stdout until it
// ends or stops, and returns its exit status (128+n if signal n ended or stopped
// it). stdin may be nil; it is read only while the command runs. An interrupt, when
// received, sends Ctrl-C to the command. resize, if not nil, delivers new window sizes.
// ctx's end kills the command.
func (c *Client) Shell(ctx context.Context, r ShellRequest, stdin io.Reader, stdout io.Writer, interrupt <-chan struct{}, resize <-chan Size) (int, error) {
	return c.shell(ctx, r, stdin, stdout, interrupt, resize)
}
