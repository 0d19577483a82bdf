package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/graph"
	"weft/internal/sandbox"
	"weft/session"
)

// graphCommand is weft graph.
func (p *program) graphCommand() *cobra.Command {
	var names []string
	for _, f := range graph.Formats() {
		names = append(names, string(f))
	}
	cmd := &cobra.Command{
		Use:   "graph [NETWORK|FILE [NAME=VALUE...]]",
		Short: "Draw a running network, or the one that a file describes",
		Long: "Formats: dot for Graphviz, mermaid for Markdown, svg, json, and rfc8345, which is JSON after\n" +
			"the YANG module ietf-network-topology. NETWORK may be left out if one network runs; its links\n" +
			"that are down are dashed.\n",
		Example: "weft graph lab -o lab.svg\nweft graph lab.yaml --format mermaid\nweft graph --format dot | dot -Tpdf > lab.pdf",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			networks, _ := completeNetworks(cmd, args, word)
			return networks, cobra.ShellCompDirectiveDefault
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	var format string
	f.VarP(choice(&format, names...), "format", "f", "`FORMAT` "+strings.Join(names, ", ")+" (by the file's name, else dot)")
	output := f.StringP("output", "o", "", "`FILE` where to (standard output)")
	allow := allowFlag(f)
	if err := cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // defined above
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return err
		}
		if format == "" {
			format = formatOf(*output)
		}
		g, err := p.graphOf(cmd.Context(), args, *allow)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := g.Write(&out, graph.Format(format)); err != nil {
			return err
		}
		if *output == "" {
			_, err = p.out.Write(out.Bytes())
			return err
		}
		return os.WriteFile(*output, out.Bytes(), 0o666)
	}
	return cmd
}

// formatOf is the format that a file's name asks for.
func formatOf(name string) string {
	switch filepath.Ext(name) {
	case ".svg":
		return string(graph.FormatSVG)
	case ".json":
		return string(graph.FormatJSON)
	case ".mmd", ".md":
		return string(graph.FormatMermaid)
	}
	return string(graph.FormatDOT)
}

// graphOf returns the network that words name, or the file.
func (p *program) graphOf(ctx context.Context, words []string, allow bool) (graph.Graph, error) {
	if len(words) > 0 && (strings.Contains(words[0], "/") || slices.Contains(topologyFiles(), strings.TrimPrefix(filepath.Ext(words[0]), "."))) && sandbox.Check(words[0]) != nil {
		spec, err := p.readTopology(ctx, words[0], words[1:], allow)
		if err != nil {
			return graph.Graph{}, err
		}
		plan, err := spec.Plan()
		if err != nil {
			return graph.Graph{}, &session.UsageError{Err: fmt.Errorf("%s: %w", words[0], err)}
		}
		return graph.Graph{Plan: plan}, nil
	}
	name, rest, err := chooseNetwork(words, 0)
	if err != nil {
		return graph.Graph{}, err
	}
	if len(rest) > 0 {
		return graph.Graph{}, &session.UsageError{Err: fmt.Errorf("unexpected argument %q; parameters are for files", rest[0])}
	}
	client, err := api.Open(name)
	if err != nil {
		return graph.Graph{}, err
	}
	state, err := client.State(ctx)
	if err != nil {
		return graph.Graph{}, err
	}
	g := graph.Graph{Plan: state.Plan, Down: map[int]bool{}}
	for _, l := range state.Links {
		if !l.Up[0] || !l.Up[1] {
			g.Down[l.ID] = true
		}
	}
	return g, nil
}
