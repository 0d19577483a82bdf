package shell

import (
	"context"
	"errors"
	"fmt"

	"weft/script"
)

// script returns the session of py and px.
func (s *Session) script() *script.Session {
	if s.scripts == nil {
		print := s.cfg.Out
		if s.cfg.JSON {
			print = s.cfg.Err // documents only on Out
		}
		s.scripts = script.NewSession(script.SessionConfig{Client: s.net, Print: print, Show: s.measured})
	}
	return s.scripts
}

// measured shows what came of a measurement that a script made, as the command for it does.
func (s *Session) measured(m script.Measured) {
	if s.cfg.JSON {
		return // it is in the value
	}
	c := &call{Session: s}
	switch {
	case m.Ping != nil:
		if m.All {
			c.announce("*** Ping: testing ping reachability\n")
		}
		c.show(pingView(*m.Ping, m.Hosts, m.Full))
	case m.Iperf != nil:
		c.announce("*** Iperf: testing %s bandwidth between %s and %s \n", protocolName(m.Iperf.UDP), m.Iperf.Client, m.Iperf.Server)
		c.show(iperfView(*m.Iperf, m.Asked))
	}
}

// runPy evaluates an expression.
func runPy(ctx context.Context, c *call) error {
	if c.rest == "" {
		return c.misuse("invalid syntax (<string>, line 0)")
	}
	return c.scripted(ctx, func(ctx context.Context) error {
		v, err := c.script().Eval(ctx, c.rest)
		if err != nil {
			return err
		}
		if c.json {
			c.encode(struct {
				Value any `json:"value"`
			}{v.Plain})
			return nil
		}
		fmt.Fprint(c.results(), v.Text)
		return nil
	})
}

// runPx executes statements.
func runPx(ctx context.Context, c *call) error {
	if c.rest == "" {
		return c.misuse("invalid syntax (<string>, line 0)")
	}
	return c.scripted(ctx, func(ctx context.Context) error {
		if err := c.script().Exec(ctx, c.rest); err != nil {
			return err
		}
		return c.done()
	})
}

// scripted calls f, which Ctrl-C interrupts. What is wrong with a line is shown as it is.
func (c *call) scripted(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := c.interruptible(ctx)
	defer stop()
	err := f(ctx)
	var wrong *script.LineError
	switch {
	case err != nil && context.Cause(ctx) == errInterrupted:
		return errInterrupted
	case errors.As(err, &wrong) && c.cfg.Dialect == Mininet:
		return mistake{wrong.Error(), wrong.Error()}
	}
	return err
}
