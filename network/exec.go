package network

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"weft/internal/ns"
	"weft/internal/sandbox"
	"weft/node"
)

// An ExecRequest asks to run a program on a node, beside its shell.
type ExecRequest struct {
	// Node is a host, switch or controller; empty for where Open vSwitch runs.
	Node string `json:"node"`
	// Argv is the program and its arguments.
	Argv []string `json:"argv"`
	// Env is the environment, NAME=VALUE. The network adds what makes Open vSwitch's tools
	// find it, and WEFT_NETWORK.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory; empty: /.
	Dir string `json:"dir,omitempty"`
	// Terminal says that standard input is a terminal, which becomes the program's own.
	Terminal bool `json:"terminal,omitempty"`
}

// ErrNoNode is matched by errors about a node that there is not.
var ErrNoNode = errors.New("no node")

// Exec starts a program on a node with files as its standard input, output and error. Why it
// cannot be started is a *node.StartError. The program ends with its node.
func (n *Network) Exec(r ExecRequest, files [3]*os.File) (*node.Task, error) {
	if len(r.Argv) == 0 || r.Argv[0] == "" {
		return nil, errors.New("no program to run")
	}
	place, err := n.place(r.Node)
	if err != nil {
		return nil, err
	}
	return n.execAt(place, r, files)
}

// execAt starts a program at a place of a node's.
func (n *Network) execAt(place *ns.Place, r ExecRequest, files [3]*os.File) (*node.Task, error) {
	p := node.Program{Argv: r.Argv, Env: append(withSystemPath(r.Env), n.programEnv()...), Dir: r.Dir, Files: files, Terminal: r.Terminal}
	task, err := p.Start(place)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.tasks[task] = r.Node
	n.mu.Unlock()
	program := r.Argv[0]
	n.events.send(Event{Kind: KindProcess, Node: r.Node, PID: task.PID, Message: program + " started"})
	go func() {
		<-task.Done()
		n.events.send(Event{Kind: KindProcessEnded, Node: r.Node, PID: task.PID, Status: task.Status(),
			Message: fmt.Sprintf("%s ended with status %d", program, task.Status())})
		n.mu.Lock()
		delete(n.tasks, task)
		n.mu.Unlock()
	}()
	return task, nil
}

// place returns where a node's programs run: that of switches, controllers and "" is the
// fabric.
func (n *Network) place(name string) (*ns.Place, error) {
	n.mu.Lock()
	host, plan := n.hosts[name], n.plan
	n.mu.Unlock()
	switch {
	case host != nil:
		return host.Place()
	case name != "" && plan.Switch(name) == nil && plan.Controller(name) == nil:
		return nil, fmt.Errorf("%w is called %q", ErrNoNode, name)
	}
	return n.fabricPlace()
}

// fabricPlace returns where the programs of switches, controllers and "" run.
func (n *Network) fabricPlace() (*ns.Place, error) {
	if n.env.Confine == nil {
		return &ns.Place{Net: n.fabric}, nil
	}
	return n.confinedFabric()
}

// confinedPlace returns where the programs of a host or switch run that are confined whatever
// others may do.
func (n *Network) confinedPlace(name string) (*ns.Place, error) {
	n.mu.Lock()
	host := n.hosts[name]
	n.mu.Unlock()
	if host != nil {
		return host.ConfinedPlace()
	}
	return n.confinedFabric()
}

// confinedFabric returns where those of them run that are confined.
func (n *Network) confinedFabric() (*ns.Place, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.confined == nil {
		var c Confinement
		if n.env.Confine != nil {
			c = *n.env.Confine
		}
		c.Writable = append(slices.Clone(c.Writable), n.ovsDir()) // where the switches' sockets are
		if err := os.MkdirAll(n.ovsDir(), 0o700); err != nil {
			return nil, err
		}
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		if n.confined, err = node.NewPlace(n.fabric, host, &c, c.Mount); err != nil {
			return nil, fmt.Errorf("switches: %w", err)
		}
	}
	return n.confined, nil
}

// endTasks kills what was started with Exec on a node.
func (n *Network) endTasks(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for t, on := range n.tasks {
		if on == name {
			t.Signal(syscall.SIGKILL)
		}
	}
}

// withSystemPath returns a copy of an environment whose PATH has the directories of system
// programs, which an ordinary user's often lacks.
func withSystemPath(env []string) []string {
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return append(append([]string(nil), env...), "PATH="+sandbox.SystemPath(path))
}
