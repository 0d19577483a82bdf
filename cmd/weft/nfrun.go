package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/nf/builtin"
	"weft/dpdkhost/nf/scaffold"
	"weft/internal/sandbox"
	"weft/session"
	"weft/shell"
	"weft/topo"
)

// nfRunName is the command that is an NF of weft's own: a node's manager starts it.
const nfRunName = "nf-run"

func (p *program) nfRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: nfRunName + " NAME [ARGUMENT...]", Short: "Be a network function; a dpdk node starts it", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return runNF(args) },
	}
}

// runNF is an NF until its manager ends it.
func runNF(args []string) error {
	if len(args) == 0 {
		return &session.UsageError{Err: fmt.Errorf("%s NAME [ARGUMENT...]: which NF? see weft nf help", nfRunName)}
	}
	made, f, err := makeNF(args[0], args[1:])
	if err != nil {
		return err
	}
	path, hello, err := nf.Environment(f)
	if err != nil {
		return err
	}
	hello.ReadOnly, hello.Wire = made.ReadOnly, made.Wire
	c, err := nf.Connect(path, hello)
	if err != nil {
		return err
	}
	return errors.Join(c.Run(f), c.Close())
}

// makeNF makes an NF that comes with weft.
func makeNF(name string, args []string) (builtin.NF, nf.Function, error) {
	made, err := builtin.Find(name)
	var f nf.Function
	if err == nil {
		f, err = made.New(args)
	}
	if err != nil {
		return made, nil, &session.UsageError{Err: err}
	}
	return made, f, nil
}

// checkNF says what is wrong with the arguments of an NF that comes with weft.
func checkNF(n topo.NF) error {
	f, err := builtin.Find(n.Name)
	if err != nil {
		return nil // who checks the description says it, or it is another manager's
	}
	return f.Check(n.Args)
}

// nfCommand is weft nf.
func (p *program) nfCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nf [ACTION] [NETWORK] [NODE] [ARGUMENT...]",
		Short: "Network functions (NFs): those on a running network's dpdk nodes, those that come with weft, and your own",
		Long: "Actions:\n" + shell.NFActions() +
			"  help [NAME]                list those that come with weft, or explain one\n" +
			"  new DIRECTORY              begin one of your own: a sample and what it is built with\n" +
			"NETWORK and NODE may be left out if there is one; they come before the action or after it.\n",
		Example: "weft nf list\n" +
			"weft nf start monitor@2 --core 1\n" +
			"weft nf start firewall@3 -- --rule 'allow tcp dport 80 keep'\n" +
			"weft nf start mine --command ./mine\n" +
			"weft nf chain set default '1→2'\n" +
			"weft nf top --onvm-view\n" +
			"weft nf help firewall\n" +
			"weft nf new mine && cd mine && go build\n" +
			"weft nf new --lang c mine && cd mine && make",
	}
	f := cmd.Flags()
	language := f.String("lang", "go", "`go|c` new: in this language")
	library := f.Bool("library", false, "new: renew what comes from weft in a directory that was made so, and leave the rest")
	for _, o := range shell.NFOptions() {
		if o.Value == "" {
			f.Bool(o.Name, false, o.Doc)
		} else {
			f.String(o.Name, "", "`"+o.Value+"` "+o.Doc)
		}
	}
	asJSON := jsonFlag(cmd)
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return completeNF(args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return err
		}
		switch {
		case len(args) > 0 && args[0] == "help":
			return p.nfHelp(args[1:])
		case len(args) > 0 && args[0] == "new":
			return p.nfNew(args[1:], *language, *library)
		}
		return p.doNF(cmd, args, *asJSON)
	}
	return cmd
}

// doNF is the prompt's command on a network that runs, which may be named before the action or
// after it.
func (p *program) doNF(cmd *cobra.Command, args []string, asJSON bool) error {
	var rest []string // after --
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		args, rest = args[:at], append([]string{"--"}, args[at:]...)
	}
	running, _, err := sandbox.List()
	if len(running) == 0 && len(args) > 0 && !slices.Contains(shell.NFWords(), args[0]) {
		return &session.UsageError{Err: fmt.Errorf("there is no action %q; see weft nf --help", args[0])}
	}
	if err == nil && len(args) > 0 && !slices.Contains(running, args[0]) {
		for i := 1; i <= min(2, len(args)-1); i++ { // an action has one word or two
			if slices.Contains(running, args[i]) && shell.IsNFAction(args[:i]) {
				args = slices.Concat(args[i:i+1], args[:i], args[i+1:])
				break
			}
		}
	}
	client, _, args, err := dialNetwork(args, 0)
	if err != nil {
		return err
	}
	words := append([]string{"nf"}, args...)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case !slices.ContainsFunc(shell.NFOptions(), func(o shell.Option) bool { return o.Name == f.Name }):
		case f.Value.Type() == "bool":
			words = append(words, "--"+f.Name)
		default:
			words = append(words, "--"+f.Name+"="+f.Value.String())
		}
	})
	words = append(words, rest...)
	sh := shell.New(shell.Config{Client: client, In: os.Stdin, Out: p.out, Err: p.err, JSON: asJSON})
	err = sh.Do(cmd.Context(), words...)
	switch {
	case shell.IsShown(err):
		return session.ErrFailed
	case shell.IsMisuse(err):
		return &session.UsageError{Err: err}
	}
	return err
}

// completeNF lists what may come after words.
func completeNF(words []string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(words) == 0:
		return append(shell.NFWords(), "help", "new"), cobra.ShellCompDirectiveNoFileComp
	case len(words) == 1 && (words[0] == "start" || words[0] == "help"):
		return builtinNFs(), cobra.ShellCompDirectiveNoFileComp
	case len(words) == 1 && words[0] == "new":
		return nil, cobra.ShellCompDirectiveFilterDirs
	case len(words) == 1:
		return shell.NFWords(words[0]), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// builtinNFs lists the NFs that come with weft, for completion.
func builtinNFs() (names []string) {
	for _, f := range builtin.All() {
		names = append(names, f.Name+"\t"+f.Summary)
	}
	return names
}

// nfHelp lists the NFs that come with weft, or explains one.
func (p *program) nfHelp(args []string) error {
	switch len(args) {
	case 0:
		var rows []example
		for _, f := range builtin.All() {
			rows = append(rows, example{f.Name, f.Summary})
		}
		table(p.out, rows)
		return nil
	case 1:
		f, err := builtin.Find(args[0])
		if err != nil {
			return &session.UsageError{Err: err}
		}
		fmt.Fprint(p.out, f.Usage())
		return nil
	}
	return &session.UsageError{Err: fmt.Errorf("unexpected argument %q: weft nf help takes one name", args[1])}
}

// nfNew begins an NF of the user's own, or renews its library.
func (p *program) nfNew(args []string, language string, library bool) error {
	if len(args) != 1 {
		return &session.UsageError{Err: fmt.Errorf("weft nf new DIRECTORY: into which, and only one?")}
	}
	dir := args[0]
	if library {
		l, err := scaffold.Library(dir)
		if err == nil {
			fmt.Fprintf(p.out, "the library for %s in %s is that of weft %s\n", l, dir, version)
		}
		return err
	}
	if !slices.Contains(scaffold.Languages(), language) {
		return &session.UsageError{Err: fmt.Errorf("--lang %s: go or c", language)}
	}
	if err := scaffold.New(dir, language); err != nil {
		return err
	}
	how := "go build"
	if language == "c" {
		how = "make"
	}
	fmt.Fprintf(p.out, "cd %s && %s; README.md says how to start it\n", dir, how)
	return nil
}
