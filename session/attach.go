package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"weft/api"
	"weft/shell"
)

// AttachConfig says where a prompt reads and writes.
type AttachConfig struct {
	Network string
	Dialect shell.Dialect
	JSON    bool
	In      *os.File
	Out     io.Writer
	Err     io.Writer
	Log     *slog.Logger
}

// Attach gives a prompt on a running network, which lives on when the prompt is left. Its
// error is ErrFailed if a command of a script failed.
func Attach(ctx context.Context, c AttachConfig) error {
	client, err := api.Open(c.Network)
	if err != nil {
		return &UsageError{err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	go func() {
		select {
		case s := <-signals:
			cancel(&SignalError{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	go client.Events(ctx, warner(c.Err))
	sh := shell.New(shell.Config{Client: client, Dialect: c.Dialect, In: c.In, Out: c.Out, Err: c.Err,
		JSON: c.JSON, HistoryFile: historyFile(c.Dialect), Log: c.Log})
	err = sh.Run(ctx)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	err = errors.Join(err, sh.Close())
	if err == nil && sh.Failed() {
		return ErrFailed
	}
	return err
}
