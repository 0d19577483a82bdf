package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/capture"
	"weft/internal/sandbox"
	"weft/network"
	"weft/session"
	"weft/topo"
)

// Wireshark finds out what a program in its extcap folder can capture by running it
// (doc/extcap.4 of Wireshark):
//
//	--extcap-interfaces                                    a line for each interface
//	--extcap-interface I --extcap-dlts                     its link type
//	--extcap-interface I --extcap-config                   arguments that people can set
//	--extcap-interface I --extcap-capture-filter F         what is wrong with F: nothing
//	--extcap-interface I --capture --fifo FILE …           capture into FILE until SIGTERM
//
// Our interfaces are called weft:NETWORK:TARGET, with a TARGET of weft capture.

// extcapPrefix begins the names of our interfaces.
const extcapPrefix = "weft:"

// mostExtcapInterfaces bounds how many interfaces of a network are listed: Wireshark runs
// the program again for each.
const mostExtcapInterfaces = 256

// extcapTimeout bounds the wait for each network: Wireshark waits for the list when it
// starts.
const extcapTimeout = 2 * time.Second

// An extcap is what Wireshark asks of the command.
type extcap struct {
	interfaces, dlts, config, capture bool
	iface, filter, fifo, version      string
	request                           network.CaptureRequest
}

// extcapCommand is weft extcap.
func (p *program) extcapCommand() *cobra.Command {
	var x extcap
	var dir string
	cmd := &cobra.Command{
		Use:       "extcap install|uninstall",
		Short:     "Show running networks in Wireshark's own list of interfaces, or no longer",
		Example:   "weft extcap install",
		ValidArgs: []string{"install", "uninstall"},
		// Wireshark's next version may say more.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "`DIR` Wireshark's personal extcap folder (found by asking it)")
	asJSON := jsonFlag(cmd)
	f.BoolVar(&x.interfaces, "extcap-interfaces", false, "list the interfaces")
	f.BoolVar(&x.dlts, "extcap-dlts", false, "tell the link type")
	f.BoolVar(&x.config, "extcap-config", false, "tell the arguments")
	f.BoolVar(&x.capture, "capture", false, "capture")
	f.StringVar(&x.version, "extcap-version", "", "`VERSION` of Wireshark")
	f.StringVar(&x.iface, "extcap-interface", "", "`NAME` of the interface")
	f.StringVar(&x.filter, "extcap-capture-filter", "", "`EXPRESSION` capture filter")
	f.StringVar(&x.fifo, "fifo", "", "`FILE` where to capture")
	f.IntVar(&x.request.SnapLen, "snaplen", 0, "`BYTES` keep the first of each packet")
	f.BoolVar(&x.request.Segment, "segment", false, "split large frames")
	for _, name := range []string{"extcap-interfaces", "extcap-dlts", "extcap-config", "capture", "extcap-version",
		"extcap-interface", "extcap-capture-filter", "fifo", "snaplen", "segment"} {
		f.Lookup(name).Hidden = true
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		action := strings.Join(args, " ")
		switch {
		case x.interfaces:
			return x.list(ctx, p.out)
		case x.dlts:
			fmt.Fprintln(p.out, "dlt {number=1}{name=EN10MB}{display=Ethernet}")
			return nil
		case x.config:
			_, err := io.WriteString(p.out, extcapArguments)
			return err
		case x.capture:
			return x.run(ctx)
		case x.iface != "" && f.Changed("extcap-capture-filter"):
			x.check(ctx, p.out)
			return nil
		case action != "install" && action != "uninstall":
			return &session.UsageError{Err: errors.New("extcap: write install or uninstall")}
		}
		return p.setLauncher(ctx, dir, action == "install", *asJSON)
	}
	return cmd
}

// extcapArguments are those that people can set for a capture, in Wireshark's dialog.
const extcapArguments = `arg {number=0}{call=--snaplen}{display=Snap length (bytes)}{tooltip=Keep the first bytes of each packet; 0 keeps all}{type=unsigned}{range=0,262144}{default=0}
arg {number=1}{call=--segment}{display=Split large frames}{tooltip=Split frames that are left whole for segmentation offload, as a wire would see them}{type=boolflag}{default=false}
`

// list writes the interfaces of all running networks. One that does not answer is left out.
func (x *extcap) list(ctx context.Context, w io.Writer) error {
	fmt.Fprintf(w, "extcap {version=%s}{display=weft}\n", version)
	running, _, err := sandbox.List()
	if err != nil {
		return err
	}
	for _, name := range running {
		path, err := sandbox.SocketPath(name)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, extcapTimeout)
		st, err := api.Dial(path).State(ctx)
		cancel()
		if err != nil {
			continue
		}
		for _, i := range extcapInterfaces(st.Plan) {
			fmt.Fprintf(w, "interface {value=%s%s:%s}{display=weft: %s %s}\n", extcapPrefix, name, i.target, name, i.display)
		}
	}
	return nil
}

// An extcapInterface is a target of weft capture and what people see of it.
type extcapInterface struct{ target, display string }

