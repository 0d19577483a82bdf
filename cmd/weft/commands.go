package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weft/internal/doctor"
	"weft/internal/sandbox"
	"weft/session"
	"weft/shell"
	"weft/topo"
)

// version is that of this source tree.
const version = "0.1.0"

// options are the flags of weft and of weft mn.
type options struct {
	topo.Options
	nat          string
	ip6          string
	tests        []string
	pre, post    string
	wait         bool
	twait        float64
	dryRun, json bool
	verbosity    string
}

func newCommand(in, out, errOut *os.File) *cobra.Command {
	root := networkCommand(shell.Native, in, out, errOut)
	root.Use = "weft"
	root.Short = "Build a network of hosts, switches and controllers on this machine"
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &session.UsageError{Err: err} })

	mn := networkCommand(shell.Mininet, in, out, errOut)
	mn.Use = "mn"
	mn.Short = "The same with Mininet's options, prompt and output"
	root.AddCommand(mn, doctorCommand(), cleanCommand(), versionCommand())
	return root
}

// noArgs refuses words that are no flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &session.UsageError{Err: fmt.Errorf("unknown command or argument %q (see %s --help)", args[0], cmd.CommandPath())}
	}
	return nil
}

func networkCommand(d shell.Dialect, in, out, errOut *os.File) *cobra.Command {
	var o options
	cmd := &cobra.Command{Args: noArgs}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "name of the network")
	f.StringVar(&o.Topo, "topo", "minimal", "topology")
	f.StringVar(&o.Switch, "switch", "", "switches")
	f.StringArrayVar(&o.Controllers, "controller", nil, "controller; may be repeated")
	f.StringVar(&o.Link, "link", "", "links")
	f.StringVarP(&o.IPBase, "ipbase", "i", "", "IPv4 network of the hosts")
	f.StringVar(&o.ip6, "ip6", "", "IPv6 network of the hosts")
	f.Lookup("ip6").NoOptDefVal = "fd00::/64"
	f.BoolVar(&o.MAC, "mac", false, "number MAC addresses")
	f.BoolVar(&o.ARP, "arp", false, "static ARP entries")
	f.StringVar(&o.nat, "nat", "", "gateway to the user's network")
	f.Lookup("nat").NoOptDefVal = " "
	f.StringArrayVar(&o.tests, "test", nil, "REPL commands to run")
	f.StringVar(&o.pre, "pre", "", "REPL commands for before the start")
	f.StringVar(&o.post, "post", "", "REPL commands for the end")
	f.BoolVarP(&o.wait, "wait", "w", false, "wait for the switches' controllers")
	f.Float64VarP(&o.twait, "twait", "t", 0, "wait at most this many seconds")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan as JSON")
	f.BoolVar(&o.json, "json", false, "results as JSON")
	f.StringVarP(&o.verbosity, "verbosity", "v", "info", "debug, info, warning, error")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Options.IP6 = o.ip6
		if cmd.Flags().Changed("nat") {
			n := strings.TrimSpace(o.nat)
			o.NAT = &n
		}
		spec, err := o.Spec()
		if err != nil {
			return &session.UsageError{Err: err}
		}
		c := session.Config{Spec: spec, Dialect: d, Pre: o.pre, Post: o.post, DryRun: o.dryRun, JSON: o.json,
			In: in, Out: out, Err: errOut}
		for _, t := range o.tests {
			for _, one := range strings.Split(t, "+") {
				c.Tests = append(c.Tests, strings.ReplaceAll(one, ",", " "))
			}
		}
		if o.wait {
			c.Wait = session.DefaultWait
		}
		if o.twait > 0 {
			c.Wait = time.Duration(o.twait * float64(time.Second))
		}
		return session.Run(cmd.Context(), c)
	}
	return cmd
}

func doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "doctor", Short: "Say what this machine can do, and what mends what is missing", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := doctor.Examine(cmd.Context(), doctor.Options{})
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(r); err != nil {
					return err
				}
			} else {
				r.Text(cmd.OutOrStdout())
			}
			if !r.Usable() {
				return session.ErrFailed
			}
			return nil
		}}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func cleanCommand() *cobra.Command {
	return &cobra.Command{Use: "clean", Short: "Remove what networks left that were killed", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := sandbox.Clean()
			for _, n := range names {
				fmt.Fprintf(cmd.OutOrStdout(), "removed what network %s left\n", n)
			}
			return err
		}}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "weft", version) }}
}
