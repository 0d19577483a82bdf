package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"weft/api"
	"weft/topo"
)

// maxOutput bounds the output of a command that a script gets.
const maxOutput = maxText

func programMethods() []method[*node] {
	return []method[*node]{
		{name: "cmd", usage: "COMMAND...", doc: "run a command in the node's shell and return its output", run: func(c *call, n *node) (starlark.Value, error) {
			line, err := c.line()
			if err != nil {
				return nil, err
			}
			out, _, err := n.shell(c, line)
			return starlark.String(out), err
		}},
		{name: "cmdPrint", usage: "COMMAND...", doc: "run a command, print it and its output, and return that", run: func(c *call, n *node) (starlark.Value, error) {
			line, err := c.line()
			if err != nil {
				return nil, err
			}
			out, _, err := n.shell(c, line)
			if err == nil {
				c.thread.Print(c.thread, fmt.Sprintf("*** %s : (%s,)", n.name, pythonQuote(line)))
				if out != "" {
					c.thread.Print(c.thread, strings.TrimSuffix(out, "\n"))
				}
			}
			return starlark.String(out), err
		}},
		{name: "pexec", usage: "COMMAND...", doc: "run a command and return (output, errors, exit status)", run: func(c *call, n *node) (starlark.Value, error) {
			line, err := c.line()
			if err != nil {
				return nil, err
			}
			return n.pexec(c, line)
		}},
		{name: "sendCmd", usage: "COMMAND...", doc: "start a command; waitOutput waits for its end", run: sendCmd},
		{name: "waitOutput", doc: "wait for the command of sendCmd and return its output", run: waitOutput},
		{name: "run", usage: "COMMAND, at=, timeout=", doc: "have a command run when the network is up, or so much later", run: runLater},
		{name: "pid", doc: "process ID of the node's shell", get: func(n *node) (starlark.Value, error) {
			live, err := n.w.running()
			if err != nil {
				return nil, err
			}
			st, err := live.now()
			if err != nil {
				return nil, err
			}
			if pid := PIDs(st)[n.name]; pid != 0 {
				return starlark.MakeInt(pid), nil
			}
			return starlark.None, nil
		}},
		{name: "setARP", usage: "ADDRESS, MAC", doc: "add a permanent neighbour", run: setARP},
		{name: "setDefaultRoute", usage: "'via ADDRESS' | INTERFACE", doc: "set the default route", run: setDefaultRoute},
		{name: "setHostRoute", usage: "ADDRESS, INTERFACE", doc: "add a route to an address", run: setHostRoute},
	}
}

// runLater makes a command part of the description of the network.
func runLater(c *call, n *node) (starlark.Value, error) {
	d := n.w.draft
	if d == nil {
		return nil, errors.New("the network runs already; cmd runs a command now")
	}
	var v starlark.Value
	if err := c.take([]string{"command"}, &v); err != nil {
		return nil, err
	}
	line, err := (&call{args: starlark.Tuple{v}}).line()
	if err != nil {
		return nil, err
	}
	command := topo.Command{Node: n.name, Command: line}
	if err := setFields(&command, c.kwargs, []string{"node", "command"}); err != nil {
		return nil, err
	}
	if len(d.commands) >= maxCommands {
		return nil, fmt.Errorf("the network has %d commands, and no more are possible", maxCommands)
	}
	d.commands, d.commandsAt = append(d.commands, command), append(d.commandsAt, where(c.thread))
	return starlark.None, nil
}

// maxCommands bounds the commands of a description.
const maxCommands = 100_000

// line joins the words of a command: texts, nodes, numbers, or one list of these.
func (c *call) line() (string, error) {
	if err := c.done(); err != nil {
		return "", err
	}
	values := []starlark.Value(c.args)
	if len(values) == 1 {
		if l, ok := values[0].(*starlark.List); ok {
			values = nil
			for v := range starlark.Elements(l) {
				values = append(values, v)
			}
		}
	}
	var words []string
	for _, v := range values {
		switch v := v.(type) {
		case starlark.String:
			words = append(words, string(v))
		case starlark.Int, starlark.Float, *node, *port:
			words = append(words, v.String())
		default:
			return "", fmt.Errorf("%s is not part of a command; write text", shortly(v))
		}
	}
	line := strings.Join(words, " ")
	if strings.TrimSpace(line) == "" {
		return "", errors.New("there is no command; write one, such as 'ip addr'")
	}
	return line, nil
}

// shell runs a command line in the node's shell.
func (n *node) shell(c *call, line string) (out string, status int, err error) {
	live, err := n.w.running()
	if err != nil {
		return "", 0, err
	}
	live.mu.Lock()
	busy := live.jobs[n.name]
	live.mu.Unlock()
	if busy != nil {
		return "", 0, fmt.Errorf("%s still runs %q; call waitOutput first", n.name, busy.line)
	}
	return live.shell(c, n.name, line)
}

