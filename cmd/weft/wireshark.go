package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"weft/capture"
	"weft/network"
	"weft/session"
)

// wiresharkCommand is weft wireshark.
func (p *program) wiresharkCommand() *cobra.Command {
	var r network.CaptureRequest
	var inTerminal bool
	cmd := &cobra.Command{
		Use:   "wireshark [NETWORK] TARGET... [-- ARGUMENT...]",
		Short: "Open Wireshark live on what passes links and control channels",
		Example: "weft wireshark control\n" +
			"weft wireshark s1-s2 h1 -f 'tcp port 80'\n" +
			"weft wireshark s1:c0 --tshark -- -V -c 10",
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&r.Filter, "filter", "f", "", "`EXPRESSION` only packets that match, as for tcpdump: 'tcp port 80'")
	f.IntVarP(&r.SnapLen, "snaplen", "s", 0, "`BYTES` keep the first BYTES of each packet (all)")
	f.BoolVar(&r.Segment, "segment", false, "split frames that are left whole for segmentation offload, as a wire would see them")
	f.BoolVar(&inTerminal, "tshark", false, "in this terminal, with tshark")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var extra []string
		if n := cmd.ArgsLenAtDash(); n >= 0 {
			args, extra = args[:n], args[n:]
		}
		if err := errors.Join(noEmptyValues(f), checkCapture(f, capture.FileConfig{})); err != nil {
			return err
		}
		viewer, err := findViewer(inTerminal)
		if err != nil {
			return err
		}
		client, _, targets, err := dialNetwork(args, 1)
		if err != nil {
			return err
		}
		r.Targets = targets
		view := exec.Command(viewer[0], append(viewer[1:], extra...)...)
		view.Stdout, view.Stderr = p.out, p.err
		stream, packets, err := os.Pipe()
		if err != nil {
			return err
		}
		defer stream.Close()
		view.Stdin = stream
		rec, err := client.Record(cmd.Context(), r, capture.FileConfig{Path: "-", Stdout: packets})
		if err != nil {
			packets.Close()
			return err
		}
		defer stopOnSignal(rec)()
		for _, note := range rec.Started.Notes {
			fmt.Fprintf(p.err, "Note: %s\n", note)
		}
		if err := view.Start(); err != nil {
			rec.Stop()
			return fmt.Errorf("%s: %w", viewer[0], err)
		}
		stream.Close()
		go func() {
			<-rec.Done() // the network may end first; what was captured stays on the screen
			packets.Close()
		}()
		err = view.Wait()
		rec.Stop()
		result, failed := rec.Result()
		if errors.Is(failed, syscall.EPIPE) {
			failed = nil // it was closed
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			fmt.Fprintf(p.err, "weft: %s: %v\n", viewer[0], exit)
			err = session.ErrFailed
		}
		if n := result.Dropped(); n > 0 {
			fmt.Fprintf(p.err, "%d packets were dropped\n", n)
		}
		return errors.Join(err, failed)
	}
	return cmd
}

// findViewer returns the command that shows a capture from its standard input.
func findViewer(inTerminal bool) ([]string, error) {
	argv := []string{"wireshark", "-k", "-i", "-"}
	if inTerminal {
		argv = []string{"tshark", "-l", "-i", "-"}
	} else if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return nil, errors.New("wireshark needs a graphical display, and DISPLAY is not set; take --tshark, or weft capture -w FILE")
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		return nil, fmt.Errorf("%s is not installed: sudo apt install %[1]s", argv[0])
	}
	return argv, nil
}
