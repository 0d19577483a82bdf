package session

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"weft/internal/sandbox"
	"weft/network"
)

// Up brings up a network that lives on when this process has ended, and returns its name. It
// returns when the switches have their controllers, unless Config.Wait is negative; if they
// have not in time, or if anything else goes wrong, nothing is left of the network.
func Up(ctx context.Context, c Config) (name string, err error) {
	r, err := newRun(c)
	if err != nil {
		return "", err
	}
	if c.DryRun {
		return r.plan.Name, r.printPlan()
	}
	ctx, end := r.begin(ctx)
	defer end()
	box, err := sandbox.StartDetached(ctx, r.plan.Name)
	if err != nil {
		return "", signalled(ctx, err)
	}
	err = r.in(ctx, box, box.Name, box.Socket, func(ctx context.Context) error {
		if err := r.build(ctx); err != nil {
			return err
		}
		if err := r.awaitReady(ctx); err != nil {
			return err
		}
		return r.runCommands(ctx)
	})
	if err == nil {
		if err = box.Release(ctx); err == nil {
			return box.Name, nil
		}
	}
	// Why it failed is of more use than how it ended.
	r.down(box)
	return "", signalled(ctx, err)
}

// awaitReady waits until the switches have their controllers.
func (r *run) awaitReady(ctx context.Context) error {
	wait := r.Wait
	switch {
	case wait < 0:
		return nil
	case wait == 0:
		wait = DefaultWait
	}
	missing, err := r.client.Wait(ctx, wait)
	if err != nil || len(missing) == 0 {
		return err
	}
	return notReady(missing)
}

// notReady says which connections are missing, of many only some.
func notReady(missing []network.ControlConnection) error {
	const most = 5
	var b strings.Builder
	for i, m := range missing {
		if i == most {
			fmt.Fprintf(&b, "and so are %d others\n", len(missing)-most)
			break
		}
		fmt.Fprintf(&b, "%s is not connected to %s: %s\n", m.Switch, m.Controller, m.Reason)
	}
	b.WriteString("the network was taken down: start the controller first, or let the network come up without it, --twait 0")
	return errors.New(b.String())
}
