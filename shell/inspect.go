package shell

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"weft/network"
)

// runInspect describes the network, or one node of it.
func runInspect(ctx context.Context, c *call) error {
	if len(c.args) > 1 {
		return c.misuse("usage: inspect [node]")
	}
	st, err := c.state(ctx)
	if err != nil {
		return err
	}
	if len(c.args) == 0 {
		c.show(networkView(st))
		return nil
	}
	name := c.args[0]
	if err := wantNode(nodeNames(st.Plan), "node", name); err != nil {
		return err
	}
	// All that is known of a node is what is planned and what is so now.
	type both struct {
		Plan any `json:"plan"`
		Now  any `json:"now,omitempty"`
	}
	var b both
	if p := st.Plan.Host(name); p != nil {
		b = both{p, named(st.Hosts, name, func(h network.HostState) string { return h.Name })}
	} else if p := st.Plan.Switch(name); p != nil {
		b = both{p, named(st.Switches, name, func(s network.SwitchState) string { return s.Name })}
	} else {
		b = both{st.Plan.Controller(name), named(st.Controllers, name, func(k network.ControllerState) string { return k.Name })}
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot show %s: %w", name, err)
	}
	c.show(view{value: b, native: func(w io.Writer) { fmt.Fprintf(w, "%s\n", text) }})
	return nil
}

// named returns the element of list that is called name, or nil.
func named[T any](list []T, name string, nameOf func(T) string) any {
	if i := slices.IndexFunc(list, func(v T) bool { return nameOf(v) == name }); i >= 0 {
		return list[i]
	}
	return nil
}
