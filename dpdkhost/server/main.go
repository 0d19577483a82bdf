package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// The first words of the command lines of processes that this package starts. The second kind
// is an NF that comes with weft: NAME ARGS…; the program makes it. The third goes where an NF is
// to run, and starts it there.
const (
	managerCommand = "nf-manager" // Config as JSON on standard input
	nfCommand      = "nf-run"
	placeCommand   = "nf-place" // placing as JSON
)

// Main is a manager, or starts an NF elsewhere, and does not return, if this process was started
// as one that does. A program that
// calls Start must call it first in main.
func Main() {
	if len(os.Args) == 3 && os.Args[1] == placeCommand {
		status, err := runPlaced(os.Args[2])
		if err != nil {
			fmt.Fprintf(os.Stderr, "weft: %v\n", err)
		}
		os.Exit(status)
	}
	if len(os.Args) < 2 || os.Args[1] != managerCommand {
		return
	}
	if err := runManager(os.Stdin, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "weft: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// outsideFD is Config.Outside.
const outsideFD = 4

// readyFD is the pipe on which a manager says that it is ready: nothing and its end, or an
// error's text.
const readyFD = 3

func runManager(in io.Reader, log io.Writer) error {
	var c Config
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("the configuration of the NF manager: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	syscall.CloseOnExec(readyFD)
	if c.HasOutside {
		syscall.CloseOnExec(outsideFD)
		c.Outside = os.NewFile(outsideFD, "outside")
	}
	pipe := os.NewFile(readyFD, "ready")
	ready := false
	err := Run(ctx, c, slog.New(slog.NewTextHandler(log, nil)), func() {
		ready = true
		pipe.WriteString(readyText)
		pipe.Close()
	})
	if err != nil && !ready {
		pipe.WriteString(err.Error())
	}
	return err
}

const readyText = "ready\n"

// Start starts a manager's process and waits until all its ports are open and all its NFs take
// packets. run starts the command, in the network namespace of the node; from then on the process
// is the caller's to wait for. If Start fails, the process ends by itself.
func Start(ctx context.Context, c Config, run func(*exec.Cmd) error) (*Client, error) {
	fail := func(err error) (*Client, error) { return nil, fmt.Errorf("NF manager of %s: %w", c.Node, err) }
	if err := c.Validate(); err != nil {
		return fail(err)
	}
	c.HasOutside = c.Outside != nil
	text, err := json.Marshal(c)
	if err != nil {
		return fail(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{os.Args[0], managerCommand}
	cmd.Stdin = bytes.NewReader(text)
	cmd.ExtraFiles = []*os.File{w}
	if c.HasOutside {
		cmd.ExtraFiles = append(cmd.ExtraFiles, c.Outside)
	}
	cmd.Env = os.Environ()
	err = run(cmd)
	w.Close()
	if err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(r, maxBody))
	switch {
	case string(said) == readyText:
		return NewClient(c.Dir), nil
	case ctx.Err() != nil:
		if cmd.Process != nil {
			cmd.Process.Kill()
		}
		return fail(fmt.Errorf("it is not ready: %w", ctx.Err()))
	case err != nil:
		return fail(err)
	case len(said) == 0:
		return fail(errors.New("it ended before it was ready; see its log"))
	}
	return fail(errors.New(strings.TrimSpace(string(said))))
}
