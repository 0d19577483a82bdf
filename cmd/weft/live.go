package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/internal/sandbox"
	"weft/session"
)

// Commands on networks that run.

func (p *program) listCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List your running networks", Args: noArgs}
	asJSON := jsonFlag(cmd)
	var quiet bool
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := session.List(cmd.Context())
		switch {
		case err != nil:
			return err
		case *asJSON:
			return printJSON(p.out, list)
		case quiet:
			for _, r := range list {
				fmt.Fprintln(p.out, r.Name)
			}
			return nil
		}
		return writeNetworks(p.out, list, time.Now())
	}
	return cmd
}

// writeNetworks lists networks for people.
func writeNetworks(w io.Writer, list []session.Running, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "NAME\tSTATE\tAGE\tHOSTS\tSWITCHES\tCONTROLLERS\tLINKS\n")
	for _, r := range list {
		state, age := string(r.Phase), "-"
		if r.Error != "" {
			state = "does not answer"
		}
		if !r.Started.IsZero() {
			age = shortAge(now.Sub(r.Started))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\n", r.Name, state, age,
			len(r.Nodes.Hosts), len(r.Nodes.Switches), len(r.Nodes.Controllers), r.Links)
	}
	return t.Flush()
}

// shortAge writes a length of time with its two largest units.
func shortAge(d time.Duration) string {
	units := []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, u := range units {
		if d < u.length {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.length, u.name)
		if i+1 < len(units) {
			if rest := d % u.length / units[i+1].length; rest > 0 {
				text += fmt.Sprintf("%d%s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0s"
}

func (p *program) downCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "down [NETWORK...]", Short: "End running networks, and all that runs in them",
		Long:              "Without a name it ends the only network that runs.\n",
		ValidArgsFunction: completeNetworks,
	}
	var all, quiet bool
	cmd.Flags().BoolVar(&all, "all", false, "all of yours")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		names, err := networksToEnd(args, all)
		if err != nil {
			return err
		}
		progress := io.Discard
		if !quiet {
			progress = p.err
		}
		return endNetworks(cmd.Context(), names, progress)
	}
	return cmd
}

// networksToEnd says which networks weft down is about.
func networksToEnd(args []string, all bool) ([]string, error) {
	usage := func(format string, args ...any) ([]string, error) {
		return nil, &session.UsageError{Err: fmt.Errorf(format, args...)}
	}
	if len(args) > 0 && all {
		return usage("write names or --all, not both")
	}
	if len(args) > 0 {
		var errs []error
		for _, name := range args {
			errs = append(errs, sandbox.Check(name))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, &session.UsageError{Err: err}
		}
		slices.Sort(args)
		return slices.Compact(args), nil
	}
	running, _, err := sandbox.List()
	switch {
	case err != nil || all:
		return running, err
	case len(running) == 0:
		return usage("no network of yours is running")
	case len(running) > 1:
		return usage("several networks are running; write which, or --all: %s", strings.Join(running, ", "))
	}
	return running, nil
}

// endNetworks takes networks down, all at the same time.
func endNetworks(ctx context.Context, names []string, progress io.Writer) error {
	errs := make([]error, len(names))
	done := make(chan int)
	for i, name := range names {
		go func() {
			errs[i] = session.Down(ctx, name)
			done <- i
		}()
	}
	for range names {
		if i := <-done; errs[i] == nil {
			fmt.Fprintf(progress, "network %s has ended\n", names[i])
		} else if len(names) > 1 {
			errs[i] = fmt.Errorf("network %s: %w", names[i], errs[i])
		}
	}
	return errors.Join(errs...)
}

// completeNetworks completes names of running networks.
func completeNetworks(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	running, _, err := sandbox.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.DeleteFunc(running, func(n string) bool { return slices.Contains(args, n) }), cobra.ShellCompDirectiveNoFileComp
}

func (p *program) apiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "api", Short: "Print the description of the API of running networks (OpenAPI 3.1)", Args: noArgs,
		Long: "A network's API is HTTP on the Unix socket api.sock in its state directory.\n",
		Example: "weft api > openapi.json\n" +
			"curl --unix-socket /run/weft/lab/api.sock http://weft/v1/info",
		RunE: func(*cobra.Command, []string) error {
			_, err := p.out.Write(api.OpenAPI())
			return err
		},
	}
}
