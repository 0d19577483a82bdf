package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/network"
	"weft/session"
)

// eventsCommand is weft events.
func (p *program) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [NETWORK]",
		Short: "Follow what happens in a running network, in JSON lines",
		Long: "Kinds: network.ready network.ending node.added node.removed node.changed link.added\n" +
			"link.removed link.changed port.up port.down switch.started switch.stopped\n" +
			"controller.connected controller.disconnected process.started process.ended note.\n" +
			"A network keeps the newest 10,000. NETWORK may be left out if one network runs.\n",
		Example:           "weft events lab --kind port,controller\nweft events lab --since 5m --no-follow",
		ValidArgsFunction: completeNetworks,
	}
	f := cmd.Flags()
	since := f.String("since", "", "`TIME` also what happened from then on: 5m ago, or a time such as 15:04 or 2006-01-02T15:04:05Z; all: from the start")
	noFollow := f.Bool("no-follow", false, "end when what happened is shown")
	kinds := f.StringSlice("kind", nil, "`KIND,...` only these: port.down, or port for all of ports")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return err
		}
		from := time.Now()
		if *since != "" {
			var err error
			if from, err = parseSince(*since, from); err != nil {
				return &session.UsageError{Err: fmt.Errorf("--since: %w", err)}
			}
		}
		client, _, err := onlyNetwork(cmd, args)
		if err != nil {
			return err
		}
		enc := json.NewEncoder(p.out)
		enc.SetEscapeHTML(false)
		var failed error
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		err = client.EventsSince(ctx, from, !*noFollow, func(e network.Event) {
			if len(*kinds) > 0 && !slices.ContainsFunc(*kinds, func(k string) bool { return e.Kind == k || strings.HasPrefix(e.Kind, k+".") }) {
				return
			}
			if failed = enc.Encode(e); failed != nil {
				cancel()
			}
		})
		if failed != nil {
			return failed
		}
		return err
	}
	return cmd
}

// parseSince reads a time in the past: how long ago, a time of day, or a date and time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "all" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			day := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.Local)
			if day.After(now) {
				day = day.AddDate(0, 0, -1)
			}
			return day, nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write for example 5m, 15:04, 2006-01-02T15:04:05Z or all", text)
}

// onlyNetwork is for commands that take nothing but a network.
func onlyNetwork(cmd *cobra.Command, args []string) (*api.Client, string, error) {
	name, rest, err := chooseNetwork(args, 0)
	switch {
	case err != nil:
		return nil, "", err
	case len(rest) > 0:
		return nil, "", noArgs(cmd, rest)
	}
	client, err := api.Open(name)
	return client, name, err
}

// logsCommand is weft logs.
func (p *program) logsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs [NETWORK] [NODE|PROCESS...]",
		Short: "Show what controllers, start commands, Open vSwitch and weft write",
		Long: "PROCESS is ovs-vswitchd, ovsdb-server or engine, which is weft's own log. Without names, all\n" +
			"are shown, each line with the log's name before it. NETWORK may be left out if one network\n" +
			"runs.\n",
		Example:           "weft logs lab c0 -f\nweft logs lab ovs-vswitchd --tail 20",
		ValidArgsFunction: completeNode(cobra.ShellCompDirectiveNoFileComp),
	}
	f := cmd.Flags()
	follow := f.BoolP("follow", "f", false, "go on with what is written from then on, until the network ends")
	tail := f.IntP("tail", "n", -1, "`LINES` only the last lines of each (all)")
	list := f.Bool("list", false, "print which logs there are")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.Changed("tail") && *tail < 0 {
			return &session.UsageError{Err: errors.New("--tail: write how many lines, 0 or more")}
		}
		name, names, err := chooseNetwork(args, len(args))
		if err != nil {
			return err
		}
		client, err := api.Open(name)
		if err != nil {
			return err
		}
		if len(names) == 0 || *list {
			logs, err := client.Logs(cmd.Context())
			if err != nil {
				return err
			}
			for _, l := range logs {
				names = append(names, l.Name)
			}
			if *list {
				fmt.Fprintln(p.out, strings.Join(names, "\n"))
				return nil
			}
		}
		return copyLogs(cmd.Context(), client, names, network.LogRequest{Tail: *tail, Follow: *follow}, p.out)
	}
	return cmd
}

// copyLogs copies logs to w: one after another, or at the same time if they are followed.
// Each line of several has the log's name before it.
func copyLogs(ctx context.Context, client *api.Client, names []string, r network.LogRequest, w io.Writer) error {
	var mu sync.Mutex
	width := 0
	for _, name := range names {
		width = max(width, len(name))
	}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		out := w
		var lines *prefixer
		if len(names) > 1 {
			lines = &prefixer{w: w, mu: &mu, prefix: fmt.Sprintf("%-*s | ", width, name)}
			out = lines
		}
		r := r
		r.Name = name
		run := func() {
			errs[i] = client.Log(ctx, r, out)
			if lines != nil {
				lines.end()
			}
		}
		if r.Follow {
			wg.Go(run)
		} else {
			run()
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A prefixer writes whole lines with something before each.
type prefixer struct {
	w      io.Writer
	mu     *sync.Mutex // of w
	prefix string
	rest   []byte // of a line whose end has not come
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	i := bytes.LastIndexByte(p.rest, '\n')
	if i < 0 {
		return len(b), nil
	}
	var out bytes.Buffer
	for line := range bytes.Lines(p.rest[:i+1]) {
		out.WriteString(p.prefix)
		out.Write(line)
	}
	p.rest = append(p.rest[:0], p.rest[i+1:]...)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.w.Write(out.Bytes())
	return len(b), err
}

// end writes a last line that has no end.
func (p *prefixer) end() {
	if len(p.rest) > 0 {
		p.Write([]byte("\n"))
	}
}