// extcapInterfaces lists the interfaces of a network: control channels first.
func extcapInterfaces(p *topo.Plan) []extcapInterface {
	var list []extcapInterface
	for _, sw := range p.Switches {
		for _, c := range sw.Controllers {
			list = append(list, extcapInterface{sw.Name + ":" + c, "control " + sw.Name + ":" + c})
		}
	}
	if len(list) > 1 {
		list = append([]extcapInterface{{"control", "control (all channels)"}}, list...)
	}
	list = append(list, extcapInterface{"all", "all links and control channels"})
	var ports [][]topo.Interface
	for _, h := range p.Hosts {
		ports = append(ports, h.Interfaces)
	}
	for _, sw := range p.Switches {
		ports = append(ports, sw.Interfaces)
	}
	for _, of := range ports {
		for _, i := range of {
			list = append(list, extcapInterface{i.Name, i.Name})
		}
	}
	return list[:min(len(list), mostExtcapInterfaces)]
}

// start starts the capture that is asked for, into to.
func (x *extcap) start(ctx context.Context, to capture.FileConfig) (*api.Recording, error) {
	rest, ok := strings.CutPrefix(x.iface, extcapPrefix)
	name, target, both := strings.Cut(rest, ":")
	if !ok || !both {
		return nil, fmt.Errorf("%q is no interface of weft's: they are called weft:NETWORK:TARGET", x.iface)
	}
	path, err := sandbox.SocketPath(name)
	if err != nil {
		return nil, err
	}
	x.request.Targets, x.request.Filter = []string{target}, x.filter
	rec, err := api.Dial(path).Record(ctx, x.request, to)
	if errors.Is(err, api.ErrGone) {
		return nil, fmt.Errorf("network %s is not running any more", name)
	}
	return rec, err
}

// check writes what is wrong with the filter, if anything is.
func (x *extcap) check(ctx context.Context, w io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, extcapTimeout)
	defer cancel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err == nil {
		defer null.Close()
		var rec *api.Recording
		if rec, err = x.start(ctx, capture.FileConfig{Path: "-", Stdout: null}); err == nil {
			rec.Stop()
			_, err = rec.Result()
		}
	}
	if err != nil {
		fmt.Fprintln(w, err)
	}
}

// run captures into the FIFO until Wireshark has enough.
func (x *extcap) run(ctx context.Context) error {
	if x.fifo == "" {
		return &session.UsageError{Err: errors.New("extcap: --capture needs --fifo")}
	}
	fifo, err := os.OpenFile(x.fifo, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("extcap: %w", err)
	}
	defer fifo.Close()
	rec, err := x.start(ctx, capture.FileConfig{Path: "-", Stdout: fifo})
	if err != nil {
		return err
	}
	defer stopOnSignal(rec)()
	if _, err = rec.Result(); errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// launcherName is our program in Wireshark's folder, launcherMark a line that tells it from
// somebody else's.
const (
	launcherName = "weft-extcap"
	launcherMark = "# Made by weft extcap install: shows running networks in Wireshark.\n"
)

// setLauncher puts our program into Wireshark's folder, or takes it out.
func (p *program) setLauncher(ctx context.Context, dir string, install, asJSON bool) error {
	if dir == "" {
		var err error
		if dir, err = extcapFolder(ctx); err != nil {
			return err
		}
	}
	file := filepath.Join(dir, launcherName)
	old, err := os.ReadFile(file)
	switch {
	case err == nil && !strings.Contains(string(old), launcherMark):
		return fmt.Errorf("%s is not weft's: it stays as it is", file)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("extcap: %w", err)
	}
	was := err == nil
	if install {
		err = writeLauncher(file)
	} else if was {
		err = os.Remove(file)
	} else {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("extcap: %w", err)
	}
	switch {
	case asJSON:
		return printJSON(p.out, struct {
			File      string `json:"file"`
			Installed bool   `json:"installed"`
		}{file, install})
	case install:
		fmt.Fprintf(p.out, "%s: Wireshark lists your running networks when it starts, and after Refresh Interfaces (F5)\n", file)
	case was:
		fmt.Fprintf(p.out, "%s removed\n", file)
	default:
		fmt.Fprintf(p.out, "%s is not there: nothing to remove\n", file)
	}
	return nil
}

func writeLauncher(file string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	quoted := "'" + strings.ReplaceAll(self, "'", `'\''`) + "'"
	return os.WriteFile(file, []byte("#!/bin/sh\n"+launcherMark+"exec "+quoted+" extcap \"$@\"\n"), 0o755)
}

// extcapFolder asks Wireshark for its personal extcap folder.
func extcapFolder(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, name := range []string{"tshark", "wireshark"} {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, name, "-G", "folders").Output()
		if err != nil {
			return "", fmt.Errorf("%s -G folders: %w; name the folder with --dir", name, err)
		}
		if dir := parseFolders(string(out)); dir != "" {
			return dir, nil
		}
		return "", fmt.Errorf("%s -G folders names no personal folder; name one with --dir", name)
	}
	return "", errors.New("neither wireshark nor tshark is installed; name Wireshark's extcap folder with --dir")
}

// parseFolders finds the personal extcap folder in what tshark -G folders writes: named
// since Wireshark 4.2, beside the personal configuration before.
func parseFolders(text string) string {
	folders := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if label, path, ok := strings.Cut(s.Text(), ":"); ok {
			folders[strings.ToLower(strings.TrimSpace(label))] = strings.TrimSpace(path)
		}
	}
	if dir := folders["personal extcap path"]; dir != "" {
		return dir
	}
	if dir := folders["personal configuration"]; dir != "" {
		return filepath.Join(dir, "extcap")
	}
	return ""
}
