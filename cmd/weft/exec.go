package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"weft/api"
	"weft/internal/sandbox"
	"weft/session"
	"weft/shell"
)

// execCommand is weft exec.
func (p *program) execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec [NETWORK] NODE [--] COMMAND [ARGUMENT...]",
		Short: "Run a program on a node of a running network",
		Long: "The program gets this command's standard input, output and error themselves, its\n" +
			"environment, working directory and signals. If input and output are a terminal, it has\n" +
			"one of its own that shows there. On switches and controllers it runs where Open vSwitch\n" +
			"does. NETWORK may be left out if one network runs.\n\n" +
			"The exit status is the program's, 128+n if signal n ended it; 127 if there is no such\n" +
			"program, 126 if it cannot be run, 125 if weft failed, 124 after --timeout.\n",
		Example: "weft exec lab h1 -- ping -c1 10.0.0.2\n" +
			"weft exec lab h1 bash\n" +
			"weft exec lab h2 -- tcpdump -i h2-eth0 -w - | wireshark -k -i -\n" +
			"weft exec lab s1 -- ovs-ofctl dump-flows s1",
		ValidArgsFunction: completeNode(cobra.ShellCompDirectiveDefault),
	}
	c := session.ExecConfig{In: p.in, Out: p.out, Err: p.err}
	var terminal, noTerminal, noInput, interactive bool
	var timeout string
	f := cmd.Flags()
	f.SortFlags = false
	f.SetInterspersed(false) // what follows the node is the program's
	f.BoolVarP(&terminal, "tty", "t", false, "give the program a terminal of its own (if input and output are one)")
	f.BoolVarP(&noTerminal, "no-tty", "T", false, "do not")
	f.BoolVarP(&interactive, "interactive", "i", false, "pass standard input on, which is done anyway")
	f.BoolVarP(&noInput, "no-stdin", "n", false, "the program reads end of file")
	f.StringArrayVarP(&c.Env, "env", "e", nil, "`NAME[=VALUE]` set a variable of the program's environment; may be repeated")
	f.StringVarP(&c.Dir, "workdir", "w", "", "`DIRECTORY` run it there (the current directory)")
	f.Var(spanValue(&timeout), "timeout", "`SECONDS` end it after this time")
	fail := func(err error) error { return &session.StatusError{Status: session.ExitExec, Err: err} }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return fail(flagError(cmd, err)) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return fail(err)
		}
		// With "--" after two words the first is the network; else it may be.
		most := len(args)
		if dash := slices.Index(args[:min(3, len(args))], "--"); dash >= 0 {
			args, most = slices.Delete(args, dash, dash+1), len(args)-dash
		}
		var err error
		if c.Network, args, err = chooseNetwork(args, most); err != nil {
			return fail(err)
		}
		if len(args) < 2 || args[0] == "" || args[1] == "" {
			return fail(errors.New("write a node and the program to run there: weft exec NODE -- COMMAND"))
		}
		c.Node, c.Argv = args[0], args[1:]
		if terminal && noTerminal {
			return fail(errors.New("--tty and --no-tty exclude each other; write one of them"))
		}
		if timeout != "" {
			if c.Timeout, err = parseSpan(timeout); err != nil {
				return fail(fmt.Errorf("--timeout: %w", err))
			}
		}
		for i, e := range c.Env {
			if c.Env[i], err = environment(e); err != nil {
				return fail(err)
			}
		}
		if noInput {
			c.In = nil
		}
		c.Terminal = terminal || !noTerminal && !noInput && onTerminal(p)
		return session.Exec(cmd.Context(), c)
	}
	return cmd
}

// onTerminal reports whether a person sits at input and output.
func onTerminal(p *program) bool {
	return term.IsTerminal(int(p.in.Fd())) && term.IsTerminal(int(p.out.Fd()))
}

// environment completes NAME with its value here.
func environment(text string) (string, error) {
	name, _, hasValue := strings.Cut(text, "=")
	switch {
	case name == "":
		return "", fmt.Errorf("--env %q: write NAME=VALUE", text)
	case hasValue:
		return text, nil
	}
	value, ok := os.LookupEnv(name)
	if !ok {
		return "", fmt.Errorf("--env %s: there is no such variable here; write %s=VALUE", name, name)
	}
	return name + "=" + value, nil
}

