package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/session"
	"weft/shell"
)

// linkCommand is weft link: the prompt's command on a network that runs.
func (p *program) linkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "link ACTION [NETWORK] [LINK...] [OPTION=VALUE...]",
		Short: "Show or change what a running network's links do: rate, delay, loss, faults",
		Long: "Actions:\n" + shell.LinkActions() +
			"\nplot FILE [DRAWING.svg|DRAWING.png]: what became of the frames that record=FILE wrote down; needs no network",
		Example: "weft link show\n" +
			"weft link set lab s1-s2 delay=50ms jitter=5ms ab:loss=1\n" +
			"weft link down 's1->s2'\n" +
			"weft link plot frames.csv frames.svg",
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.SortFlags = false
	for _, o := range shell.LinkOptions() {
		if o.Value == "" {
			f.Bool(o.Name, false, o.Doc)
		} else {
			f.String(o.Name, "", "`"+o.Value+"` "+o.Doc)
		}
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return err
		}
		action := "show"
		if len(args) > 0 {
			action, args = args[0], args[1:]
		}
		if action == "plot" {
			return p.plotLink(args, *asJSON)
		}
		client, _, args, err := dialNetwork(args, 0)
		if err != nil {
			return err
		}
		words := append([]string{"link", action}, args...)
		f.Visit(func(f *pflag.Flag) {
			switch {
			case f.Name == "json":
			case f.Value.Type() == "bool":
				words = append(words, "--"+f.Name)
			default:
				words = append(words, "--"+f.Name+"="+f.Value.String())
			}
		})
		sh := shell.New(shell.Config{Client: client, Out: p.out, Err: p.err, JSON: *asJSON})
		err = sh.Do(cmd.Context(), words...)
		switch {
		case shell.IsShown(err):
			return session.ErrFailed
		case shell.IsMisuse(err):
			return &session.UsageError{Err: err}
		}
		return err
	}
	return cmd
}
