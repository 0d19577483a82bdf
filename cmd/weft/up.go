package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"weft/session"
	"weft/shell"
)

// upCommand is weft up.
func (p *program) upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up [FILE [NAME=VALUE...]]",
		Short: "Build a network that lives on in the background, and print its name",
		Long: "It returns when the switches have their controllers; if they have not after 30 s, or\n" +
			"anything else goes wrong, nothing is left of the network. weft down ends it.\n",
		Example: "weft up lab.yaml --name lab\n" +
			"weft up --topo tree,2,8 --name lab\n" +
			"weft exec lab h1 -- ping -c1 10.0.0.2\n" +
			"weft down lab",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return topologyFiles(), cobra.ShellCompDirectiveFilterFileExt
		},
	}
	o := &options{dialect: shell.Native, given: cmd.Flags().Changed}
	network := o.networkOptions()
	network.addTo(cmd)
	work := newGroup("")
	f := work.flags
	f.VarP(spanValue(&o.twait), "twait", "t", "`SECONDS` wait for the controllers at most this long (30); 0 not at all")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the network as planned, in JSON, and build nothing")
	allow := allowFlag(f)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print no progress")
	f.Var(choice(&o.logs, "debug", "info", "warn", "error"), "log-level", "`LEVEL` how much goes to the network's log (weft logs): debug, info, warn, error (info)")
	f.BoolVar(&o.json, "json", false, "print the network's name as JSON")
	work.addTo(cmd)
	completeOptions(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(cmd.Flags()); err != nil {
			return err
		}
		ofFile := len(args) > 0 && filepath.Ext(args[0]) == ".py" && o.Topo != ""
		if ofFile { // one of those in the file
			args, o.Topo = append(args, "topo="+o.Topo), ""
		}
		c, err := o.config(cmd.Context(), p)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			if err := onlyName(network.flags, cmd.Flags(), ofFile); err != nil {
				return err
			}
			if c.Spec, err = p.readTopology(cmd.Context(), args[0], args[1:], *allow); err != nil {
				return err
			}
			c.Trusted = *allow
			if o.Name != "" {
				c.Spec.Name = o.Name
			}
		}
		if err := o.setLogLevel(); err != nil {
			return err
		}
		name, err := p.up(cmd.Context(), c)
		if err != nil || o.dryRun {
			return err
		}
		if o.json {
			return printJSON(p.out, struct {
				Name string `json:"name"`
			}{name})
		}
		if !o.quiet && term.IsTerminal(int(p.err.Fd())) && term.IsTerminal(int(p.out.Fd())) {
			_, err = fmt.Fprintf(p.out, "network %s is up: try `weft attach %s`, `weft exec %s NODE -- COMMAND`; `weft down %s` ends it\n", name, name, name, name)
			return err
		}
		_, err = fmt.Fprintln(p.out, name)
		return err
	}
	return cmd
}

// allowFlag adds --allow, for files that their user trusts.
func allowFlag(f *pflag.FlagSet) *bool {
	return f.Bool("allow", false, "let the file do what you may: its commands write anywhere, its controllers run outside the network")
}

// onlyName refuses options of the network beside a file, which describes all of it; andTopo says
// that --topo chooses one of those in the file.
func onlyName(network, given *pflag.FlagSet, andTopo bool) error {
	var errs []error
	given.Visit(func(f *pflag.Flag) {
		if network.Lookup(f.Name) != nil && f.Name != "name" && !(andTopo && f.Name == "topo") {
			errs = append(errs, fmt.Errorf("%s: the file says this; leave the option out", spelled(f)))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return &session.UsageError{Err: err}
	}
	return nil
}
