package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/session"
	"weft/shell"
	"weft/topo"
)

// options are those of weft and of weft mn.
type options struct {
	topo.Options
	dialect          shell.Dialect
	host, nat        string
	custom           string
	listenPort       int
	noListenPort     bool
	tests            []string
	captures         []string
	pre, post        string
	xterms, wait     bool
	twait            string
	dryRun, json     bool
	quiet            bool
	verbosity, logs  string
	clean, isVersion bool
	given            func(name string) bool
}

// A group is options that help shows together.
type group struct {
	title string
	flags *pflag.FlagSet
}

// mininetPort is where controllers of Mininet's listen: IANA's port for OpenFlow.
const mininetPort = 6653

// Annotations of options.
const (
	ownOption = "own"   // Mininet does not have it
	valueName = "value" // what help calls its value
)

func annotate(f *pflag.Flag, key string, values ...string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[key] = values
}

// splitUsage takes the name of the value out of an option's usage "`VALUE` doc".
func splitUsage(f *pflag.Flag) {
	if rest, ok := strings.CutPrefix(f.Usage, "`"); ok {
		value, doc, _ := strings.Cut(rest, "` ")
		f.Usage = doc
		annotate(f, valueName, value)
	}
}

var verbosities = []string{"debug", "info", "output", "warning", "warn", "error", "critical"}

func newGroup(title string) group {
	f := pflag.NewFlagSet(title, pflag.ContinueOnError)
	f.SortFlags = false
	return group{title, f}
}

// addTo gives cmd the options of g.
func (g group) addTo(cmd *cobra.Command) {
	g.flags.VisitAll(splitUsage)
	cmd.Flags().SortFlags = false
	cmd.Flags().AddFlagSet(g.flags)
}

// networkOptions are those that describe a network.
func (o *options) networkOptions() group {
	network := newGroup("The network")
	f := network.flags
	f.StringVar(&o.Topo, "topo", "", "`NAME[,ARG...]` its shape: one of the topologies below (minimal)")
	f.StringVar(&o.custom, "custom", "", "`FILE` take the network from FILE, a topology of Mininet's in Python, a script or any other that weft up reads; --topo then names one of those in a Python file")
	f.StringVar(&o.Switch, "switch", "", "`KIND[,K=V...]` its switches: ovs (also default, ovsk), ovsbr (a bridge without controller), lxbr (Linux bridge). Options: protocols=OpenFlow10,OpenFlow13 datapath=auto|kernel|user|afxdp failMode=secure|standalone stp=1 dpid=HEX")
	f.StringArrayVar(&o.Controllers, "controller", nil, "`KIND[,ARG...]` a controller; may be repeated: builtin (also default, ref), remote[,ip=ADDRESS][,port=N], tcp:HOST:PORT, ssl:HOST:PORT, ovsc, ryu,APP[,ARG...], osken,APP[,ARG...], cmd:COMMAND (in it, {port} is the port to listen on), none")
	f.StringVar(&o.Link, "link", "", "`KIND[,K=V...]` its links: veth (also default); tc, impaired by the kernel where it can, else by weft: tc,bw=10,delay=5ms,loss=1 (weft link --help has all options); netem and wire, by the one or the other; ovs, patch ports between switches; memif, memory shared by dpdk nodes")
	f.Var(parsed{&o.host, parseHost}, "host", "`KIND` its hosts: proc (also default); rt and cfs limit the CPU, which this version does not")
	f.StringVarP(&o.IPBase, "ipbase", "i", "", "`ADDRESS/BITS` IPv4 network of the hosts; they are numbered from its host part (10.0.0.0/8)")
	f.StringVar(&o.IP6, "ip6", "", "`PREFIX` give hosts IPv6 addresses too, from PREFIX (fd00::/64)")
	f.Lookup("ip6").NoOptDefVal = topo.DefaultIP6Base
	f.BoolVar(&o.MAC, "mac", false, "number the hosts' MAC addresses: h1 has 00:00:00:00:00:01")
	f.BoolVar(&o.ARP, "arp", false, "give every host permanent ARP entries of all others")
	f.StringVar(&o.nat, "nat", "", "`K=V,...` add a gateway to your own network; options: name=nat0 ip=ADDRESS/BITS mac=MAC subnet=ADDRESS/BITS connect=SWITCH")
	f.Lookup("nat").NoOptDefVal = " "
	f.IntVar(&o.listenPort, "listenport", 0, "`N` switches also accept OpenFlow at 127.0.0.1, the first at port N, the next at N+1, ... (none)")
	f.BoolVar(&o.noListenPort, "nolistenport", false, "they do not (that is the default here)")
	f.Var(seedValue{&o.Seed}, "seed", "`N` every impaired link has a seed that follows from N, so that in every run the same frames meet the same fate")
	f.StringVar(&o.Name, "name", "", "`NAME` its name, unique among your running networks (net1, net2, ...)")
	return network
}

