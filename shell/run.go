package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"weft/api"
	"weft/script"
	"weft/topo"
)

// fabric is the API's name for the place where Open vSwitch runs.
const fabric = ""

// An ExitError says that a command ended with a status other than 0.
type ExitError struct {
	Node   string // empty for sh and dpctl
	Status int    // 128+n if signal n ended it
}

func (e *ExitError) Error() string {
	if e.Node == fabric {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return fmt.Sprintf("%s: exit status %d", e.Node, e.Status)
}

// commandResult is the JSON form of a command that ran in a shell.
type commandResult struct {
	Node    string `json:"node,omitempty"`
	Command string `json:"command"`
	Status  int    `json:"status"`
	Output  string `json:"output"`
}

// runOnNode runs c.rest on the node c.name.
func runOnNode(ctx context.Context, c *call) error {
	return c.onNode(ctx, c.name, c.rest, false)
}

// runNoEcho runs a command on a node with its terminal's echo off.
func runNoEcho(ctx context.Context, c *call) error {
	node, rest := cutWord(c.rest)
	if node == "" {
		return c.misuse("usage: noecho [cmd args]")
	}
	return c.onNode(ctx, node, rest, true)
}

// onNode runs a command line on a node; hosts' names in it become addresses.
func (c *call) onNode(ctx context.Context, node, line string, noecho bool) error {
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	if err := wantNode(nodeNames(st.Plan), "node", node); err != nil {
		return err
	}
	if line == "" {
		return mistake{
			fmt.Sprintf("*** Please enter a command for node: %s <cmd>", node),
			fmt.Sprintf("usage: %s COMMAND", node),
		}
	}
	line = replaceWords(line, func(word string) (string, bool) { return address(st.Plan, c.cfg.Dialect, word) })
	if noecho && c.onTerminal() {
		line = "(stty -echo; trap 'stty echo' EXIT\n" + line + "\n)"
	}
	return c.finish(c.shell(ctx, place(st.Plan, node), line, c.results()))
}

// place returns where a node's commands run: controllers have no namespace of their
// own, so it is the fabric for them, as it is Mininet's root namespace.
func place(p *topo.Plan, node string) string {
	if p.Controller(node) != nil {
		return fabric
	}
	return node
}

// runSh runs a command in the fabric; as in Mininet its output is not a result of ours
// but its own, and goes to Out in both dialects.
func runSh(ctx context.Context, c *call) error {
	if c.rest == "" {
		return c.misuse("usage: sh [cmd args]")
	}
	return c.finish(c.shell(ctx, fabric, c.rest, c.cfg.Out))
}

func runDpctl(ctx context.Context, c *call) error {
	sub, args := cutWord(c.rest)
	if sub == "" {
		return c.misuse("usage: dpctl command [arg1] [arg2] ...")
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	type result struct {
		Switch string `json:"switch"`
		commandResult
	}
	all := []result{}
	var failed error
	for _, sw := range st.Plan.Switches {
		if sw.NoFlowTable() != nil {
			continue
		}
		if !c.json {
			fmt.Fprintf(c.results(), "*** %s %s\n", sw.Name, strings.Repeat("-", 72))
		}
		r, err := c.shell(ctx, fabric, script.Ofctl(sw, sub, args), c.results())
		if err != nil {
			return err
		}
		all = append(all, result{sw.Name, r})
		if r.Status != 0 {
			failed = &ExitError{Status: r.Status}
		}
		if r.Status == 128+int(syscall.SIGINT) {
			break
		}
	}
	if c.json {
		c.encode(all)
	}
	if failed != nil {
		return shown{failed}
	}
	if len(all) == 0 {
		return errors.New("dpctl: no switch speaks OpenFlow")
	}
	return nil
}

// runTerminals returns the run function of xterm and gterm.
func runTerminals(kind string) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if len(c.args) == 0 {
			return c.misuse(fmt.Sprintf("usage: %s node1 node2 ...", kind))
		}
		st, err := c.state(ctx)
		if err != nil {
			return err
		}
		var errs []error
		for _, node := range c.args {
			if err := wantNode(nodeNames(st.Plan), "node", node); err != nil {
				errs = append(errs, err)
				continue
			}
			program := fmt.Sprintf(`xterm -T "Node: %s"`, node)
			if kind == "gterm" {
				program = fmt.Sprintf(`gnome-terminal --wait --title "Node: %s"`, node)
			}
			if err := c.window(ctx, place(st.Plan, node), program); err != nil {
				return errors.Join(append(errs, err)...)
			}
		}
		if err := joinMistakes(errs); err != nil {
			return err
		}
		return c.done()
	}
}

