package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/network"
	"weft/session"
	"weft/shell"
)

// inspectCommand is weft inspect.
func (p *program) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect [NETWORK] [NODE|LINK]",
		Short: "Say all that is known of a running network, a node or a link",
		Long: "A link is named by its nodes (h1-s1), an interface, or its ID. NETWORK may be left out if\n" +
			"one network runs. In a template (Go's text/template), fields are called as in the JSON, or\n" +
			"as in Go ({{.Name}}); the functions json and join help.\n",
		Example: "weft inspect lab\n" +
			"weft inspect lab h1 --format '{{.ip}}'\n" +
			"weft inspect lab --format '{{range .plan.hosts}}{{.name}} {{end}}'\n" +
			"weft inspect lab s1-s2 --format table",
		ValidArgsFunction: completeNode(cobra.ShellCompDirectiveNoFileComp),
	}
	format := cmd.Flags().StringP("format", "f", "json", "`FORMAT` json, table, or a template")
	if err := cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]cobra.Completion{"json", "table"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // defined above
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(cmd.Flags()); err != nil {
			return err
		}
		write, err := formatter(*format)
		if err != nil {
			return err
		}
		name, rest, err := chooseNetwork(args, 1)
		switch {
		case err != nil:
			return err
		case len(rest) > 1:
			return noArgs(cmd, rest[1:])
		}
		client, err := api.Open(name)
		if err != nil {
			return err
		}
		v, err := inspect(cmd.Context(), client, rest)
		if err != nil {
			return err
		}
		return write(p.out, v)
	}
	return cmd
}

// inspect asks for a network, or the node or link that a word names.
func inspect(ctx context.Context, client *api.Client, words []string) (any, error) {
	if len(words) == 0 {
		return client.State(ctx)
	}
	node, err := client.Node(ctx, words[0])
	if err == nil {
		return node, nil
	}
	links, errLink := client.Links(ctx, words[0])
	if errLink != nil && strings.ContainsAny(words[0], "-→") {
		err = errLink
	}
	if errLink != nil {
		return nil, err
	}
	return links, nil
}

// formatter returns what writes a value as the user wants it.
func formatter(format string) (func(io.Writer, any) error, error) {
	switch format {
	case "json":
		return func(w io.Writer, v any) error { return printJSON(w, plainNode(v)) }, nil
	case "table":
		return func(w io.Writer, v any) error {
			switch v := v.(type) {
			case network.State:
				shell.WriteNetwork(w, v)
			case network.NodeState:
				shell.WriteNode(w, v)
			case []network.LinkState:
				shell.WriteLinkDetail(w, v)
			}
			return nil
		}, nil
	}
	if !strings.Contains(format, "{{") {
		return nil, &session.UsageError{Err: fmt.Errorf("--format %q: write json, table, or a template such as '{{.name}}'", format)}
	}
	t, err := template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
		"join": func(list any, by string) (string, error) {
			v := reflect.ValueOf(list)
			if v.Kind() != reflect.Slice {
				return "", fmt.Errorf("join takes a list, not %v", list)
			}
			var words []string
			for i := range v.Len() {
				words = append(words, fmt.Sprint(v.Index(i)))
			}
			return strings.Join(words, by), nil
		},
	}).Parse(format)
	if err != nil {
		return nil, &session.UsageError{Err: fmt.Errorf("--format: %w", err)}
	}
	return func(w io.Writer, v any) error { return execute(t, w, v) }, nil
}

// plainNode returns what is known of a node without its kind around it.
func plainNode(v any) any {
	n, ok := v.(network.NodeState)
	switch {
	case !ok:
		return v
	case n.Host != nil:
		return n.Host
	case n.Switch != nil:
		return n.Switch
	}
	return n.Controller
}

// execute writes a template of a value; of each if there are several. Its fields are called as
// in Go or as in JSON, but not both in one template.
func execute(t *template.Template, w io.Writer, v any) error {
	v = plainNode(v)
	list := []any{v}
	if links, ok := v.([]network.LinkState); ok {
		list = nil
		for _, l := range links {
			list = append(list, l)
		}
	}
	for _, v := range list {
		var line bytes.Buffer
		if t.Execute(&line, v) != nil {
			line.Reset()
			if err := executeJSON(t, &line, v); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, line.String()); err != nil {
			return err
		}
	}
	return nil
}

// executeJSON writes a template of a value's JSON.
func executeJSON(t *template.Template, w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // 10 is not 1e+01
	fields := map[string]any{}
	if err := d.Decode(&fields); err != nil {
		return err
	}
	if err = t.Execute(w, fields); err != nil {
		err = fmt.Errorf("--format: %w (there are: %s)", err, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		return &session.UsageError{Err: err}
	}
	return nil
}
