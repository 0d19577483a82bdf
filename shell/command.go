package shell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"weft/network"
	"weft/topo"
)

// A command is one that can be typed.
type command struct {
	name    string
	usage   string // its arguments
	doc     string // one line
	example string
	// mininet is what Mininet's help says of it; empty if Mininet does not have it.
	mininet string
	options []option
	more    func() string // help has this at its end
	// verbatim commands take the rest of the line as it is, and pass Ctrl-C on
	// themselves, to what they run.
	verbatim bool
	run      func(context.Context, *call) error
	// complete returns what may come after the given words (without the command).
	complete func(p *topo.Plan, words []string) []string
}

// A call is a command being executed.
type call struct {
	*Session
	command
	rest string            // the line after the command's name
	args []string          // its words without options
	opts map[string]string // options with their names' dashes
	json bool
}

// commands returns every command, in the order of native help.
func commands() []command {
	return []command{
		{name: "help", usage: "[COMMAND]", doc: "list the commands, or explain one", example: "help pingall",
			mininet: "Describe available CLI commands.",
			run:     runHelp},

		{name: "nodes", doc: "list all nodes", example: "nodes",
			mininet: "List all nodes.", run: showState(nodesView)},
		{name: "net", doc: "show what is connected to what", example: "net",
			mininet: "List network connections.", run: showState(netView)},
		{name: "links", doc: "list the links with what they do, and what became of frames", example: "links",
			mininet: "Report on links", run: runLinks},
		{name: "intfs", doc: "list the interfaces and their addresses", example: "intfs",
			mininet: "List interfaces.", run: showState(interfacesView)},
		{name: "ports", doc: "list the switches' OpenFlow ports", example: "ports",
			mininet: "display ports and interfaces for each switch", run: showState(portsView)},
		{name: "dump", doc: "show each node with addresses and process", example: "dump",
			mininet: "Dump node info.", run: showState(dumpView)},
		{name: "inspect", usage: "[NODE]", doc: "describe the network, or all that is known of a node", example: "inspect s1",
			run: runInspect, complete: completeNodes},
		{name: "status", doc: "show the control connections, with reasons for those that are down", example: "status",
			run: showState(statusView)},
		{name: "controllers", doc: "list the controllers and the switches connected to them", example: "controllers",
			run: showState(controllersView)},
		{name: "wait", usage: "[SECONDS]", doc: "wait until every switch is connected to its controllers (30 s)", example: "wait 10",
			mininet: "Wait until all switches have connected to a controller", run: runWait},

		{name: "ping", usage: "HOST HOST", doc: "ping from the first host to the second", example: "ping h1 h2 --count 3",
			options: pingOptions(), run: runPing, complete: completeHosts},
		{name: "pingall", usage: "[TIMEOUT] [HOST...]", doc: "ping between all hosts", example: "pingall --timeout 2s --tries 1",
			mininet: "Ping between all hosts.",
			options: pingOptions(), run: runPingMatrix(false, false), complete: completeHosts},
		{name: "pingpair", doc: "ping between the first two hosts", example: "pingpair",
			mininet: "Ping between first two hosts, useful for testing.",
			options: pingOptions(), run: runPingMatrix(true, false)},
		{name: "pingallfull", usage: "[TIMEOUT] [HOST...]", doc: "ping between all hosts and show round-trip times", example: "pingallfull --count 5",
			mininet: "Ping between all hosts, returns all ping results.",
			options: pingOptions(), run: runPingMatrix(false, true), complete: completeHosts},
		{name: "pingpairfull", doc: "ping between the first two hosts and show round-trip times", example: "pingpairfull",
			mininet: "Ping between first two hosts, returns all ping results.",
			options: pingOptions(), run: runPingMatrix(true, true)},
		{name: "iperf", usage: "[HOST HOST]", doc: "measure TCP throughput, from the first host to the last if none is given", example: "iperf h1 h2 --time 10s",
			mininet: "Simple iperf TCP test between two (optionally specified) hosts.\n           Usage: iperf node1 node2",
			options: iperfOptions(), run: runIperf, complete: completeHosts},
		{name: "iperfudp", usage: "[RATE] [HOST HOST]", doc: "measure UDP throughput, loss and jitter", example: "iperfudp 50M h1 h2",
			mininet: "Simple iperf UDP test between two (optionally specified) hosts.\n           Usage: iperfudp bw node1 node2",
			options: append(iperfOptions(), option{"--rate", "RATE", "sending rate in bit/s of payload (10M)"}),
			run:     runIperfUDP, complete: completeHosts},

		{name: "link", usage: "ACTION ... | NODE NODE up|down", doc: "change what links do: rate, delay, loss, faults; take them up or down", example: "link set s1-s2 delay=50ms loss=1",
			mininet: "Bring link(s) between two nodes up or down.\n           Usage: link node1 node2 [up/down]",
			options: linkOptions(), more: LinkActions, run: runLink, complete: completeLink},
		{name: "partition", usage: "GROUPS", doc: "keep groups of hosts from hearing each other; rest is all others", example: "partition {h1,h2}|{h3}",
			run: runPartition, complete: completeHosts},
		{name: "heal", doc: "undo partition", example: "heal", run: runHeal},
		{name: "switch", usage: "SWITCH start|stop", doc: "start or stop a switch", example: "switch s1 stop",
			mininet: "Starts or stops a switch", run: runSwitch, complete: completeSwitch},
		{name: "add", usage: "host|switch NAME | link NODE NODE [OPTION=VALUE...]", doc: "add to the running network", example: "add host h9 --ip 10.0.0.9/8",
			options: addOptions(), run: runAdd, complete: completeAdd},
		{name: "del", usage: "NODE | link NODE NODE", doc: "remove a node and its links, or the links between two nodes", example: "del link h1 s1",
			run: runDelete, complete: completeDelete},

		{name: "capture", usage: "[TARGET... FILE | stop [NUMBER...]]", doc: "capture packets to a file for Wireshark; without arguments, list captures", example: "capture s1-s2 control trace.pcapng",
			options: captureOptions(), run: runCapture, complete: completeCapture},
		{name: "control", usage: "[SWITCH CONTROLLER down|up|clear | delay TIME [JITTER] | rate RATE | record FILE | replay FILE]",
			doc: "experiment with a control channel; without arguments, list the channels", example: "control s1 c0 delay 50ms 10ms --to switch",
			options: controlOptions(), run: runControl, complete: completeControl},
		{name: "nf", usage: "[NODE] [ACTION ...]", doc: "network functions of dpdk nodes: list, start, chains, flows; without an action, list", example: "nf chain set default 1→3→2",
			options: nfOptions(), more: func() string { return "Actions:\n" + NFActions() }, run: runNF, complete: completeNF},
		{name: "openflow", usage: "[on|off] [SWITCH...]", doc: "follow what switches and controllers say, until Ctrl-C; on: beside the prompt",
			example: "openflow s1 --type PACKET_IN",
			options: openflowOptions(), run: runOpenflow, complete: completeOpenflow},
		{name: "flows", usage: "[SWITCH...]", doc: "show the flow tables, with rates between two looks", example: "flows s1 --interval 2",
			options: flowsOptions(), run: runFlows, complete: completeSwitches},
		{name: "trace", usage: "SWITCH PACKET", doc: "show what a switch does with a packet (ofproto/trace)", example: "trace s1 in_port=1,dl_dst=00:00:00:00:00:02",
			verbatim: true, run: runTrace, complete: completeTrace},
		{name: "dpctl", usage: "COMMAND [ARG...]", doc: "run an ovs-ofctl command on every switch", example: "dpctl dump-flows",
			mininet:  "Run dpctl (or ovs-ofctl) command on all switches.\n           Usage: dpctl command [arg1] [arg2] ...",
			verbatim: true, run: runDpctl, complete: completeDpctl},
		{name: "sh", usage: "COMMAND", doc: "run a shell command where the switches are", example: "sh ip -br link",
			mininet:  "Run an external shell command\n           Usage: sh [cmd args]",
			verbatim: true, run: runSh},
		{name: "noecho", usage: "NODE COMMAND", doc: "run a command on a node without echo of what is typed", example: "noecho h1 cat",
			mininet:  "Run an interactive command with echoing turned off.\n           Usage: noecho [cmd args]",
			verbatim: true, run: runNoEcho, complete: completeNodes},
		{name: "xterm", usage: "NODE...", doc: "open a terminal window on each node", example: "xterm h1 h2",
			mininet: "Spawn xterm(s) for the given node(s).\n           Usage: xterm node1 node2 ...",
			run:     runTerminals("xterm"), complete: completeNodes},
		{name: "gterm", usage: "NODE...", doc: "open a GNOME terminal window on each node", example: "gterm h1",
			mininet: "Spawn gnome-terminal(s) for the given node(s).\n           Usage: gterm node1 node2 ...",
			run:     runTerminals("gterm"), complete: completeNodes},
		{name: "x", usage: "NODE COMMAND", doc: "run a program with windows on a node", example: "x h1 wireshark",
			mininet:  "Create an X11 tunnel to the given node,\n           optionally starting a client.\n           Usage: x node [cmd args]",
			verbatim: true, run: runX, complete: completeNodes},

		{name: "time", usage: "COMMAND", doc: "run a command and say how long it took", example: "time pingall",
			mininet:  "Measure time taken for any command in Mininet.",
			verbatim: true, run: runTime},
		{name: "source", usage: "FILE", doc: "run the commands in a file", example: "source setup.txt",
			mininet:  "Read commands from an input file.\n           Usage: source <file>",
			verbatim: true, run: runSource},
		{name: "py", usage: "EXPRESSION", doc: "evaluate Starlark, a small Python; py help(h1) lists what h1 can do", example: "py h1.IP()",
			mininet:  "Evaluate a Python expression.\n           Node names may be used, e.g.: py h1.cmd('ls')",
			verbatim: true, run: runPy},
		{name: "px", usage: "STATEMENT", doc: "execute statements in Starlark; what they define is kept", example: "px h3 = net.addHost('h3'); net.addLink(h3, s1)",
			mininet:  "Execute a Python statement.\n            Node names may be used, e.g.: px print h1.cmd('ls')",
			verbatim: true, run: runPx},
		{name: "exit", doc: "leave; so do quit and Ctrl-D", example: "exit", mininet: "Exit", run: runExit},
		{name: "quit", doc: "leave", example: "quit", mininet: "Exit", run: runExit},
		{name: "EOF", doc: "leave", example: "EOF", mininet: "Exit", run: runEOF},
	}
}