func runX(ctx context.Context, c *call) error {
	node, program := cutWord(c.rest)
	if node == "" || program == "" {
		return c.misuse("usage: x node [cmd args]...")
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	if err := wantNode(nodeNames(st.Plan), "node", node); err != nil {
		return err
	}
	if err := c.window(ctx, place(st.Plan, node), program); err != nil {
		return err
	}
	return c.done()
}

// window starts a program with windows in the background.
func (c *call) window(ctx context.Context, node, program string) error {
	name, _ := cutWord(program)
	display := os.Getenv("DISPLAY")
	host, _, _ := strings.Cut(display, ":")
	switch {
	case display == "":
		return fmt.Errorf("%s needs a graphical display, and DISPLAY is not set", name)
	case host != "" && host != "unix" && !strings.HasPrefix(host, "/"):
		return fmt.Errorf("nodes cannot reach the display %s over TCP: they reach local ones (:0) only", display)
	}
	run := func(line string) (int, error) {
		return c.net.Shell(ctx, api.ShellRequest{Node: node, Command: line, Env: environment()}, nil, io.Discard, nil, nil)
	}
	status, err := run(fmt.Sprintf("command -v '%s' >/dev/null", name))
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("%s is not installed", name)
	}
	if status, err = run(fmt.Sprintf("(setsid %s </dev/null >/dev/null 2>&1 &)", program)); err != nil {
		return err
	}
	if status != 0 {
		return &ExitError{Node: node, Status: status}
	}
	return nil
}

// environment returns what programs on nodes need to know of the user's desktop.
func environment() []string {
	var env []string
	for _, name := range []string{"DISPLAY", "XAUTHORITY"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// onTerminal reports whether programs on nodes get the user's terminal.
func (c *call) onTerminal() bool {
	return c.keyboard != nil && !c.json && term.IsTerminal(c.keyboard.fd)
}

// shell runs a command line at node, with its output to w, or captured for JSON.
func (c *call) shell(ctx context.Context, node, line string, w io.Writer) (commandResult, error) {
	r := commandResult{Node: node, Command: line}
	req := api.ShellRequest{Node: node, Command: line, Term: os.Getenv("TERM"), Env: environment()}
	var captured bytes.Buffer
	if c.json {
		w = &captured
	}
	interrupt := make(chan struct{}, 1)
	stop := c.onInterrupt(func() {
		select {
		case interrupt <- struct{}{}:
		default:
		}
	})
	defer stop()
	var err error
	if c.onTerminal() {
		r.Status, err = c.shellOnTerminal(ctx, req, w, interrupt)
	} else {
		r.Status, err = c.net.Shell(ctx, req, nil, w, interrupt, nil)
	}
	r.Output = captured.String()
	return r, err
}

// shellOnTerminal lends the user's terminal to the command: raw, so that each key
// reaches it, until it ends. What was typed before it started stays for the prompt.
func (c *call) shellOnTerminal(ctx context.Context, req api.ShellRequest, w io.Writer, interrupt <-chan struct{}) (status int, err error) {
	fd := c.keyboard.fd
	old, err := term.MakeRaw(fd)
	if err != nil {
		return 0, fmt.Errorf("cannot lend the terminal to %s: %w", req.Node, err)
	}
	defer func() { err = errors.Join(err, term.Restore(fd, old)) }()

	size := windowSize(fd)
	req.TTY, req.Rows, req.Cols = true, size.Rows, size.Cols
	typing, stopTyping := context.WithCancel(ctx)
	defer stopTyping()
	resize := make(chan api.Size, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	go func() {
		for {
			select {
			case <-changed:
			case <-typing.Done():
				return
			}
			select {
			case resize <- windowSize(fd):
			case <-typing.Done():
				return
			}
		}
	}()
	return c.net.Shell(ctx, req, typed{typing, c.keyboard}, w, interrupt, resize)
}

// windowSize returns a terminal's size, 24x80 if it does not know.
func windowSize(fd int) api.Size {
	size := api.Size{Rows: 24, Cols: 80}
	if ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
		if ws.Row > 0 {
			size.Rows = ws.Row
		}
		if ws.Col > 0 {
			size.Cols = ws.Col
		}
	}
	return size
}

// finish shows the result of a command and makes an error of its status. Mininet does
// not mention it.
func (c *call) finish(r commandResult, err error) error {
	if err != nil {
		return err
	}
	if c.json {
		c.encode(r)
	}
	if r.Status == 0 {
		return nil
	}
	e := &ExitError{Node: r.Node, Status: r.Status}
	if !c.json && c.cfg.Dialect == Native {
		fmt.Fprintln(c.cfg.Err, e)
	}
	return shown{e}
}