// addOptions gives cmd the options of a dialect and returns where their values go.
func addOptions(cmd *cobra.Command, d shell.Dialect) (*options, []group) {
	o := &options{dialect: d, given: cmd.Flags().Changed}
	network := o.networkOptions()

	work := newGroup("What to do with it")
	f := work.flags
	f.StringArrayVar(&o.tests, "test", nil, "`TEST[,K=V...][+TEST...]` run tests instead of a prompt; may be repeated: "+strings.Join(testNames(), " ")+"; or one line for the prompt, if there is a blank in it. Arguments: timeout=SECONDS tries=N count=N seconds=N bw=RATE, or two hosts")
	f.StringVar(&o.pre, "pre", "", "`FILE` run the commands in FILE before the switches start")
	f.StringVar(&o.post, "post", "", "`FILE` run the commands in FILE after the tests or the prompt")
	f.StringArrayVar(&o.captures, "capture", nil, "`TARGET[,TARGET...]=FILE` capture packets from before the switches start to the network's end, for Wireshark; may be repeated. A target is an interface, a node, a link (s1-s2), control (all control channels), s1:c0 or all")
	f.BoolVarP(&o.xterms, "xterms", "x", false, "open a terminal window on every node; needs DISPLAY")
	f.BoolVarP(&o.wait, "wait", "w", false, fmt.Sprintf("wait until the switches have their controllers, at most %g s; tests always do", session.DefaultWait.Seconds()))
	f.VarP(spanValue(&o.twait), "twait", "t", "`SECONDS` the same, at most SECONDS; 0 to go on at once")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the network as planned, in JSON, and build nothing")
	f.BoolVarP(&o.clean, "clean", "c", false, "remove what killed networks left, and end")

	output := newGroup("What to print")
	f = output.flags
	f.BoolVar(&o.json, "json", false, "print results as JSON, a document on a line for each command")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print no progress")
	f.VarPF(choice(&o.verbosity, verbosities...), "verbosity", "v", "`LEVEL` debug adds a log; info shows progress; output, warning, error and critical do not. Results are always shown (info)")
	f.Var(choice(&o.logs, "debug", "info", "warn", "error"), "log-level", "`LEVEL` how much goes to the log in the network's state directory: debug, info, warn, error (info)")
	f.BoolVar(&o.isVersion, "version", false, "print the version and end")

	refused := newGroup("Mininet's options that weft refuses, and why")
	for _, r := range refusals() {
		f := refused.flags.VarPF(refusal{r.reason, r.value == ""}, r.name, "", "`"+r.value+"` "+r.reason)
		if r.value == "" {
			f.NoOptDefVal, f.Usage = "true", r.reason
		}
	}
	groups := []group{network, work, output, refused}
	for _, g := range groups {
		g.addTo(cmd)
	}
	for _, name := range []string{"ip6", "seed", "name", "capture", "dry-run", "json", "quiet", "log-level"} {
		annotate(cmd.Flags().Lookup(name), ownOption)
	}
	completeOptions(cmd)
	return o, groups
}

// parseHost reads --host.
func parseHost(text string) (string, error) {
	kind, _, _ := strings.Cut(text, ",")
	switch {
	case text == "proc" || text == "default":
		return text, nil
	case kind == "rt" || kind == "cfs":
		return "", fmt.Errorf("this version does not limit the CPU of hosts, so there is no %s; write proc", kind)
	}
	return "", fmt.Errorf("there is no host %q (there are: proc, default)", text)
}

// A refused option is one of Mininet's that weft does not have.
type refused struct{ name, value, reason string }

func refusals() []refused {
	return []refused{
		{"innamespace", "", "it needs Mininet's user switch; weft's switches are in a namespace of their own without it, so leave it out"},
		{"cluster", "SERVER,...", "weft builds a network on one machine; leave it out"},
		{"placement", "KIND", "it is for --cluster, and weft builds a network on one machine; leave it out"},
		{"pin", "", "this version does not limit the CPU of hosts; start weft under taskset to keep it on some CPUs"},
	}
}

// A refusal is the value of an option that is always an error.
type refusal struct {
	reason   string
	isSwitch bool // it takes no value
}

func (r refusal) Set(string) error { return errors.New(r.reason) }
func (r refusal) String() string   { return "" }
func (r refusal) Type() string     { return "string" }

