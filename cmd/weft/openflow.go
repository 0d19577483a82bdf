package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/conversation"
	"weft/internal/sandbox"
	"weft/network"
	"weft/session"
)

// An openflowRequest is what weft openflow is asked for.
type openflowRequest struct {
	conversation.Selection
	limit          int
	stop           time.Duration
	ports          []uint
	follow, json   bool
	stats          bool
	plot, sequence string
}

// openflowCommand is weft openflow.
func (p *program) openflowCommand() *cobra.Command {
	var q openflowRequest
	cmd := &cobra.Command{
		Use:   "openflow [FILE|NETWORK|-]",
		Short: "Show what switches and controllers say to each other, live or from a capture file",
		Example: "weft openflow of.pcapng --type PACKET_IN,FLOW_MOD --match in_port=1\n" +
			"weft openflow --stats --plot latency.svg of.pcapng\n" +
			"tcpdump -i lo -U -w - port 6653 | weft openflow -",
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&q.Switches, "switch", "", "`SWITCH[,SWITCH...]` only messages from and to these")
	f.StringVar(&q.Types, "type", "", "`TYPE[,TYPE...]` only messages of these types: PACKET_IN, FLOW_MOD; flow, nx_packet_in2")
	f.StringVar(&q.XIDs, "xid", "", "`XID[,XID...]` only messages with these transaction IDs")
	f.StringVar(&q.Match, "match", "", "`FIELD[=VALUE][,...]` only messages that have these fields, their packets' headers included: in_port=1,ipv4_src=10.0.0.0/8")
	f.IntVarP(&q.limit, "count", "c", 0, "`N` end after N messages")
	f.VarP(stopValue(&q.stop), "autostop", "a", "`duration:SECONDS` end after a time")
	f.BoolVar(&q.follow, "follow", false, "wait for more at the end of a file; networks are always followed")
	f.UintSliceVar(&q.ports, "port", nil, "`PORT[,PORT...]` where the controllers of a file listened (6653,6633,6634)")
	f.BoolVar(&q.stats, "stats", false, "count messages by type and direction, and say how long flows took to be set up")
	f.StringVar(&q.plot, "plot", "", "`FILE` draw how long flows took to be set up: FILE.svg or FILE.png")
	f.StringVar(&q.sequence, "sequence", "", "`FILE` draw who told whom what: FILE.svg, or FILE.mmd for Mermaid")
	f.BoolVar(&q.json, "json", false, "print JSON: a line for each message, or the statistics")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return &session.UsageError{Err: fmt.Errorf("unexpected argument %q: write one file or network (see %s --help)", args[1], cmd.CommandPath())}
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(noEmptyValues(f), q.check()); err != nil {
			return &session.UsageError{Err: err}
		}
		name := ""
		if len(args) == 1 {
			name = args[0]
		}
		return p.openflow(cmd.Context(), name, q)
	}
	return cmd
}

// check looks for values that cannot be meant.
func (q openflowRequest) check() error {
	var errs []error
	for _, n := range q.ports {
		if n == 0 || n > 65535 {
			errs = append(errs, fmt.Errorf("--port: there is no port %d", n))
		}
	}
	if q.limit < 0 {
		errs = append(errs, fmt.Errorf("--count: %d is not above zero", q.limit))
	}
	for _, o := range []struct{ name, path, other string }{{"plot", q.plot, ".png"}, {"sequence", q.sequence, ".mmd"}} {
		if ext := filepath.Ext(o.path); o.path != "" && ext != ".svg" && ext != o.other {
			errs = append(errs, fmt.Errorf("--%s %s: the name must end in .svg or %s", o.name, o.path, o.other))
		}
	}
	return errors.Join(errs...)
}

// openflow shows the conversation of a file or network.
func (p *program) openflow(ctx context.Context, name string, q openflowRequest) error {
	l, err := conversation.NewListener(q.Selection)
	if err != nil {
		return &session.UsageError{Err: err}
	}
	l.Lines, l.JSON, l.Limit = p.out, q.json, q.limit
	if q.stats || q.plot != "" {
		l.Counter, l.Lines = conversation.NewCounter(), nil
	}
	if q.sequence != "" {
		l.Sequence, l.Lines = &conversation.Sequence{}, nil
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if q.stop > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.stop)
		defer cancel()
	}
	source, end, err := p.openflowSource(ctx, name, q)
	if err != nil {
		return err
	}
	if err := errors.Join(l.Listen(ctx, source), end()); err != nil {
		return err
	}
	stop() // from here on a signal ends weft
	if unseen := l.Unseen(); len(unseen) > 0 {
		fmt.Fprintf(p.err, "Note: no message has a field %s\n", strings.Join(unseen, ", "))
	}
	return p.openflowResults(l, q)
}