// shellCommand is weft shell.
func (p *program) shellCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shell [NETWORK] [NODE]",
		Short: "Work on a node of a running network in a shell, or at weft's prompt",
		Long: "On a node it is the shell that SHELL names, or bash, with the status it ends with.\n" +
			"Without NODE it is weft attach. NETWORK may be left out if one network runs.\n",
		Example:           "weft shell lab h1\necho 'ip addr' | weft shell lab h1",
		ValidArgsFunction: completeNode(cobra.ShellCompDirectiveNoFileComp),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		network, rest, err := chooseNetwork(args, 1)
		switch {
		case err != nil:
			return err
		case len(rest) > 1:
			return noArgs(cmd, rest[1:])
		case len(rest) == 0:
			return session.Attach(cmd.Context(), session.AttachConfig{Network: network, In: p.in, Out: p.out, Err: p.err})
		}
		return session.Exec(cmd.Context(), session.ExecConfig{Network: network, Node: rest[0], Argv: []string{userShell()},
			In: p.in, Out: p.out, Err: p.err, Terminal: onTerminal(p)})
	}
	return cmd
}

// userShell is the user's shell if it is there, else bash.
func userShell() string {
	if sh := os.Getenv("SHELL"); sh != "" {
		if _, err := os.Stat(sh); err == nil {
			return sh
		}
	}
	return "bash"
}

// attachCommand is weft attach.
func (p *program) attachCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach [NETWORK]",
		Short: "Work at weft's prompt on a running network, which lives on when you leave",
		Long: "Several may do so at the same time. Commands are also read from a script on standard\n" +
			"input; the exit status is 1 if one failed. NETWORK may be left out if one network runs.\n",
		Example:           "weft attach lab\necho pingall | weft attach lab",
		ValidArgsFunction: completeNetworks,
	}
	asJSON := cmd.Flags().Bool("json", false, "print results as JSON, a document on a line for each command")
	mininet := cmd.Flags().Bool("mn", false, "with Mininet's prompt, commands and output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		network, rest, err := chooseNetwork(args, 0)
		switch {
		case err != nil:
			return err
		case len(rest) > 0:
			return noArgs(cmd, rest)
		}
		c := session.AttachConfig{Network: network, JSON: *asJSON, In: p.in, Out: p.out, Err: p.err}
		if *mininet {
			c.Dialect = shell.Mininet
		}
		return session.Attach(cmd.Context(), c)
	}
	return cmd
}

// chooseNetwork returns the network that a command line is about, and the words after its
// name: the network that the first word names, or else the only one that runs. The first
// word must name one if there are more than most words.
func chooseNetwork(args []string, most int) (name string, rest []string, err error) {
	if len(args) > 0 {
		err := sandbox.Check(args[0])
		var no *sandbox.NotRunningError
		switch {
		case err == nil:
			return args[0], args[1:], nil
		case len(args) > most || !errors.As(err, &no):
			return "", nil, &session.UsageError{Err: err}
		}
	}
	running, _, err := sandbox.List()
	switch {
	case err != nil:
		return "", nil, err
	case len(running) == 0:
		return "", nil, errors.New("no network of yours is running; start one with weft up")
	case len(running) > 1:
		return "", nil, &session.UsageError{Err: fmt.Errorf("several networks are running; write which first: %s", strings.Join(running, ", "))}
	}
	return running[0], args, nil
}

// completeTime bounds what the completion of names may take.
const completeTime = time.Second

// completeNode completes a network, then a node of it, then what after says.
func completeNode(after cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		networks, _, err := sandbox.List()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		switch {
		case len(args) == 0 && len(networks) == 1:
			return append(networks, nodesOf(cmd.Context(), networks[0])...), cobra.ShellCompDirectiveNoFileComp
		case len(args) == 0:
			return networks, cobra.ShellCompDirectiveNoFileComp
		case len(args) == 1 && sandbox.Check(args[0]) == nil:
			return nodesOf(cmd.Context(), args[0]), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, after
	}
}

// nodesOf returns the names of a network's nodes, none if it does not answer.
func nodesOf(ctx context.Context, network string) []string {
	client, err := api.Open(network)
	if err != nil {
		return nil
	}
	if ctx == nil { // as in completion
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	info, err := client.Info(ctx)
	if err != nil {
		return nil
	}
	return append(append(info.Nodes.Hosts, info.Nodes.Switches...), info.Nodes.Controllers...)
}
