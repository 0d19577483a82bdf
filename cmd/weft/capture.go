package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"weft/api"
	"weft/capture"
	"weft/internal/sandbox"
	"weft/network"
	"weft/session"
	"weft/shell"
)

// captureCommand is weft capture.
func (p *program) captureCommand() *cobra.Command {
	var r network.CaptureRequest
	var to capture.FileConfig
	var quiet bool
	cmd := &cobra.Command{
		Use:   "capture [NETWORK] TARGET...",
		Short: "Write what passes links and control channels to a file for Wireshark",
		Example: "weft capture s1-s2 -w link.pcapng\n" +
			"weft capture control -w - | wireshark -k -i -",
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&to.Path, "write", "w", "", "`FILE` where to; - is standard output (NETWORK-TARGET.pcapng, or standard output if that is a pipe). FILE.zst and FILE.gz are compressed")
	f.StringVarP(&r.Filter, "filter", "f", "", "`EXPRESSION` only packets that match, as for tcpdump: 'tcp port 80'")
	f.IntVarP(&r.SnapLen, "snaplen", "s", 0, "`BYTES` keep the first BYTES of each packet (all)")
	f.IntVarP(&r.Count, "count", "c", 0, "`N` end after N packets")
	f.VarP(stopValue(&r.Duration), "autostop", "a", "`duration:SECONDS` end after a time")
	f.VarP(ringValue(&to), "ring", "b", "`LIMIT` write another file after filesize:KB or duration:SECONDS; keep the newest files:N; may be repeated")
	f.VarP(choice(&r.Direction, "in", "out", "inout"), "direction", "Q", "`in|out|inout` as the interface's node sees it; of a link, the first node (inout)")
	f.BoolVar(&r.Segment, "segment", false, "split frames that are left whole for segmentation offload, as a wire would see them")
	f.Var(choice((*string)(&to.Compress), "zstd", "gzip", "none"), "compress", "`zstd|gzip|none` compress the file (by its name)")
	f.BoolVarP(&quiet, "quiet", "q", false, "say nothing but errors")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(noEmptyValues(f), checkCapture(f, to)); err != nil {
			return err
		}
		client, name, targets, err := dialNetwork(args, 1)
		if err != nil {
			return err
		}
		r.Targets = targets
		if to.Path == "" {
			if to.Path, err = p.captureFile(name, targets); err != nil {
				return err
			}
		}
		to.Stdout = p.out
		if to.Path == "-" && term.IsTerminal(int(p.out.Fd())) {
			return &session.UsageError{Err: errors.New("standard output is a terminal; write to a file, -w FILE, or pipe it on")}
		}
		rec, err := client.Record(cmd.Context(), r, to)
		if err != nil {
			return err
		}
		if !quiet {
			shell.WriteCaptureStart(p.err, rec)
		}
		defer stopOnSignal(rec)()
		result, err := rec.Result()
		if errors.Is(err, syscall.EPIPE) && to.Path == "-" {
			err = nil // who read it has seen enough
		}
		switch {
		case *asJSON && to.Path != "-":
			err = errors.Join(err, printJSON(p.out, shell.NewCaptureSummary(rec, result)))
		case !quiet:
			shell.NewCaptureSummary(rec, result).Write(p.err)
		}
		return err
	}
	return cmd
}

// checkCapture looks for values that cannot be meant.
func checkCapture(f *pflag.FlagSet, to capture.FileConfig) error {
	var errs []error
	for _, name := range []string{"snaplen", "count"} {
		if n, _ := f.GetInt(name); f.Changed(name) && n < 1 {
			errs = append(errs, fmt.Errorf("--%s: %d is not above zero", name, n))
		}
	}
	ring := to.FileSize > 0 || to.FileTime > 0
	if to.Files > 0 && !ring {
		errs = append(errs, errors.New("-b files: says how many to keep; write -b filesize: or -b duration: too"))
	}
	if err := errors.Join(errs...); err != nil {
		return &session.UsageError{Err: err}
	}
	return nil
}

// stopOnSignal ends a recording in good order when the user or the system wants it; a
// second signal ends weft.
func stopOnSignal(rec *api.Recording) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE) // writing says so
	go func() {
		if _, ok := <-signals; ok {
			signal.Stop(signals)
			rec.Stop()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// captureFile names the file of a capture for which none is named.
func (p *program) captureFile(network string, targets []string) (string, error) {
	if !term.IsTerminal(int(p.out.Fd())) {
		return "-", nil
	}
	name := strings.NewReplacer("/", "_", ":", "-").Replace(network+"-"+strings.Join(targets, "+")) + ".pcapng"
	if _, err := os.Lstat(name); err == nil {
		return "", fmt.Errorf("%s exists; name a file with -w", name)
	}
	return name, nil
}

// dialNetwork connects to a running network: the one that the first word names if others
// follow, at least least, else the only one. It returns the network's name and the
// other words.
func dialNetwork(args []string, least int) (client *api.Client, name string, rest []string, err error) {
	running, _, err := sandbox.List()
	if err != nil {
		return nil, "", nil, err
	}
	switch {
	case len(args) > least && slices.Contains(running, args[0]):
		name, args = args[0], args[1:]
	case len(args) < least:
		return nil, "", nil, &session.UsageError{Err: errors.New("write what to capture on: an interface, a node, a link (s1-s2), control, s1:c0 or all")}
	case len(running) == 0:
		return nil, "", nil, errors.New("no network of yours is running; start one with weft")
	case len(running) > 1:
		return nil, "", nil, &session.UsageError{Err: fmt.Errorf("several networks are running; write which first: %s", strings.Join(running, ", "))}
	default:
		name = running[0]
	}
	path, err := sandbox.SocketPath(name)
	if err != nil {
		return nil, "", nil, err
	}
	return api.Dial(path), name, args, nil
}

// stopValue is the value of --autostop.
func stopValue(to *time.Duration) pflag.Value {
	return limitValue{func(key, value string) (err error) {
		if key != "duration" {
			return fmt.Errorf("there is no limit %q (there is: duration:SECONDS; packets are limited by -c)", key)
		}
		*to, err = parseSpan(value)
		return err
	}}
}

// ringValue is the value of --ring.
func ringValue(to *capture.FileConfig) pflag.Value {
	return limitValue{func(key, value string) (err error) {
		n, wrong := strconv.Atoi(value)
		switch key {
		case "duration":
			to.FileTime, err = parseSpan(value)
			return err
		case "filesize":
			to.FileSize = int64(n) * 1000
		case "files":
			to.Files = n
		default:
			return fmt.Errorf("there is no limit %q (there are: filesize:KB, duration:SECONDS, files:N)", key)
		}
		if wrong != nil || n < 1 {
			return fmt.Errorf("%s: %q is not a whole number above zero", key, value)
		}
		return nil
	}}
}

// A limitValue is KEY:VALUE.
type limitValue struct {
	set func(key, value string) error
}

func (v limitValue) String() string { return "" }
func (v limitValue) Type() string   { return "limit" }
func (v limitValue) Set(text string) error {
	key, value, _ := strings.Cut(text, ":")
	return v.set(key, value)
}

// parseCapture reads the value of an option --capture.
func parseCapture(text string) (session.Capture, error) {
	targets, file, ok := strings.Cut(text, "=")
	if !ok || targets == "" || file == "" || file == "-" {
		return session.Capture{}, fmt.Errorf("--capture %s: write TARGET[,TARGET...]=FILE, for example control=of.pcapng", text)
	}
	return session.Capture{
		Request: network.CaptureRequest{Targets: strings.Split(targets, ",")},
		File:    capture.FileConfig{Path: file},
	}, nil
}
