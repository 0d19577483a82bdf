package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"weft/api"
	"weft/capture"
	"weft/network"
	"weft/topo"
)

// A CaptureSummary says what a capture has written.
type CaptureSummary struct {
	File    string `json:"file"`
	Packets uint64 `json:"packets"`
	Dropped uint64 `json:"dropped"`
	network.CaptureResult
}

// NewCaptureSummary returns the summary of a recording with its result.
func NewCaptureSummary(rec *api.Recording, r network.CaptureResult) CaptureSummary {
	return CaptureSummary{File: rec.File.Name(), Packets: r.Packets(), Dropped: r.Dropped(), CaptureResult: r}
}

// Write writes the summary for people.
func (s CaptureSummary) Write(w io.Writer) {
	fmt.Fprintf(w, "%s: %s", s.File, count(s.Packets, "packet"))
	messages := uint64(0)
	for _, i := range s.Interfaces {
		messages += i.Messages
	}
	if messages > 0 {
		fmt.Fprintf(w, ", %s", count(messages, "OpenFlow message"))
	}
	fmt.Fprintf(w, ", %d dropped\n", s.Dropped)
	for _, i := range s.Interfaces {
		if i.Dropped > 0 {
			fmt.Fprintf(w, "  %s: %d dropped of %d\n", i.Name, i.Dropped, i.Received)
		}
	}
}

func count(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// WriteCaptureStart says what a recording captures on.
func WriteCaptureStart(w io.Writer, rec *api.Recording) {
	for _, note := range rec.Started.Notes {
		fmt.Fprintf(w, "Note: %s\n", note)
	}
	fmt.Fprintf(w, "capturing on %s to %s\n", strings.Join(rec.Started.Interfaces, ", "), rec.File.Name())
}

// A Recorder captures a network's packets.
type Recorder interface {
	Record(ctx context.Context, r network.CaptureRequest, to capture.FileConfig) (*api.Recording, error)
}

// A recording is one that was started at the prompt.
type recording struct {
	number int
	*api.Recording
}

// ended reports whether the capture has ended.
func (r recording) ended() bool {
	select {
	case <-r.Done():
		return true
	default:
		return false
	}
}

func captureOptions() []option {
	return []option{
		{"--snaplen", "BYTES", "keep the first bytes of each packet (all)"},
		{"--count", "N", "end after N packets"},
		{"--time", "SPAN", "end after a time: 10s"},
		{"--segment", "", "split frames left whole for segmentation offload"},
		{"--filter", "EXPRESSION", "only packets that match, as for tcpdump; the rest of the line"},
	}
}

// runCapture starts, lists and stops captures.
func runCapture(ctx context.Context, c *call) error {
	filter := c.cutFilter()
	switch {
	case len(c.args) == 0:
		c.show(recordingsView(c.recordings))
		return nil
	case c.args[0] == "stop":
		return c.stopRecordings(c.args[1:])
	case len(c.args) < 2:
		return c.misuse("usage: capture target... file")
	}
	targets, file := c.args[:len(c.args)-1], c.args[len(c.args)-1]
	r := network.CaptureRequest{Targets: targets, Filter: filter}
	_, r.Segment = c.opts["--segment"]
	var err error
	for _, o := range []struct {
		name string
		to   *int
	}{{"--snaplen", &r.SnapLen}, {"--count", &r.Count}} {
		if v, ok := c.opts[o.name]; ok {
			if *o.to, err = parseCount(v); err != nil {
				return err
			}
		}
	}
	if v, ok := c.opts["--time"]; ok {
		if r.Duration, err = parseSpan(v); err != nil {
			return err
		}
	}
	rec, err := c.net.Record(context.WithoutCancel(ctx), r, capture.FileConfig{Path: file})
	if err != nil {
		return err
	}
	c.captured++
	c.recordings = append(c.recordings, recording{c.captured, rec})
	c.show(view{value: recordingState(c.recordings[len(c.recordings)-1]), native: func(w io.Writer) {
		fmt.Fprintf(w, "%d: ", c.captured)
		WriteCaptureStart(w, rec)
	}})
	return nil
}

// cutFilter takes the words of a filter, which end the line, from the arguments.
func (c *call) cutFilter() string {
	first, ok := c.opts["--filter"]
	_, rest, _ := strings.Cut(c.rest, "--filter")
	words := strings.Fields(strings.TrimPrefix(rest, "="))
	if ok && len(words) > 1 && len(words)-1 <= len(c.args) {
		c.args = c.args[:len(c.args)-len(words)+1]
		return strings.Join(words, " ")
	}
	return first
}

// stopRecordings ends the captures with these numbers, or all, and says what they have.
func (c *call) stopRecordings(numbers []string) error {
	for _, n := range numbers {
		if !slices.ContainsFunc(c.recordings, func(r recording) bool { return strconv.Itoa(r.number) == n }) {
			return fmt.Errorf("there is no capture %s: capture lists them", n)
		}
	}
	var chosen, others []recording
	for _, r := range c.recordings {
		if len(numbers) == 0 || slices.Contains(numbers, strconv.Itoa(r.number)) {
			chosen = append(chosen, r)
		} else {
			others = append(others, r)
		}
	}
	if len(chosen) == 0 {
		return errors.New("no capture is running")
	}
	c.recordings = others
	summaries, err := finishRecordings(chosen)
	c.show(view{value: summaries, native: func(w io.Writer) {
		for _, s := range summaries {
			s.Write(w)
		}
	}})
	return err
}

// finishRecordings stops recordings and waits for what they have.
func finishRecordings(list []recording) ([]CaptureSummary, error) {
	summaries := []CaptureSummary{}
	var errs []error
	for _, r := range list {
		r.Stop()
	}
	for _, r := range list {
		result, err := r.Result()
		errs = append(errs, err)
		summaries = append(summaries, NewCaptureSummary(r.Recording, result))
	}
	return summaries, errors.Join(errs...)
}

// Close ends the captures that were started with commands, and says what they have. It
// ends what is shown beside the prompt, too.
func (s *Session) Close() error {
	s.unfollow()
	s.notices.show(s.cfg.Err)
	summaries, err := finishRecordings(s.recordings)
	s.recordings = nil
	if s.cfg.JSON || err != nil {
		return err
	}
	for _, sum := range summaries {
		sum.Write(s.cfg.Err)
	}
	return nil
}

// recordingState is a capture as people and programs see it.
func recordingState(r recording) any {
	return struct {
		Number  int      `json:"number"`
		Targets []string `json:"targets"`
		File    string   `json:"file"`
		Running bool     `json:"running"`
	}{r.number, r.Request.Targets, r.File.Name(), !r.ended()}
}

func recordingsView(list []recording) view {
	states := []any{}
	for _, r := range list {
		states = append(states, recordingState(r))
	}
	return view{value: states, native: func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "no captures")
		}
		for _, r := range list {
			state := "running"
			if r.ended() {
				state = "ended"
			}
			fmt.Fprintf(w, "%d: %s to %s, %s\n", r.number, strings.Join(r.Request.Targets, " "), r.File.Name(), state)
		}
	}}
}

// completeCapture completes targets.
func completeCapture(p *topo.Plan, words []string) []string {
	names := []string{"control", "all"}
	if len(words) == 0 {
		names = append(names, "stop")
	}
	names = append(names, nodeNames(p)...)
	for _, l := range p.Links {
		names = append(names, l.A.Node+"-"+l.B.Node, l.A.Interface, l.B.Interface)
	}
	return names
}
