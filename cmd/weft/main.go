// Command weft builds networks of hosts, switches and controllers on one machine.
//
//	words ─► optparse (mn) ─► cobra ─► options ─► session.Config ─► session.Run ─► exit status
//
// It has no logic of its own beyond reading the command line, and may import any
// package of weft.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"weft/api"
	"weft/dpdkhost/server"
	"weft/internal/sandbox"
	"weft/network"
	"weft/script"
	"weft/session"
)

// version is that of this source tree.
const version = "0.1.0"

func main() {
	sandbox.Main(engine)
	script.Main()
	server.Main()
	p := program{in: os.Stdin, out: os.Stdout, err: os.Stderr, session: session.Run, up: session.Up}
	os.Exit(p.run(os.Args))
}

// logLevelVariable tells the engine how much to log; it inherits the environment.
const logLevelVariable = "WEFT_LOG_LEVEL"

// engine is what runs inside a sandbox.
func engine(in sandbox.Inside) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-in.Broker.Gone()
		cancel()
	}()
	var level slog.Level
	level.UnmarshalText([]byte(os.Getenv(logLevelVariable))) // info if it is not set
	return api.Serve(ctx, in.Listener, network.Env{
		Name: in.Name, Dir: in.Dir, Rootless: in.Rootless, Broker: in.Broker,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	})
}

// A program is weft with its surroundings.
type program struct {
	in, out, err *os.File
	// session brings up a network: session.Run.
	session func(context.Context, session.Config) error
	// up brings up one that lives on: session.Up.
	up func(context.Context, session.Config) (string, error)
}

// mnName is the subcommand, and the name of the program, that speaks as Mininet does.
const mnName = "mn"

// run runs a command line, with the program's name first, and returns its exit status.
func (p *program) run(args []string) int {
	words := append([]string{}, args[1:]...)
	if filepath.Base(args[0]) == mnName {
		words = append([]string{mnName}, words...)
	}
	root := p.command(words)
	if len(words) > 0 && words[0] == mnName {
		mn, _, err := root.Find(words[:1])
		if err == nil {
			mn.InitDefaultHelpFlag()
			words, err = optparse(mn.Flags(), words[1:])
		}
		if err != nil {
			return p.report(mnName, &session.UsageError{Err: err})
		}
		words = append([]string{mnName}, words...)
	}
	root.SetArgs(words)
	cmd, err := root.ExecuteC()
	name := root.Name()
	if cmd.Name() == mnName {
		name = mnName
	}
	return p.report(name, err)
}

// report says what went wrong, a line for each error, and returns the exit status.
func (p *program) report(name string, err error) int {
	var usage *session.UsageError
	var sig *session.SignalError
	var own *session.StatusError
	status, prefix := session.ExitFailed, name+": "
	switch {
	case err == nil:
		return session.ExitOK
	case errors.Is(err, session.ErrFailed):
		return session.ExitFailed
	case errors.As(err, &sig):
		return 128 + int(sig.Signal)
	case errors.As(err, &own) && own.Err == nil:
		return own.Status
	case own != nil:
		status = own.Status
	case errors.As(err, &usage):
		status = session.ExitUsage
		if name == mnName {
			prefix += "error: " // as optparse says it
		}
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(p.err, prefix+strings.TrimRight(line, "\n"))
	}
	return status
}
