package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/experiment"
	"weft/internal/sandbox"
	"weft/script"
	"weft/session"
	"weft/topo"
	"weft/topo/netfile"
	"weft/topologies"
)

// topologyFiles lists the extensions of files that readTopology reads.
func topologyFiles() []string { return append(netfile.Extensions(), "star") }

// samplePrefix begins the name of a sample network that weft has with it: @ring.
const samplePrefix = "@"

// readTopology reads the network that a file describes, or a sample; parameters are NAME=VALUE
// for a script, topo=NAME,ARG for a Python file.
func (p *program) readTopology(ctx context.Context, path string, parameters []string, allow bool) (topo.Spec, error) {
	spec, err := p.parseTopology(ctx, path, parameters, allow)
	if err != nil || allow {
		return spec, err
	}
	plan, err := spec.Plan()
	if err == nil {
		err = errors.Join(plan.NeedsTrust()...)
	}
	if err != nil {
		return topo.Spec{}, &session.UsageError{Err: err}
	}
	return spec, nil
}

// parseTopology is readTopology without a look at what the network is allowed.
func (p *program) parseTopology(ctx context.Context, path string, parameters []string, allow bool) (topo.Spec, error) {
	usage := func(err error) (topo.Spec, error) { return topo.Spec{}, &session.UsageError{Err: err} }
	for _, word := range parameters {
		if name, _, ok := strings.Cut(word, "="); !ok || name == "" {
			return usage(fmt.Errorf("unexpected argument %q; parameters of %s are NAME=VALUE", word, path))
		}
	}
	ext := filepath.Ext(path)
	if ext == script.Extension {
		return p.readScript(ctx, path, parameters, allow)
	}
	params := netfile.Params{Outside: allow, Note: p.note, NF: checkNF}
	for _, word := range parameters {
		value, isTopo := strings.CutPrefix(word, "topo=")
		if !isTopo || ext != ".py" {
			return usage(fmt.Errorf("%s takes no parameter %q; scripts (%s) have parameters, and a Python file topo=NAME", path, word, script.Extension))
		}
		params.Topo = value
	}
	var spec topo.Spec
	var err error
	if name, isSample := strings.CutPrefix(path, samplePrefix); isSample {
		spec, err = readSample(ctx, name, params)
	} else {
		spec, err = netfile.Read(ctx, path, params)
	}
	if err != nil {
		return usage(err)
	}
	return spec, nil
}

// note tells what people should know of what was read.
func (p *program) note(text string) { fmt.Fprintln(p.err, text) }

// readSample reads a network that weft has with it.
func readSample(ctx context.Context, name string, params netfile.Params) (topo.Spec, error) {
	file, text, err := sample(name)
	if err != nil {
		return topo.Spec{}, err
	}
	return netfile.Parse(ctx, file, text, params)
}

// sample returns the file of a sample and its text.
func sample(name string) (file string, text []byte, err error) {
	var names []string
	for _, file := range sampleFiles() {
		if strings.TrimSuffix(file, filepath.Ext(file)) == name || file == name {
			text, err := fs.ReadFile(topologies.Files, file)
			return file, text, err
		}
		names = append(names, strings.TrimSuffix(file, filepath.Ext(file)))
	}
	hint := "see weft topologies"
	if near := topo.Nearest(name, names); near != "" {
		hint = "did you mean " + samplePrefix + near + "?"
	}
	return "", nil, fmt.Errorf("there is no sample %s%s; %s", samplePrefix, name, hint)
}

func sampleFiles() []string {
	var names []string
	entries, err := fs.ReadDir(topologies.Files, ".")
	if err != nil {
		panic(err) // they are part of the program
	}
	for _, e := range entries {
		if !slices.Contains(netfile.Extensions(), strings.TrimPrefix(filepath.Ext(e.Name()), ".")) {
			continue
		}
		text, err := fs.ReadFile(topologies.Files, e.Name())
		if err == nil && !isExperiment(text) {
			names = append(names, e.Name())
		}
	}
	return names
}

// isExperiment reports whether a YAML file is one for weft run: a network has no steps.
func isExperiment(text []byte) bool {
	return bytes.HasPrefix(text, []byte("steps:")) || bytes.Contains(text, []byte("\nsteps:"))
}