// shell runs a command line in a node's shell. Controllers have no namespace of their own: it
// is that of the switches.
func (l *live) shell(c *call, name, line string) (out string, status int, err error) {
	place, err := l.place(name)
	if err != nil {
		return "", 0, err
	}
	w := &output{}
	err = l.do(c, func() (err error) {
		status, err = l.client.Shell(c.ctx(), api.ShellRequest{Node: place, Command: line}, nil, w, nil, nil)
		if err == nil {
			err = c.ctx().Err() // the command was killed
		}
		return err
	})
	return w.String(), status, err
}

func (l *live) place(name string) (string, error) {
	k, err := l.kindOf(name)
	if k == controllerKind {
		return "", err
	}
	return name, err
}

// An output keeps what a command writes, and refuses what is too long for a script.
type output struct{ bytes.Buffer }

func (o *output) Write(p []byte) (int, error) {
	if o.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("the command's output is longer than %d bytes", maxOutput)
	}
	return o.Buffer.Write(p)
}

// pexec runs a command beside the node's shell, in one of its own.
func (n *node) pexec(c *call, line string) (starlark.Value, error) {
	// The node's shell has one stream for both outputs; errors come behind a mark that no
	// program writes.
	const mark = "\x01weft\x01"
	out, status, err := n.shell(c, "weft_errors=$(mktemp) && { (exec sh -c "+Quote(line)+") 2>\"$weft_errors\"; weft_status=$?; printf '%s' '"+mark+
		"'; cat \"$weft_errors\"; rm -f \"$weft_errors\"; (exit $weft_status); }")
	if err != nil {
		return nil, err
	}
	text, errors, _ := strings.Cut(out, mark)
	return starlark.Tuple{starlark.String(text), starlark.String(errors), starlark.MakeInt(status)}, nil
}

// A job is a command that sendCmd started.
type job struct {
	line string
	done chan struct{}
	out  output
	err  error
}

func sendCmd(c *call, n *node) (starlark.Value, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	live, err := n.w.running()
	if err != nil {
		return nil, err
	}
	place, err := live.place(n.name)
	if err != nil {
		return nil, err
	}
	j := &job{line: line, done: make(chan struct{})}
	live.mu.Lock()
	defer live.mu.Unlock()
	if busy := live.jobs[n.name]; busy != nil {
		return nil, fmt.Errorf("%s still runs %q; call waitOutput first", n.name, busy.line)
	}
	live.jobs[n.name] = j
	ctx := context.WithoutCancel(c.ctx()) // it ends with its node
	go func() {
		defer close(j.done)
		_, j.err = live.client.Shell(ctx, api.ShellRequest{Node: place, Command: line}, nil, &j.out, nil, nil)
	}()
	return starlark.None, nil
}

func waitOutput(c *call, n *node) (starlark.Value, error) {
	if err := c.nothing(); err != nil {
		return nil, err
	}
	live, err := n.w.running()
	if err != nil {
		return nil, err
	}
	live.mu.Lock()
	j := live.jobs[n.name]
	live.mu.Unlock()
	if j == nil {
		return nil, fmt.Errorf("%s runs nothing; call sendCmd first", n.name)
	}
	err = live.do(c, func() error {
		select {
		case <-j.done:
			return j.err
		case <-c.ctx().Done():
			return c.ctx().Err()
		}
	})
	if c.ctx().Err() != nil {
		return nil, err
	}
	live.mu.Lock()
	delete(live.jobs, n.name)
	live.mu.Unlock()
	return starlark.String(j.out.String()), err
}

// must runs a command at the node; that it fails is an error.
func (n *node) must(c *call, line string) (starlark.Value, error) {
	out, status, err := n.shell(c, line)
	if err == nil && status != 0 {
		err = errors.New(firstLine(out, "exit status "+strconv.Itoa(status)))
	}
	return starlark.None, err
}

func setARP(c *call, n *node) (starlark.Value, error) {
	var ip, mac starlark.Value
	if err := c.take([]string{"ip", "mac"}, &ip, &mac); err != nil {
		return nil, err
	}
	address, err := textOf(ip, "an address")
	if err != nil {
		return nil, err
	}
	ether, err := textOf(mac, "a MAC address")
	if err != nil {
		return nil, err
	}
	p, err := n.port(nil)
	if err != nil {
		return nil, err
	}
	i, err := p.planned()
	if err != nil {
		return nil, err
	}
	return n.must(c, "ip neigh replace "+Quote(address)+" lladdr "+Quote(ether)+" dev "+Quote(i.Device)+" nud permanent")
}

