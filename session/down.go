package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"weft/api"
	"weft/internal/sandbox"
)

// Down takes a running network down, and waits until nothing is left of it. One that does
// not end in time is killed, which is an error.
func Down(ctx context.Context, name string) error {
	path, err := sandbox.SocketPath(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	err = api.Dial(path).Down(ctx, nil)
	if errors.Is(err, api.ErrGone) || errors.Is(err, context.DeadlineExceeded) {
		err = nil // its end tells
	}
	return errors.Join(err, sandbox.Await(ctx, name))
}

// A Running is a network that runs.
type Running struct {
	api.Info
	// Error says why it does not answer; empty if it does.
	Error string `json:"error,omitempty"`
}

// answerTimeout bounds the wait for a network that is asked what it is.
const answerTimeout = 2 * time.Second

// List returns the user's running networks, by name, with what they say of themselves.
func List(ctx context.Context) ([]Running, error) {
	names, _, err := sandbox.List()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	all := make([]Running, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			path, err := sandbox.SocketPath(name)
			if err == nil {
				all[i].Info, err = api.Dial(path).Info(ctx)
			}
			if err != nil && sandbox.Check(name) == nil { // else it has ended in the meantime
				all[i] = Running{Info: api.Info{Name: name}, Error: err.Error()}
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(all, func(r Running) bool { return r.Name == "" }), nil
}
