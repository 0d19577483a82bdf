package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/network"
	"weft/session"
	"weft/shell"
	"weft/topo"
)

// applyCommand is weft apply.
func (p *program) applyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply FILE [NETWORK] [NAME=VALUE...]",
		Short: "Change a running network into the one that a file describes",
		Long: "It shows what is to be added (+), changed (~), removed and made anew (!) and removed (-),\n" +
			"and does it. What is the same before and after loses not one packet. What the file leaves\n" +
			"open, such as addresses and ports, stays as it is. NETWORK may be left out if the file names\n" +
			"it, or if one network runs.\n",
		Example: "weft apply lab.yaml --dry-run\nweft apply lab.yaml",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return topologyFiles(), cobra.ShellCompDirectiveFilterFileExt
			}
			return completeNetworks(cmd, args, word)
		},
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only show what would be done")
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print nothing but errors")
	allow := allowFlag(cmd.Flags())
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &session.UsageError{Err: errors.New("write the file that describes the network: weft apply FILE")}
		}
		file, args := args[0], args[1:]
		named := ""
		if len(args) > 0 && !strings.Contains(args[0], "=") {
			named, args = args[0], args[1:]
		}
		spec, err := p.readTopology(cmd.Context(), file, args, *allow)
		if err != nil {
			return err
		}
		if named == "" && spec.Name != "" {
			named = spec.Name
		}
		var words []string
		if named != "" {
			words = []string{named}
		}
		name, _, err := chooseNetwork(words, 0)
		if err != nil {
			return err
		}
		client, err := api.Open(name)
		if err != nil {
			return err
		}
		planned := func(d *topo.Diff) {
			switch {
			case *asJSON:
				err = printJSON(p.out, d)
			case !*quiet:
				shell.WriteDiff(p.out, d)
			}
		}
		var done []string
		failed := client.Apply(cmd.Context(), network.ApplyRequest{Spec: spec, DryRun: *dryRun}, planned,
			func(e network.Event) { done = append(done, e.Message) })
		if failed != nil && len(done) > 0 {
			fmt.Fprintf(p.err, "done before it failed:\n  %s\n", strings.Join(done, "\n  "))
		}
		return errors.Join(failed, err)
	}
	return cmd
}
