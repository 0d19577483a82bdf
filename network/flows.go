package network

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// A Flow is an entry of a switch's flow table, as ovs-ofctl dump-flows prints it.
type Flow struct {
	Table    int     `json:"table"`
	Priority int     `json:"priority"`
	Match    string  `json:"match"` // empty: everything
	Actions  string  `json:"actions"`
	Cookie   string  `json:"cookie"`
	Age      float64 `json:"ageSeconds"`
	Idle     int     `json:"idleTimeout,omitempty"` // seconds; 0: never
	Hard     int     `json:"hardTimeout,omitempty"`
	Packets  uint64  `json:"packets"`
	Bytes    uint64  `json:"bytes"`
}

// ParseFlows reads the output of ovs-ofctl dump-flows; flows of high priority come first. Lines
// that are no flows, such as the reply's name, have no actions.
func ParseFlows(text string) []Flow {
	var flows []Flow
	for line := range strings.Lines(text) {
		if f, ok := parseFlow(strings.TrimSpace(line)); ok {
			flows = append(flows, f)
		}
	}
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Match, b.Match))
	})
	return flows
}

// parseFlow reads a line: "cookie=0x0, duration=1.5s, table=0, n_packets=1, n_bytes=42,
// priority=10,in_port=1 actions=output:2".
func parseFlow(line string) (Flow, bool) {
	head, actions, ok := strings.Cut(line, " actions=")
	if !ok {
		return Flow{}, false
	}
	f := Flow{Actions: actions, Priority: 32768} // what is not said
	var match []string
	for _, word := range strings.FieldsFunc(head, func(c rune) bool { return c == ',' || c == ' ' }) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "cookie":
			f.Cookie = value
		case "duration":
			f.Age, _ = strconv.ParseFloat(strings.TrimSuffix(value, "s"), 64)
		case "table":
			f.Table, _ = strconv.Atoi(value)
		case "n_packets":
			f.Packets, _ = strconv.ParseUint(value, 10, 64)
		case "n_bytes":
			f.Bytes, _ = strconv.ParseUint(value, 10, 64)
		case "idle_timeout":
			f.Idle, _ = strconv.Atoi(value)
		case "hard_timeout":
			f.Hard, _ = strconv.Atoi(value)
		case "priority":
			f.Priority, _ = strconv.Atoi(value)
		case "idle_age", "hard_age", "importance", "send_flow_rem", "reset_counts", "no_packet_counts", "no_byte_counts", "check_overlap":
		default:
			match = append(match, word)
		}
	}
	f.Match = strings.Join(match, ",")
	return f, true
}

// Flows returns the flow table of a switch.
func (n *Network) Flows(ctx context.Context, name string) ([]Flow, error) {
	n.mu.Lock()
	sw, running := n.plan.Switch(name), n.running[name]
	n.mu.Unlock()
	switch {
	case sw == nil:
		return nil, fmt.Errorf("no switch named %s", name)
	case sw.NoFlowTable() != nil:
		return nil, sw.NoFlowTable()
	case !running:
		return nil, fmt.Errorf("switch %s is stopped: it has no flow table", name)
	}
	args := []string{"--no-names", "dump-flows", sw.Device}
	if v := sw.OpenFlowVersions(); v != "" {
		args = append([]string{"-O", v}, args...)
	}
	cmd := exec.CommandContext(ctx, "ovs-ofctl", args...)
	cmd.Env = append(cmd.Environ(), n.programEnv()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("cannot read the flows of %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return append([]Flow{}, ParseFlows(string(out))...), nil
}