// A parsed is a value that is checked when it is set.
type parsed struct {
	to    *string
	parse func(string) (string, error)
}

func (v parsed) String() string { return "" }
func (v parsed) Type() string   { return "string" }
func (v parsed) Set(text string) (err error) {
	*v.to, err = v.parse(text)
	return err
}

// choice is a value out of a few.
func choice(to *string, allowed ...string) pflag.Value {
	return parsed{to, func(text string) (string, error) {
		if slices.Contains(allowed, text) {
			return text, nil
		}
		return "", fmt.Errorf("there is no %q (there are: %s)", text, strings.Join(allowed, ", "))
	}}
}

// A seedValue is a number that may be left out.
type seedValue struct{ to **uint64 }

func (v seedValue) String() string { return "" }
func (v seedValue) Type() string   { return "seed" }
func (v seedValue) Set(text string) error {
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return fmt.Errorf("%q is not a seed; write a number from 0 to 2^64-1", text)
	}
	*v.to = &n
	return nil
}

// spanValue is a length of time that may be zero.
func spanValue(to *string) pflag.Value {
	return parsed{to, func(text string) (string, error) {
		if n, err := strconv.ParseFloat(text, 64); err == nil && n == 0 {
			return text, nil
		}
		_, err := parseSpan(text)
		return text, err
	}}
}

// config makes a session of the options; its error names all that is wrong with them.
func (o *options) config(ctx context.Context, p *program) (session.Config, error) {
	var errs []error
	if o.custom != "" {
		var parameters []string
		if o.Topo != "" {
			parameters = []string{"topo=" + o.Topo}
		}
		custom, err := p.readTopology(ctx, o.custom, parameters, false)
		if err != nil {
			return session.Config{}, err
		}
		o.Custom = &custom
	}
	if o.given("nat") {
		nat := strings.TrimSpace(o.nat)
		o.NAT = &nat
	}
	spec, err := o.Spec()
	errs = append(errs, err)
	if o.dialect == shell.Mininet {
		listenAsMininet(spec.Controllers)
	}
	errs = append(errs, o.listen(&spec))
	c := session.Config{
		Spec: spec, Dialect: o.dialect, Pre: o.pre, Post: o.post, Xterms: o.xterms,
		DryRun: o.dryRun, JSON: o.json, In: p.in, Out: p.out, Err: p.err,
		Quiet: o.quiet || o.verbosity != "" && slices.Index(verbosities, o.verbosity) > slices.Index(verbosities, "info"),
	}
	var hosts []string
	for _, h := range spec.Hosts {
		hosts = append(hosts, h.Name)
	}
	for _, t := range o.tests {
		commands, err := testCommands(t, hosts)
		errs = append(errs, err)
		c.Tests = append(c.Tests, commands...)
	}
	for _, text := range o.captures {
		capture, err := parseCapture(text)
		errs = append(errs, err)
		c.Captures = append(c.Captures, capture)
	}
	if o.wait {
		c.Wait = session.DefaultWait
	}
	if o.twait != "" {
		c.Wait, err = parseSpan(o.twait)
		if err != nil {
			c.Wait = -1 // zero: go on at once
		}
	}
	if o.verbosity == "debug" {
		c.Log = slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if err := errors.Join(errs...); err != nil {
		return session.Config{}, &session.UsageError{Err: err}
	}
	if o.xterms && os.Getenv("DISPLAY") == "" {
		return session.Config{}, errors.New("--xterms needs a graphical display, and DISPLAY is not set")
	}
	return c, nil
}

// setLogLevel tells the engine how much to log.
func (o *options) setLogLevel() error {
	if o.logs == "" {
		return nil
	}
	return os.Setenv(logLevelVariable, o.logs)
}

// listenAsMininet makes built-in controllers listen on the user's loopback interface, so
// that the conversation can be watched there.
func listenAsMininet(list []topo.Controller) {
	port := mininetPort
	for i := range list {
		if c := &list[i]; c.Kind == topo.ControllerBuiltin && c.Port == 0 {
			c.Port = port
			port++
		}
	}
}

// listen gives the switches that speak OpenFlow the ports from --listenport on.
func (o *options) listen(s *topo.Spec) error {
	if !o.given("listenport") {
		return nil
	}
	if o.noListenPort {
		return errors.New("--listenport and --nolistenport exclude each other; write one of them")
	}
	port := o.listenPort
	for i := range s.Switches {
		if sw := &s.Switches[i]; sw.Driver != topo.DriverLinux {
			sw.ListenPort = port
			port++
		}
	}
	if o.listenPort < 1 || port-1 > 65535 {
		return fmt.Errorf("--listenport %d: the switches' ports are not all from 1 to 65535; write for example 6654", o.listenPort)
	}
	return nil
}

// networkCommand is weft itself, or weft mn.
func (p *program) networkCommand(d shell.Dialect) (*cobra.Command, []group) {
	cmd := &cobra.Command{Args: noArgs, ValidArgsFunction: cobra.NoFileCompletions}
	o, groups := addOptions(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(cmd.Flags()); err != nil {
			return err
		}
		switch {
		case o.isVersion:
			return printVersion(p.out, o.json)
		case o.clean:
			return clean(cmd.Context(), p.out, o.json)
		}
		c, err := o.config(cmd.Context(), p)
		if err != nil {
			return err
		}
		if err := o.setLogLevel(); err != nil {
			return err
		}
		return p.session(cmd.Context(), c)
	}
	return cmd, groups
}

// noEmptyValues refuses options with an empty value: somebody's variable was not set.
func noEmptyValues(flags *pflag.FlagSet) error {
	var errs []error
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && isEmpty(f.Value) {
			errs = append(errs, fmt.Errorf("%s: the value is empty; write one, or leave the option out", spelled(f)))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return &session.UsageError{Err: err}
	}
	return nil
}

func isEmpty(v pflag.Value) bool {
	_, checked := v.(parsed) // when it was set
	return !checked && v.String() == ""
}

// flagError says in the words of weft, or of optparse, what pflag found wrong.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown):
		err = unknownOption(cmd, unknown)
	case errors.As(err, &missing):
		err = fmt.Errorf("%s needs a value (see %s --help)", spelled(missing.GetFlag()), cmd.CommandPath())
	case errors.As(err, &invalid):
		reason := invalid.Unwrap().Error()
		switch invalid.GetFlag().Value.Type() {
		case "int":
			reason = fmt.Sprintf("%q is not a whole number", invalid.GetValue())
		case "bool":
			reason = "it takes no value; leave it out"
		}
		err = fmt.Errorf("%s: %s", spelled(invalid.GetFlag()), reason)
		if cmd.Name() == mnName {
			err = fmt.Errorf("option %w", err)
		}
	case errors.As(err, &syntax):
		err = fmt.Errorf("%q is not an option (see %s --help)", syntax.GetSpecifiedFlag(), cmd.CommandPath())
	}
	return &session.UsageError{Err: err}
}