// setDefaultRoute takes 'via ADDRESS', 'dev INTERFACE via ADDRESS' and the like, or an
// interface, as Mininet's.
func setDefaultRoute(c *call, n *node) (starlark.Value, error) {
	var v starlark.Value
	if err := c.take([]string{"intf?"}, &v); err != nil {
		return nil, err
	}
	if text, ok := v.(starlark.String); ok && strings.Contains(string(text), " ") {
		words := strings.Fields(string(text))
		for i, w := range words {
			words[i] = Quote(w)
		}
		return n.must(c, "ip route replace default "+strings.Join(words, " "))
	}
	p, err := n.port(v)
	if err != nil {
		return nil, err
	}
	i, err := p.planned()
	if err != nil {
		return nil, err
	}
	return n.must(c, "ip route replace default dev "+Quote(i.Device))
}

func setHostRoute(c *call, n *node) (starlark.Value, error) {
	var ip, v starlark.Value
	if err := c.take([]string{"ip", "intf"}, &ip, &v); err != nil {
		return nil, err
	}
	address, err := textOf(ip, "an address")
	if err != nil {
		return nil, err
	}
	p, err := n.port(v)
	if err != nil {
		return nil, err
	}
	i, err := p.planned()
	if err != nil {
		return nil, err
	}
	return n.must(c, "ip route replace "+Quote(address)+" dev "+Quote(i.Device))
}

// plannedSwitch returns a switch in the plan of the running network.
func (n *node) plannedSwitch() (*topo.PlannedSwitch, error) {
	live, err := n.w.running()
	if err != nil {
		return nil, err
	}
	plan, err := live.plan()
	if err != nil {
		return nil, err
	}
	s := plan.Switch(n.name)
	if s == nil {
		return nil, fmt.Errorf("the switch %s is not there any more", n.name)
	}
	return s, nil
}

func switchMethods() []method[*node] {
	set := func(running bool) func(c *call, n *node) (starlark.Value, error) {
		return func(c *call, n *node) (starlark.Value, error) {
			if len(c.args) > 1 { // Mininet's start takes the controllers, which the plan knows
				return nil, errors.New("it takes no values")
			}
			live, err := n.w.running()
			if err != nil {
				return nil, err
			}
			return starlark.None, live.do(c, func() error { return live.client.SetSwitch(c.ctx(), n.name, running) })
		}
	}
	return []method[*node]{
		{name: "start", doc: "start the switch", run: set(true)},
		{name: "stop", doc: "stop the switch", run: set(false)},
		{name: "attach", usage: "INTERFACE", doc: "nothing: links are attached when they are added", run: func(c *call, n *node) (starlark.Value, error) {
			_, err := n.choose(c)
			return starlark.None, err
		}},
		{name: "connected", doc: "whether it has a controller", run: connected},
		{name: "dpctl", usage: "COMMAND...", doc: "run ovs-ofctl for the switch and return its output", run: func(c *call, n *node) (starlark.Value, error) {
			s, err := n.plannedSwitch()
			if err == nil {
				err = s.NoFlowTable()
			}
			if err != nil {
				return nil, err
			}
			line, err := c.line()
			if err != nil {
				return nil, err
			}
			sub, rest, _ := strings.Cut(line, " ")
			out, _, err := n.shell(c, Ofctl(*s, sub, rest))
			return starlark.String(out), err
		}},
		{name: "dpid", doc: "datapath ID, 16 hexadecimal digits", get: func(n *node) (starlark.Value, error) {
			s, err := n.plannedSwitch()
			if err != nil {
				return nil, err
			}
			return starlark.String(fmt.Sprintf("%016x", s.DPID)), nil
		}},
	}
}

func connected(c *call, n *node) (starlark.Value, error) {
	live, err := n.w.running()
	if err != nil {
		return nil, err
	}
	st, err := live.now()
	if err != nil {
		return nil, err
	}
	for _, s := range st.Switches {
		for _, conn := range s.Connections {
			if s.Name == n.name && conn.Connected {
				return starlark.True, c.nothing()
			}
		}
	}
	return starlark.False, c.nothing()
}

// Ofctl returns the command line of ovs-ofctl for a switch.
func Ofctl(sw topo.PlannedSwitch, sub, args string) string {
	words := []string{"ovs-ofctl"}
	if v := sw.OpenFlowVersions(); v != "" {
		words = append(words, "-O", v)
	}
	words = append(words, sub, Quote(sw.Device))
	if args != "" {
		words = append(words, args)
	}
	return strings.Join(words, " ")
}

// Quote makes one word of a shell command of text; what the shell leaves alone is left alone.
func Quote(text string) string {
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.-", r))
	}
	if text != "" && !strings.ContainsFunc(text, odd) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// firstLine returns the first line of what a command said, or otherwise.
func firstLine(out, otherwise string) string {
	if line, _, _ := strings.Cut(strings.TrimSpace(out), "\n"); line != "" {
		return line
	}
	return otherwise
}