// topologiesCommand is weft topologies.
func (p *program) topologiesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "topologies [NAME]", Short: "List sample networks to try and to copy, or print one",
		Long:    "weft up @NAME, or --dry-run with it, takes them as they are; copy one to change it.\n",
		Example: "weft topologies\nweft up @ring\nweft topologies ring > my.yaml",
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			var rows []example
			for _, file := range sampleFiles() {
				text, err := fs.ReadFile(topologies.Files, file)
				if err != nil {
					return err
				}
				rows = append(rows, example{strings.TrimSuffix(file, filepath.Ext(file)), firstComment(text)})
			}
			table(p.out, rows)
			return nil
		case 1:
			_, text, err := sample(strings.TrimPrefix(args[0], samplePrefix))
			if err != nil {
				return &session.UsageError{Err: err}
			}
			_, err = p.out.Write(text)
			return err
		}
		return &session.UsageError{Err: fmt.Errorf("unexpected argument %q; write one name", args[1])}
	}
	return cmd
}

// firstComment is what the first line of a file says: # in YAML, <!-- in XML.
func firstComment(text []byte) string {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		for _, mark := range []string{"# ", "<!-- "} {
			if rest, ok := strings.CutPrefix(line, mark); ok {
				return strings.TrimSuffix(rest, " -->")
			}
		}
	}
	return ""
}

// A verdict is what validate says of a file.
type verdict struct {
	File  string `json:"file"`
	Valid bool   `json:"valid"`
	// Experiment says that it is one, whose network depends on its parameters.
	Experiment bool             `json:"experiment,omitempty"`
	Hosts      int              `json:"hosts"`
	Switches   int              `json:"switches"`
	Links      int              `json:"links"`
	Errors     []*netfile.Error `json:"errors,omitempty"`
}

// validate checks a file as weft up or, if it has steps, weft run would.
func (p *program) validate(ctx context.Context, path string, allow bool) verdict {
	v := verdict{File: path}
	var err error
	if ext := filepath.Ext(path); ext == ".yaml" || ext == ".yml" {
		text, _ := os.ReadFile(path)
		v.Experiment = isExperiment(text)
	}
	if v.Experiment {
		var e *experiment.Experiment
		if e, err = p.readExperiment(ctx, path, allow); err == nil {
			err = e.Describe(io.Discard, false)
		}
	} else {
		var spec topo.Spec
		spec, err = p.parseTopology(ctx, path, nil, allow)
		v.Hosts, v.Switches, v.Links = len(spec.Hosts), len(spec.Switches), len(spec.Links)
	}
	switch v.Valid = err == nil; {
	case v.Valid:
	case v.Experiment:
		v.Errors = listLines(path, err)
	default:
		v.Errors = listErrors(path, err)
	}
	return v
}

// validateCommand is weft validate.
func (p *program) validateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "validate FILE...", Short: "Check files of networks and experiments, and say all that is wrong",
		Long: "A line for each error: FILE:LINE:COLUMN, what is wrong, and what to write instead. The exit\n" +
			"status is 1 if there is one. It builds nothing and needs no privileges.\n",
		Example:           "weft validate lab.yaml\nweft validate --json *.yaml",
		ValidArgsFunction: completeTopologies,
	}
	asJSON := jsonFlag(cmd)
	allow := allowFlag(cmd.Flags())
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print nothing but errors")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &session.UsageError{Err: errors.New("write the files to check: weft validate FILE...")}
		}
		var all []verdict
		failed := false
		for _, path := range args {
			v := p.validate(cmd.Context(), path, *allow)
			failed = failed || !v.Valid
			all = append(all, v)
			if *asJSON {
				continue
			}
			for _, e := range v.Errors {
				fmt.Fprintln(p.err, e)
			}
			switch {
			case !v.Valid || *quiet:
			case v.Experiment:
				fmt.Fprintf(p.out, "%s: ok: an experiment for weft run\n", path)
			default:
				fmt.Fprintf(p.out, "%s: ok: %s, %s, %s\n", path, counted(v.Hosts, "host"), counted(v.Switches, "switch"), counted(v.Links, "link"))
			}
		}
		if *asJSON {
			if err := printJSON(p.out, all); err != nil {
				return err
			}
		}
		if failed {
			return session.ErrFailed
		}
		return nil
	}
	return cmd
}

func counted(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "ch"):
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// listErrors makes errors with places of what is wrong with a file.
func listErrors(path string, err error) []*netfile.Error {
	var usage *session.UsageError
	if errors.As(err, &usage) {
		err = usage.Err
	}
	var list netfile.Errors
	if errors.As(err, &list) {
		return list
	}
	var one *netfile.Error
	if errors.As(err, &one) {
		return []*netfile.Error{one}
	}
	var fromScript script.Errors
	if errors.As(err, &fromScript) {
		for _, e := range fromScript {
			list = append(list, &netfile.Error{Position: netfile.Position(e.Position), Message: e.Message})
		}
		return list
	}
	return listLines(path, err)
}