func spelled(f *pflag.Flag) string { return "--" + f.Name }

func unknownOption(cmd *cobra.Command, e *pflag.NotExistError) error {
	if e.GetSpecifiedShortnames() != "" {
		return fmt.Errorf("there is no option -%s (see %s --help)", e.GetSpecifiedName(), cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	hint := ""
	if near := topo.Nearest(e.GetSpecifiedName(), names); near != "" {
		hint = "; did you mean --" + near + "?"
	}
	return fmt.Errorf("there is no option --%s%s (see %s --help)", e.GetSpecifiedName(), hint, cmd.CommandPath())
}

// completeOptions makes the shell complete the options' values.
func completeOptions(cmd *cobra.Command) {
	values := map[string][]cobra.Completion{
		"switch":     {"ovs", "ovsk", "ovsbr", "lxbr"},
		"controller": {"builtin", "remote", "tcp:", "ssl:", "ovsc", "ryu,", "osken,", "cmd:", "none"},
		"link":       {"veth", "tc,", "netem,", "wire,", "ovs"},
		"host":       {"proc"},
		"verbosity":  verbosities,
		"log-level":  {"debug", "info", "warn", "error"},
	}
	for _, g := range topo.Generators() {
		values["topo"] = append(values["topo"], cobra.CompletionWithDesc(g.Name, g.Doc))
	}
	for _, t := range tests() {
		values["test"] = append(values["test"], cobra.CompletionWithDesc(t.name, t.doc))
	}
	for _, name := range []string{"name", "ipbase", "ip6", "nat", "listenport", "twait", "capture"} {
		values[name] = nil
	}
	for name, list := range values {
		if cmd.Flags().Lookup(name) == nil {
			continue // one of another command's
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if slices.Contains([]string{"topo", "switch", "controller", "test"}, name) {
			directive |= cobra.ShellCompDirectiveNoSpace // arguments may follow
		}
		if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, directive)); err != nil {
			panic(err) // it is registered already: a mistake in this program
		}
	}
}

// printVersion prints the version.
func printVersion(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, struct {
			Version string `json:"version"`
		}{version})
	}
	_, err := fmt.Fprintln(w, "weft", version)
	return err
}