// openflowResults prints and draws what was collected.
func (p *program) openflowResults(l *conversation.Listener, q openflowRequest) error {
	var errs []error
	if l.Counter != nil {
		s := l.Counter.Statistics()
		switch {
		case q.stats && q.json:
			errs = append(errs, printJSON(p.out, s))
		case q.stats:
			errs = append(errs, s.Write(p.out))
		}
		errs = append(errs, drawFile(q.plot, map[string]func(io.Writer) error{".svg": s.Setup.WriteSVG, ".png": s.Setup.WritePNG}))
	}
	if l.Sequence != nil {
		errs = append(errs, drawFile(q.sequence, map[string]func(io.Writer) error{".svg": l.Sequence.WriteSVG, ".mmd": l.Sequence.WriteMermaid}))
	}
	return errors.Join(errs...)
}

// drawFile writes a drawing in the form that the file's name asks for.
func drawFile(path string, forms map[string]func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(forms[filepath.Ext(path)](f), f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// openflowSource finds out what name is. end says what is to be said after listening.
func (p *program) openflowSource(ctx context.Context, name string, q openflowRequest) (source conversation.Source, end func() error, err error) {
	ports := conversation.Ports()
	if q.ports != nil {
		ports = nil
		for _, n := range q.ports {
			ports = append(ports, uint16(n))
		}
	}
	file := p.in
	if name != "-" {
		if file, err = os.Open(name); name == "" || errors.Is(err, os.ErrNotExist) && !strings.ContainsRune(name, '/') {
			return p.liveSource(name)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	src := io.Reader(file)
	if q.follow {
		src = conversation.Tail(ctx, file)
	}
	var report atomic.Pointer[conversation.Report]
	report.Store(&conversation.Report{})
	read := conversation.FileSource(src, ports, func(r conversation.Report) { report.Store(&r) })
	return func(ctx context.Context, emit func(conversation.Message) error) error {
			defer file.Close()
			if err := read(ctx, emit); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}, func() error {
			if note := report.Load().String(); note != "" {
				fmt.Fprintf(p.err, "Note: %s: %s\n", name, note)
			}
			if err := report.Load().Describe(ports); err != nil && !q.follow && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}, nil
}

// liveSource listens to a running network, the only one if name is empty.
func (p *program) liveSource(name string) (conversation.Source, func() error, error) {
	running, _, err := sandbox.List()
	if err != nil {
		return nil, nil, err
	}
	known := strings.Join(running, ", ")
	switch {
	case len(running) == 0 && name == "":
		return nil, nil, errors.New("no network of yours is running; start one with weft, or name a capture file")
	case len(running) == 0:
		return nil, nil, fmt.Errorf("there is no file %s, and no network of yours is running", name)
	case name == "" && len(running) > 1:
		return nil, nil, &session.UsageError{Err: fmt.Errorf("several networks are running; write which: %s", known)}
	case name == "":
		name = running[0]
	case !slices.Contains(running, name):
		return nil, nil, fmt.Errorf("there is no file %s, and no network of yours of that name (running: %s)", name, known)
	}
	path, err := sandbox.SocketPath(name)
	if err != nil {
		return nil, nil, err
	}
	client := api.Dial(path)
	var missed atomic.Uint64
	return func(ctx context.Context, emit func(conversation.Message) error) error {
			ready := func() { fmt.Fprintf(p.err, "listening to network %s\n", name) }
			err := client.ControlMessages(ctx, ready, func(m network.ControlMessage) error {
				missed.Add(m.Missed)
				if len(m.Data) == 0 {
					return nil
				}
				return emit(conversation.Message{Time: m.Time, Switch: m.Switch, Controller: m.Controller, Conn: m.Connection,
					FromSwitch: m.FromSwitch, Data: m.Data})
			})
			if errors.Is(err, api.ErrGone) {
				fmt.Fprintf(p.err, "Note: network %s has ended\n", name)
				return nil
			}
			return err
		}, func() error {
			if n := missed.Load(); n > 0 {
				fmt.Fprintf(p.err, "Note: %d messages are missing: this end was too slow\n", n)
			}
			return nil
		}, nil
}
