package experiment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weft/api"
	"weft/capture"
	"weft/control/openflow"
	"weft/conversation"
	"weft/internal/packetfile"
	"weft/network"
	"weft/topo"
)

// Capture starts a capture into a file of the results.
type Capture struct {
	As      string   `key:"as" doc:"its name, and that of its file (what it captures on)"`
	Of      []string `key:"of" doc:"interfaces (h1-eth0), nodes, links (s1-s2), control channels (s1:c0), control, all" required:"true"`
	Filter  string   `key:"filter" doc:"only packets that match, as for tcpdump"`
	SnapLen int      `key:"snaplen" doc:"bytes to keep of each packet (all)" min:"1" max:"262144"`
	Count   int      `key:"count" doc:"end after so many packets" min:"1" max:"1000000000"`
	Segment bool     `key:"segment" doc:"split frames that are whole for segmentation offload"`
}

func shortCapture(a Action, text string) error {
	c := a.(*Capture)
	if c.Of = splitNames(text); len(c.Of) == 0 {
		return errors.New("nothing is named; write for example s1-s2")
	}
	return nil
}

// name is what the capture is called.
func (c *Capture) name() string {
	if c.As != "" {
		return c.As
	}
	return fileName(strings.Join(c.Of, "+"))
}

func (c *Capture) String() string { return "capture " + list(c.Of, 6) }

// Validate wants a name that is one of a file.
func (c *Capture) Validate(*topo.Plan) error { return checkName(c.As) }

// checkName says if a name cannot be that of a file of the results.
func checkName(name string) error {
	if name != "" && (fileName(name) != name || len(name) > 60) {
		return fmt.Errorf("%q is no name: write letters, digits, - _ and ., up to 60", name)
	}
	return nil
}

// Estimate is nothing: it goes on beside the steps.
func (c *Capture) Estimate() time.Duration { return 0 }

// Do starts the capture; it ends with a stop, or with the trial.
func (c *Capture) Do(ctx context.Context, t *Trial) (Outcome, error) {
	path := filepath.Join(t.Dir, c.name()+".pcapng")
	if _, err := os.Lstat(path); err == nil {
		return Outcome{}, fmt.Errorf("there is a capture called %s already; name this one with as", c.name())
	}
	// It outlives the step.
	rec, err := t.Client.Record(context.WithoutCancel(ctx), network.CaptureRequest{Targets: c.Of, Filter: c.Filter, SnapLen: c.SnapLen, Count: c.Count, Segment: c.Segment},
		capture.FileConfig{Path: path, Compress: capture.CompressNone})
	if err != nil {
		return Outcome{}, err
	}
	t.mu.Lock()
	t.captures[c.name()] = rec
	t.mu.Unlock()
	t.addFile(filepath.Base(path))
	o := Outcome{Summary: "on " + list(rec.Started.Interfaces, 6) + " to " + filepath.Base(path), Detail: rec.Started}
	if len(rec.Started.Notes) > 0 {
		o.Summary += "; " + list(rec.Started.Notes, 2)
	}
	return o, nil
}

// stopTimeout bounds the end of a capture.
const stopTimeout = 10 * time.Second

// stopCapture ends a capture and says what it has.
func (t *Trial) stopCapture(ctx context.Context, name string) (string, error) {
	t.mu.Lock()
	rec := t.captures[name]
	t.mu.Unlock()
	rec.Stop()
	select {
	case <-rec.Done():
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-time.After(stopTimeout):
		return "", fmt.Errorf("capture %s has not ended within %s", name, formatDuration(stopTimeout))
	}
	r, err := rec.Result()
	if err != nil && !errors.Is(err, api.ErrGone) {
		return "", fmt.Errorf("capture %s: %w", name, err)
	}
	return fmt.Sprintf("%d packets", r.Packets()), nil
}

// lost are the packets that captures, which have ended, did not get.
func (t *Trial) lost() (drops []network.Drop) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(t.captures)) {
		rec := t.captures[name]
		select {
		case <-rec.Done():
		default:
			continue
		}
		if r, _ := rec.Result(); r.Dropped() > 0 {
			drops = append(drops, network.Drop{Place: "capture " + name, Why: "packets came faster than they could be written", Count: r.Dropped()})
		}
	}
	return drops
}

// openCapture ends a capture and opens its file.
func (t *Trial) openCapture(ctx context.Context, name string) (*os.File, error) {
	t.mu.Lock()
	rec := t.captures[name]
	names := slices.Sorted(maps.Keys(t.captures))
	t.mu.Unlock()
	if rec == nil {
		return nil, unknown("capture", name, names)
	}
	if _, err := t.stopCapture(ctx, name); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(t.Dir, name+".pcapng"))
}

// Packets counts the packets of a capture, which it ends.
type Packets struct {
	Of        string `key:"of" doc:"name of the capture" required:"true"`
	Filter    string `key:"filter" doc:"only packets that match, as for tcpdump"`
	Match     string `key:"match" doc:"only packets with these header fields, as OpenFlow names them: ipv4_src=10.0.0.1,tcp_dst=80"`
	Interface string `key:"interface" doc:"only packets of this interface"`
}

func shortPackets(a Action, text string) error {
	a.(*Packets).Of = text
	return nil
}

func (p *Packets) String() string {
	text := "packets of " + p.Of
	for _, s := range []string{p.Interface, p.Filter, p.Match} {
		if s != "" {
			text += ", " + s
		}
	}
	return text
}

