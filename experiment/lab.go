package experiment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"weft/api"
	"weft/internal/sandbox"
	"weft/network"
	"weft/topo"
)

// downTimeout bounds the end of a network.
const downTimeout = 30 * time.Second

// A lab is a network for one trial.
type lab struct {
	box    *sandbox.Sandbox
	client *api.Client
	// ctx ends with the network.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// openLab starts a sandbox.
func openLab(ctx context.Context, name string) (*lab, error) {
	box, err := sandbox.Start(ctx, name)
	if err != nil {
		return nil, err
	}
	l := &lab{box: box, client: api.Dial(box.Socket)}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	go func() {
		<-box.Done()
		l.cancel(api.ErrGone)
	}()
	return l, nil
}

// A shelter says which directories confined programs may write to, and which they see.
type shelter struct{ writable, readable []string }

// build makes the network of plan, with its programs confined unless s is nil, and waits for its controllers, connect at the most if that is
// above zero.
func (l *lab) build(plan *topo.Plan, s *shelter, connect time.Duration, report func(network.Event)) error {
	plan.Name = l.box.Name
	if s != nil {
		if err := l.client.Confine(l.ctx, s.writable, s.readable); err != nil {
			return l.explain(err)
		}
	}
	if err := l.client.Up(l.ctx, plan, report); err != nil {
		return l.explain(err)
	}
	if err := l.client.Start(l.ctx, report); err != nil {
		return l.explain(err)
	}
	if connect < 0 {
		return l.runCommands(plan)
	}
	missing, err := l.client.Wait(l.ctx, connect)
	if err != nil {
		return l.explain(err)
	}
	var names []string
	for _, m := range missing {
		names = append(names, fmt.Sprintf("%s is not connected to %s: %s", m.Switch, m.Controller, m.Reason))
	}
	if len(names) > 0 {
		return fmt.Errorf("no controller within %s: %s", formatDuration(connect), strings.Join(names[:min(len(names), 5)], "; "))
	}
	return l.runCommands(plan)
}

// runCommands runs what the network's description says is to run.
func (l *lab) runCommands(plan *topo.Plan) error {
	if len(plan.Commands) == 0 {
		return nil
	}
	return l.explain(l.client.RunCommands(l.ctx))
}

// explain adds to an error that comes from the sandbox's end why it ended.
func (l *lab) explain(err error) error {
	if !errors.Is(err, api.ErrGone) {
		return err
	}
	select {
	case <-l.box.Done():
		if l.box.Err() != nil {
			return l.box.Err()
		}
	case <-time.After(2 * time.Second):
	}
	return err
}

// close takes the network down, with a time of its own.
func (l *lab) close(report func(network.Event)) error {
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	err := l.client.Down(ctx, report)
	if errors.Is(err, api.ErrGone) {
		err = nil // the sandbox's own error says it
	}
	err = errors.Join(err, l.box.Close())
	l.cancel(nil)
	return err
}