// listLines makes errors with places of a text that begins each with FILE:LINE:COLUMN.
func listLines(path string, err error) (list []*netfile.Error) {
	for line := range strings.Lines(err.Error()) {
		one := &netfile.Error{Position: netfile.Position{File: path}, Message: strings.TrimSpace(line)}
		if rest, ok := strings.CutPrefix(one.Message, path+":"); ok {
			place, message, _ := strings.Cut(rest, ": ")
			if n, _ := fmt.Sscanf(place, "%d:%d", &one.Line, &one.Column); n == 2 {
				one.Message = message
			}
		}
		list = append(list, one)
	}
	return list
}

// schemaCommand is weft schema.
func (p *program) schemaCommand() *cobra.Command {
	kinds := []string{"network", "experiment"}
	return &cobra.Command{
		Use: "schema [network|experiment]", Short: "Print the JSON Schema of weft's files, for editors",
		Long: "Of files that describe networks (weft up), or of experiments (weft run). Write it to a file and name\n" +
			"that in the first line of yours, and editors with a YAML language server complete and check what\n" +
			"you type:\n\n    # yaml-language-server: $schema=weft.schema.json\n",
		Example:   "weft schema > weft.schema.json\nweft schema experiment > experiment.schema.json",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: kinds,
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := netfile.Schema()
			if err == nil && len(args) > 0 && args[0] == kinds[1] {
				b, err = experiment.Schema(b)
			}
			if err == nil {
				_, err = p.out.Write(b)
			}
			return err
		},
	}
}

// saveCommand is weft save.
func (p *program) saveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "save [NETWORK]", Short: "Print a running network as a file that describes it",
		Long: "Brought up from that file and saved again, it gives the same file, byte for byte. NETWORK may be\n" +
			"left out if one network runs.\n",
		Example: "weft save lab > lab.yaml\nweft up lab.yaml", ValidArgsFunction: completeNetworks,
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, _, err := chooseNetwork(args, 0)
		if err != nil {
			return err
		}
		path, err := sandbox.SocketPath(name)
		if err != nil {
			return err
		}
		state, err := api.Dial(path).State(cmd.Context())
		if err != nil {
			return err
		}
		write := netfile.YAML
		if *asJSON {
			write = netfile.JSON
		}
		b, err := write(state.Plan.Spec())
		if err == nil {
			_, err = p.out.Write(b)
		}
		return err
	}
	return cmd
}

// convertCommand is weft convert.
func (p *program) convertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "convert FROM [TO]", Short: "Turn a file that describes a network into another format",
		Long: "It reads what weft up reads. TO ends in .yaml, .json or .py (for Mininet); without it YAML goes to\n" +
			"standard output. A file that is there already is not overwritten without --force.\n",
		Example: "weft convert campus.graphml campus.yaml\nweft convert lab.mn lab.yaml\nweft convert lab.yaml lab.py", ValidArgsFunction: completeTopologies,
	}
	allow := allowFlag(cmd.Flags())
	force := cmd.Flags().Bool("force", false, "overwrite TO")
	choose := cmd.Flags().String("topo", "", "`NAME[,ARG...]` of a Python file: which of its topologies")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return &session.UsageError{Err: errors.New("write what to convert and into what: weft convert lab.mn lab.yaml")}
		}
		var parameters []string
		if *choose != "" {
			parameters = []string{"topo=" + *choose}
		}
		spec, err := p.parseTopology(cmd.Context(), args[0], parameters, *allow)
		if err != nil {
			return err
		}
		write := netfile.YAML
		if len(args) == 2 {
			switch ext := filepath.Ext(args[1]); ext {
			case ".yaml", ".yml":
			case ".json":
				write = netfile.JSON
			case ".py":
				write = func(s topo.Spec) ([]byte, error) { return netfile.Python(s, p.note) }
			default:
				return &session.UsageError{Err: fmt.Errorf("%s: a network is written as .yaml, .json or .py", args[1])}
			}
		}
		b, err := write(spec)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			_, err = io.Copy(p.out, bytes.NewReader(b))
			return err
		}
		return writeNew(args[1], b, *force)
	}
	return cmd
}

// writeNew writes a file that was not there, or any if force is true.
func writeNew(path string, b []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if errors.Is(err, os.ErrExist) {
		return &session.UsageError{Err: fmt.Errorf("%s is there already; write another name, or --force", path)}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// completeTopologies completes files that describe networks.
func completeTopologies(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return topologyFiles(), cobra.ShellCompDirectiveFilterFileExt
}
