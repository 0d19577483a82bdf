// Command weft builds networks of hosts, switches and controllers on one machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"weft/api"
	"weft/internal/sandbox"
	"weft/network"
	"weft/session"
)

func main() {
	sandbox.Main(engine)
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// engine is what runs inside a sandbox.
func engine(in sandbox.Inside) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-in.Broker.Gone()
		cancel()
	}()
	return api.Serve(ctx, in.Listener, network.Env{
		Name: in.Name, Dir: in.Dir, Rootless: in.Rootless, Broker: in.Broker,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

// run runs a command line and returns its exit status.
func run(args []string, in, out, errOut *os.File) int {
	cmd := newCommand(in, out, errOut)
	words := args[1:]
	if filepath.Base(args[0]) == "mn" {
		words = append([]string{"mn"}, words...)
	}
	cmd.SetArgs(words)
	cmd.SetOut(out)
	cmd.SetErr(errOut)
	err := cmd.Execute()
	var usage *session.UsageError
	var sig *session.SignalError
	switch {
	case err == nil:
		return session.ExitOK
	case errors.Is(err, session.ErrFailed):
		return session.ExitFailed
	case errors.As(err, &sig):
		return 128 + int(sig.Signal)
	}
	fmt.Fprintf(errOut, "%s: %v\n", cmd.Name(), err)
	if errors.As(err, &usage) {
		return session.ExitUsage
	}
	return session.ExitFailed
}