// Validate wants fields that can be read.
func (p *Packets) Validate(*topo.Plan) error {
	_, err := p.fields()
	return err
}

// fields reads Match.
func (p *Packets) fields() (conversation.Filter, error) {
	return conversation.Selection{Match: p.Match}.Filter(openflow.NewDecoder())
}

// Estimate is nothing but reading.
func (p *Packets) Estimate() time.Duration { return time.Second }

// Do reads the file.
func (p *Packets) Do(ctx context.Context, t *Trial) (Outcome, error) {
	match := func([]byte) bool { return true }
	if p.Filter != "" {
		var err error
		if match, err = capture.Matcher(ctx, p.Filter); err != nil {
			return Outcome{}, err
		}
	}
	fields, err := p.fields()
	if err != nil {
		return Outcome{}, err
	}
	f, err := t.openCapture(ctx, p.Of)
	if err != nil {
		return Outcome{}, err
	}
	defer f.Close()
	var count, bytes int
	var first, last time.Time
	var sample []string
	err = eachPacket(f, func(pk packetfile.Packet) {
		if p.Interface != "" && pk.Interface != p.Interface || !match(pk.Data) {
			return
		}
		said := openflow.ReadPacket(pk.Data)
		if !fields.Match(conversation.Message{}, openflow.Decoded{Fields: said.Headers}) {
			return
		}
		if count++; count == 1 {
			first = pk.Time
		}
		last, bytes = pk.Time, bytes+pk.Length
		if len(sample) < 5 {
			sample = append(sample, said.Summary)
		}
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("capture %s: %w", p.Of, err)
	}
	v := Values{"count": float64(count), "bytes": float64(bytes)}
	if count > 0 {
		v["first"], v["last"] = first.Sub(t.started), last.Sub(t.started)
	}
	o := Outcome{Values: v, Summary: fmt.Sprintf("%d packets, %d bytes", count, bytes)}
	if count > 0 {
		o.Summary += ", the first " + sample[0]
		o.Detail = map[string]any{"first": sample}
	}
	return o, nil
}

// eachPacket calls f for each packet of a file. What a file lacks at its end is no error.
func eachPacket(r io.Reader, f func(packetfile.Packet)) error {
	file, err := packetfile.NewReader(r)
	if err != nil {
		return err
	}
	for {
		p, err := file.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f(p)
	}
}

// Messages counts the OpenFlow messages of a capture of control channels, which it ends.
type Messages struct {
	Of     string `key:"of" doc:"name of the capture" required:"true"`
	Switch string `key:"switch" doc:"only those of these switches: s1,s2"`
	Type   string `key:"type" doc:"only these types: PACKET_IN,FLOW_MOD"`
	Match  string `key:"match" doc:"only those with these fields: in_port=1,ipv4_src=10.0.0.0/8"`
}

func shortMessages(a Action, text string) error {
	a.(*Messages).Of = text
	return nil
}

func (m *Messages) String() string {
	text := "messages of " + m.Of
	for _, s := range []string{m.Switch, m.Type, m.Match} {
		if s != "" {
			text += ", " + s
		}
	}
	return text
}

func (m *Messages) selection() conversation.Selection {
	return conversation.Selection{Switches: m.Switch, Types: m.Type, Match: m.Match}
}

// Validate wants types of messages that there are.
func (m *Messages) Validate(plan *topo.Plan) error {
	var errs []error
	for _, name := range splitNames(m.Switch) {
		if plan.Switch(name) == nil {
			errs = append(errs, unknown("switch", name, switches(plan)))
		}
	}
	_, err := m.selection().Filter(openflow.NewDecoder())
	return errors.Join(append(errs, err)...)
}

// Estimate is nothing but reading.
func (m *Messages) Estimate() time.Duration { return time.Second }

// Do reads the file. Times of flow setup are of all messages of the switches, since a
// selection of types would have no pairs.
func (m *Messages) Do(ctx context.Context, t *Trial) (Outcome, error) {
	f, err := t.openCapture(ctx, m.Of)
	if err != nil {
		return Outcome{}, err
	}
	defer f.Close()
	decoder := openflow.NewDecoder()
	filter, err := m.selection().Filter(decoder)
	if err != nil {
		return Outcome{}, err
	}
	ofSwitch, err := conversation.Selection{Switches: m.Switch}.Filter(decoder)
	if err != nil {
		return Outcome{}, err
	}
	picked, all := conversation.NewCounter(), conversation.NewCounter()
	_, err = conversation.ReadFile(f, conversation.Ports(), func(msg conversation.Message) error {
		d := decoder.Decode(msg.Data)
		if ofSwitch.Match(msg, d) {
			all.Add(msg, d)
		}
		if filter.Match(msg, d) {
			picked.Add(msg, d)
		}
		return ctx.Err()
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("capture %s: %w", m.Of, err)
	}
	s, setup := picked.Statistics(), all.Statistics().Setup
	v := Values{"count": float64(s.Messages), "bytes": float64(s.Bytes), "packet_ins": float64(setup.PacketIns), "unanswered": float64(setup.Unanswered)}
	o := Outcome{Values: v, Detail: s, Summary: fmt.Sprintf("%d messages", s.Messages)}
	if setup.First.Count > 0 {
		v["setup"], v["setup_p99"], v["setup_max"] = time.Duration(setup.First.Median), time.Duration(setup.First.P99), time.Duration(setup.First.Max)
		o.Summary += ", flow setup " + FormatValue(Time, v["setup"]) + " in the median"
	}
	return o, nil
}
