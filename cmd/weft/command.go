package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"weft/dpdkhost/nic"
	"weft/internal/sandbox"
	"weft/session"
	"weft/shell"
	"weft/topo"
)

// subcommands returns the commands that stand for themselves, each as a function that makes
// it, by name.
func (p *program) subcommands() map[string]func() *cobra.Command {
	return map[string]func() *cobra.Command{
		"api":        p.apiCommand,
		"apply":      p.applyCommand,
		"attach":     p.attachCommand,
		"capture":    p.captureCommand,
		"clean":      p.cleanCommand,
		"control":    p.controlCommand,
		"convert":    p.convertCommand,
		"doctor":     p.doctorCommand,
		"down":       p.downCommand,
		"dpdk":       p.dpdkCommand,
		"events":     p.eventsCommand,
		"exec":       p.execCommand,
		"extcap":     p.extcapCommand,
		"graph":      p.graphCommand,
		"inspect":    p.inspectCommand,
		"link":       p.linkCommand,
		"logs":       p.logsCommand,
		"ls":         p.listCommand,
		"nf":         p.nfCommand,
		nfRunName:    p.nfRunCommand,
		"openflow":   p.openflowCommand,
		"run":        p.runCommand,
		"save":       p.saveCommand,
		"schema":     p.schemaCommand,
		"shell":      p.shellCommand,
		"topologies": p.topologiesCommand,
		"up":         p.upCommand,
		"validate":   p.validateCommand,
		"version":    p.versionCommand,
		"wireshark":  p.wiresharkCommand,
	}
}

// command returns weft as the command line of words needs it: with one of its subcommands, if
// the first word is its name, because making all takes longer than many of them run; else
// with all.
func (p *program) command(words []string) *cobra.Command {
	if len(words) > 0 {
		if only := p.subcommands()[words[0]]; only != nil {
			root := &cobra.Command{Use: "weft"}
			p.prepare(root)
			p.add(root, only())
			return root
		}
	}
	return p.fullCommand()
}

// fullCommand returns weft with all its subcommands.
func (p *program) fullCommand() *cobra.Command {
	root, groups := p.networkCommand(shell.Native)
	root.Use = "weft"
	root.Short = "Build a network of hosts, switches and controllers on this machine"
	p.prepare(root)

	mn, mnGroups := p.networkCommand(shell.Mininet)
	mn.Use = mnName
	mn.Short = "The same with Mininet's options, prompt and output"

	p.add(root, mn, p.completionCommand(root), p.manCommand(root, groups))
	for _, make := range p.subcommands() {
		p.add(root, make())
	}
	help := p.helpCommand(root)
	root.SetHelpCommand(help)
	p.add(root, help)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(p.out, cmd, groups) })
	mn.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeMininetHelp(p.out, mnGroups) })
	return root
}

// prepare sets what concerns all commands.
func (p *program) prepare(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.SetOut(p.out)
	root.SetErr(p.err)
}

// add makes commands subcommands of root.
func (p *program) add(root *cobra.Command, commands ...*cobra.Command) {
	for _, c := range commands {
		c.SetHelpFunc(func(cmd *cobra.Command, words []string) {
			if !p.helpScript(context.Background(), words) {
				writeHelp(p.out, cmd, nil)
			}
		})
		c.Flags().VisitAll(splitUsage)
		root.AddCommand(c)
	}
}

// noArgs refuses words that are no options.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unexpected argument %q (see %s --help)", args[0], cmd.CommandPath())
	switch {
	case strings.Contains(args[0], "="):
		err = fmt.Errorf("unexpected argument %q; a value that may be left out is joined to its option: --nat=%s", args[0], args[0])
	case !cmd.HasParent():
		var names []string
		for _, c := range cmd.Commands() {
			if !c.Hidden {
				names = append(names, c.Name())
			}
		}
		hint := ""
		if near := topo.Nearest(args[0], names); near != "" {
			hint = "; did you mean " + near + "?"
		}
		err = fmt.Errorf("there is no command %q%s (see weft --help)", args[0], hint)
	}
	return &session.UsageError{Err: err}
}

// jsonFlag adds --json to a command.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (p *program) cleanCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "clean", Short: "Remove what killed networks left, put back what weft changed of the machine, and nothing else", Args: noArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return clean(cmd.Context(), p.out, *asJSON) }
	return cmd
}

// clean removes what dead networks left, puts back what they and weft dpdk changed of the
// machine, and says so.
func clean(ctx context.Context, w io.Writer, asJSON bool) error {
	names, err := sandbox.Clean()
	restored, err2 := nic.MachineJournal.Restore(ctx, "/")
	err = errors.Join(err, err2)
	if asJSON {
		return errors.Join(err, printJSON(w, struct {
			Removed  []string `json:"removed"`
			Restored []string `json:"restored"`
		}{append([]string{}, names...), append([]string{}, restored...)}))
	}
	for _, n := range names {
		fmt.Fprintf(w, "removed what network %s left\n", n)
	}
	for _, what := range restored {
		fmt.Fprintf(w, "put back %s\n", what)
	}
	return err
}

func (p *program) versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error { return printVersion(p.out, *asJSON) }
	return cmd
}

// bashAlone lets cobra's script work without the package bash-completion, which defines
// _init_completion and _get_comp_words_by_ref. It puts together what bash divides at = and :.
const bashAlone = `
__weft_init_completion()
{
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local line=${COMP_LINE:0:COMP_POINT}
    read -ra words <<<"$line"
    [[ $line == *[[:blank:]] ]] && words+=("")
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword - 1]}
}
`

func (p *program) completionCommand(root *cobra.Command) *cobra.Command {
	write := map[string]func() error{
		"bash": func() error {
			if err := root.GenBashCompletionV2(p.out, true); err != nil {
				return err
			}
			_, err := io.WriteString(p.out, bashAlone)
			return err
		},
		"zsh":  func() error { return root.GenZshCompletion(p.out) },
		"fish": func() error { return root.GenFishCompletion(p.out, true) },
	}
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print what makes your shell complete weft's options", ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && write[args[0]] != nil {
				return nil
			}
			return &session.UsageError{Err: fmt.Errorf("completion: write one of %s", strings.Join(shells, ", "))}
		},
		RunE: func(_ *cobra.Command, args []string) error { return write[args[0]]() },
	}
}

func (p *program) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Explain weft or one of its commands", Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return noArgs(root, args)
			}
			return cmd.Help()
		},
	}
}

func (p *program) manCommand(root *cobra.Command, groups []group) *cobra.Command {
	return &cobra.Command{Use: "man", Short: "Print the manual page", Hidden: true, Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return writeMan(p.out, root, groups) }}
}