// lookup returns the command called name.
func (s *Session) lookup(name string) (command, bool) {
	i := slices.IndexFunc(s.commands, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return s.commands[i], true
}

// exec executes a line, reports its error and keeps account of it.
func (s *Session) exec(ctx context.Context, line string) error {
	s.forgetInterrupts()
	c, err := s.parse(ctx, line)
	if err == nil && c != nil {
		err = c.execute(ctx)
	}
	if err == nil || errors.Is(err, ErrExit) {
		return err
	}
	if !isShown(err) {
		s.report(err, s.cfg.JSON || c != nil && c.json)
	}
	s.failed = s.failed || !s.attended
	s.cfg.Log.Debug("command failed", "line", line, "error", err)
	return shown{err}
}

// Do executes a command whose words are known, as those of a command line are. It does not
// show its error, which is shown already if IsShown says so.
func (s *Session) Do(ctx context.Context, words ...string) error {
	defer s.watchInterrupts()()
	c, err := s.parse(ctx, joinWords(words))
	if err == nil && c != nil {
		err = c.execute(ctx)
	}
	return err
}

// IsShown reports whether the user has seen an error already.
func IsShown(err error) bool { return isShown(err) }

// execute runs a parsed command; SIGINT cancels it if it does not pass it on.
func (c *call) execute(ctx context.Context) error {
	if c.verbatim {
		return c.run(ctx, c)
	}
	ctx, stop := c.interruptible(ctx)
	defer stop()
	err := c.run(ctx, c)
	if err != nil && context.Cause(ctx) == errInterrupted {
		return errInterrupted
	}
	return err
}

// parse finds the command of a line. Nodes' names come after Mininet's commands but
// before those of ours in its dialect. A line without a command is nil. A call
// that is returned with an error says how to report it.
func (s *Session) parse(ctx context.Context, line string) (*call, error) {
	line = strings.Trim(cutComment(line), blanks)
	if topic, ok := strings.CutPrefix(line, "?"); ok {
		line = "help " + topic
	}
	name, rest := cutWord(line)
	if name == "" {
		return nil, nil
	}
	c := &call{Session: s, rest: rest, json: s.cfg.JSON}
	cmd, ok := s.lookup(name)
	if !ok || s.cfg.Dialect == Mininet && cmd.mininet == "" {
		st, err := s.state(ctx)
		switch {
		case err == nil && slices.Contains(nodeNames(st.Plan), name):
			cmd = command{name: name, verbatim: true, run: runOnNode}
		case ok:
		case err != nil && !errors.Is(err, errNotBuilt):
			return c, err
		default:
			return c, mistake{"*** Unknown command: " + line, fmt.Sprintf("there is no command or node %q: try help", name)}
		}
	}
	c.command = cmd
	if cmd.verbatim {
		return c, nil
	}
	words, err := splitWords(rest)
	if err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	c.json = c.json || slices.Contains(words, optionJSON.name)
	if c.opts, c.args, err = parseOptions(words, append(slices.Clone(cmd.options), optionJSON)); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// A mistake is an error with the words that Mininet has for it.
type mistake struct {
	mininet string
	native  string
}

func (m mistake) Error() string { return m.native }

// shown wraps an error that the user has seen already.
type shown struct{ error }

func (e shown) Unwrap() error { return e.error }

func isShown(err error) bool {
	var s shown
	return errors.As(err, &s)
}

// misuse returns the error for wrong arguments.
func (c *call) misuse(mininet string) error {
	return misuse{mistake{mininet, "usage: " + strings.TrimSpace(c.name+" "+c.usage)}}
}

// A misuse is a mistake in a command's arguments.
type misuse struct{ mistake }

func (m misuse) Unwrap() error { return m.mistake }

// IsMisuse reports whether a command was called with wrong arguments.
func IsMisuse(err error) bool {
	var m misuse
	return errors.As(err, &m)
}

// report shows an error.
func (s *Session) report(err error, asJSON bool) {
	var m mistake
	switch {
	case asJSON:
		s.encode(struct {
			Error string `json:"error"`
		}{err.Error()})
	case errors.Is(err, errInterrupted):
		fmt.Fprint(s.cfg.Err, "\nInterrupt\n")
	case errors.Is(err, context.Canceled):
		// Whoever ended the session says why.
	case errors.As(err, &m) && s.cfg.Dialect == Mininet:
		fmt.Fprintln(s.cfg.Err, m.mininet)
	case errors.As(err, &m):
		fmt.Fprintln(s.cfg.Err, m.native)
	case s.cfg.Dialect == Native:
		fmt.Fprintf(s.cfg.Err, "error: %v\n", err)
	default:
		fmt.Fprintf(s.cfg.Err, "*** Error: %v\n", err)
	}
}

// encode prints a JSON document on a line of its own.
func (s *Session) encode(v any) {
	enc := json.NewEncoder(s.cfg.Out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		s.cfg.Log.Error("cannot print the result", "error", err)
	}
}

// results is where results for people go.
func (s *Session) results() io.Writer {
	if s.cfg.Dialect == Mininet {
		return s.cfg.Err
	}
	return s.cfg.Out
}

// show prints a result.
func (c *call) show(v view) {
	switch {
	case c.json:
		c.encode(v.value)
	case c.cfg.Dialect == Mininet && v.mininet != nil:
		v.mininet(c.results())
	case v.native != nil:
		v.native(c.results())
	}
}

// announce prints a line that Mininet shows before a result is there.
func (c *call) announce(format string, args ...any) {
	if c.cfg.Dialect == Mininet && !c.json {
		fmt.Fprintf(c.cfg.Err, format, args...)
	}
}

// done prints the result of a command that changed something and has nothing to say.
func (c *call) done() error {
	c.show(view{value: struct {
		OK bool `json:"ok"`
	}{true}})
	return nil
}

// showState makes a command of a view of the network's state.
func showState(v func(network.State) view) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if len(c.args) > 0 && c.cfg.Dialect == Native {
			return c.misuse("")
		}
		st, err := c.state(ctx)
		if err != nil {
			return err
		}
		c.show(v(st))
		return nil
	}
}

func runTime(ctx context.Context, c *call) error {
	start := time.Now()
	err := c.exec(ctx, c.rest)
	elapsed := time.Since(start)
	if c.json {
		c.encode(struct {
			Elapsed time.Duration `json:"elapsedNs"`
		}{elapsed})
		return err
	}
	if c.cfg.Dialect == Mininet {
		fmt.Fprintf(c.cfg.Out, "*** Elapsed time: %0.6f secs\n", elapsed.Seconds())
	} else {
		fmt.Fprintf(c.cfg.Out, "took %.3f s\n", elapsed.Seconds())
	}
	return err
}

func runSource(ctx context.Context, c *call) error {
	words := strings.Fields(c.rest)
	if len(words) != 1 {
		return c.misuse("usage: source <file>")
	}
	return c.source(ctx, words[0])
}

func runExit(context.Context, *call) error { return ErrExit }

func runEOF(_ context.Context, c *call) error {
	if !c.json {
		fmt.Fprintln(c.cfg.Err)
	}
	return ErrExit
}
