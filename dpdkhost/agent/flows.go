package agent

import (
	"fmt"
	"slices"
	"time"

	"weft/control"
	"weft/dpdkhost/manager"
)

// Ports with a meaning of their own, as in 1.3; those of 1.0 have 16 bits.
const (
	portInPort     = 0xfffffff8
	portTable      = 0xfffffff9
	portNormal     = 0xfffffffa // what the switch does without OpenFlow: its chains
	portFlood      = 0xfffffffb
	portAll        = 0xfffffffc
	portController = control.PortController
	portAny        = control.PortAny
)

// output returns what an output to a port means, and whether the port is one that packets can be
// sent to.
func (a *Agent) output(port uint32) (v manager.Verdict, ok bool) {
	switch {
	case port == portInPort:
		return manager.Verdict{Back: true}, true
	case port == portNormal:
		v.Chain = manager.DefaultChain
		return v, a.hasChain(v.Chain)
	case port == portFlood, port == portAll:
		return manager.Verdict{Flood: true}, true
	case port == portController:
		return manager.Verdict{Controller: true}, true
	case port > manager.ServicePort && port <= manager.ServicePort+manager.MaxService:
		return manager.Verdict{Service: uint16(port - manager.ServicePort)}, true
	case port > 0 && port < manager.ServicePort:
		return manager.Verdict{Port: uint16(port)}, true
	}
	return v, false
}

// hasChain reports whether there is a chain.
func (a *Agent) hasChain(name string) bool {
	s, err := a.Manager.Snapshot()
	return err == nil && slices.ContainsFunc(s.Chains, func(c manager.Chain) bool { return c.Name == name })
}

// portOf is the other way round; portAny for what is no port.
func portOf(v *manager.Verdict) uint32 {
	switch {
	case v.Chain != "":
		return portNormal
	case v.Service != 0:
		return manager.ServicePort + uint32(v.Service)
	case v.Port != 0:
		return uint32(v.Port)
	case v.Back:
		return portInPort
	case v.Flood:
		return portFlood
	case v.Controller:
		return portController
	}
	return portAny
}

// outputs returns the ports of a verdict.
func outputs(v *manager.Verdict) (ports []uint32) {
	for i := range v.And {
		ports = append(ports, portOf(&v.And[i]))
	}
	ports = append(ports, portOf(v))
	return slices.DeleteFunc(ports, func(p uint32) bool { return p == portAny })
}

func join(list []manager.Verdict) manager.Verdict {
	if len(list) == 0 {
		return manager.Verdict{}
	}
	last := list[len(list)-1]
	last.And = list[:len(list)-1]
	return last
}

// parseActions reads a list of actions, which may only be outputs. With table, an output may lead to the
// flow table.
func (c *conn) parseActions(b []byte, table bool) (v manager.Verdict, lookup bool, err error) {
	var list []manager.Verdict
	for len(b) > 0 {
		if len(b) < 8 || int(be.Uint16(b[2:])) < 8 || int(be.Uint16(b[2:])) > len(b) {
			return v, false, &refusal{errBadAction, 1, "an action longer than its message"}
		}
		n := int(be.Uint16(b[2:]))
		if kind := be.Uint16(b); kind != 0 {
			return v, false, &refusal{errBadAction, 0, fmt.Sprintf("action %d: NFs change packets, not flows", kind)}
		}
		port := uint32(0)
		if c.version == control.OpenFlow10 {
			if port = uint32(be.Uint16(b[4:])); port >= 0xff00 {
				port |= 0xffff0000
			}
		} else {
			port = be.Uint32(b[4:])
		}
		b = b[n:]
		if port == portTable && table {
			lookup = true
			continue
		}
		to, ok := c.output(port)
		if !ok {
			return v, false, &refusal{errBadAction, 4, fmt.Sprintf("an output to port %#x", port)}
		}
		list = append(list, to)
	}
	return join(list), lookup, nil
}

// parseInstructions reads instructions of 1.3. Actions that are written are done at the end of the
// only table: like those that are applied.
func (c *conn) parseInstructions(b []byte) (v manager.Verdict, err error) {
	const writeActions, applyActions, clearActions = 3, 4, 5
	var list []manager.Verdict
	for len(b) > 0 {
		if len(b) < 8 || int(be.Uint16(b[2:])) < 8 || int(be.Uint16(b[2:])) > len(b) {
			return v, &refusal{errBadInstruction, 6, "an instruction longer than its message"}
		}
		n := int(be.Uint16(b[2:]))
		switch kind := be.Uint16(b); kind {
		case writeActions, applyActions:
			some, _, err := c.parseActions(b[8:n], false)
			if err != nil {
				return v, err
			}
			if more := some.And; len(b[8:n]) > 0 {
				some.And = nil
				list = append(append(list, more...), some)
			}
		case clearActions:
		default:
			return v, &refusal{errBadInstruction, 1, fmt.Sprintf("instruction %d: there is one table, and no meter", kind)}
		}
		b = b[n:]
	}
	return join(list), nil
}

func (c *conn) packetOut(m control.Message) error {
	if err := c.slave(); err != nil {
		return err
	}
	fixed := 16
	if c.version != control.OpenFlow10 {
		fixed = 24
	}
	if len(m) < fixed {
		return errShort
	}
	if be.Uint32(m[8:]) != control.NoBuffer {
		return &refusal{errBadRequest, 8, "a buffered packet: nothing is buffered"}
	}
	var port uint32
	var n int
	if c.version == control.OpenFlow10 {
		if port, n = uint32(be.Uint16(m[12:])), int(be.Uint16(m[14:])); port >= 0xff00 {
			port = 0
		}
	} else if port, n = be.Uint32(m[12:]), int(be.Uint16(m[16:])); port > 0xffff {
		port = 0
	}
	if fixed+n > len(m) {
		return &refusal{errBadAction, 1, "actions longer than their message"}
	}
	v, lookup, err := c.parseActions(m[fixed:fixed+n], true)
	if err != nil {
		return err
	}
	return c.Manager.Inject(m[fixed+n:], uint16(port), v, lookup)
}

// A flowMod is a FLOW_MOD of either version.
type flowMod struct {
	manager.Flow
	command    uint8
	cookieMask uint64
	flags      uint16
	out        uint32 // only flows that lead there are deleted; portAny for all
}

// Commands (1.0: 5.3.3; 1.3: 7.3.4.1).
const (
	flowAdd = iota
	flowModify
	flowModifyStrict
	flowDelete
	flowDeleteStrict
)

// Flags.
const (
	flagNotify  = 1 << 0
	flagOverlap = 1 << 1
)

// flowModFailed picks an error's type and code: FLOW_MOD_FAILED is not the same in both versions.
func (c *conn) flowModFailed(code10, code13 uint16, why string) error {
	if c.version == control.OpenFlow10 {
		return &refusal{3, code10, why}
	}
	return &refusal{5, code13, why}
}

func (c *conn) parseFlowMod(m control.Message) (f flowMod, err error) {
	b := m.Body()
	if c.version == control.OpenFlow10 {
		if len(b) < 64 {
			return f, errShort
		}
		if f.Match, b, err = parseMatch(c.version, b); err != nil {
			return f, err
		}
		f.Cookie, f.command = be.Uint64(b), uint8(be.Uint16(b[8:]))
		f.times(be.Uint16(b[10:]), be.Uint16(b[12:]))
		f.Priority = be.Uint16(b[14:])
		if f.out = uint32(be.Uint16(b[20:])); f.out >= 0xff00 {
			f.out |= 0xffff0000
		}
		f.flags = be.Uint16(b[22:])
		if buffer := be.Uint32(b[16:]); buffer != control.NoBuffer && f.command < flowDelete {
			return f, &refusal{errBadRequest, 8, "a buffered packet: nothing is buffered"}
		}
		if f.flags&^(flagNotify|flagOverlap) != 0 {
			return f, c.flowModFailed(5, 0, "emergency flows")
		}
		f.Verdict, _, err = c.parseActions(b[24:], false)
		if f.exact() {
			f.Priority = 1<<16 - 1 // a match without wildcards is above all others (section 3.4)
		}
		return f, err
	}
	if len(b) < 48 {
		return f, errShort
	}
	f.Cookie, f.cookieMask = be.Uint64(b), be.Uint64(b[8:])
	table := b[16]
	f.command = b[17]
	f.times(be.Uint16(b[18:]), be.Uint16(b[20:]))
	f.Priority = be.Uint16(b[22:])
	buffer := be.Uint32(b[24:])
	f.out, f.flags = be.Uint32(b[28:]), be.Uint16(b[36:])
	group := be.Uint32(b[32:])
	deletes := f.command == flowDelete || f.command == flowDeleteStrict
	switch {
	case table != 0 && !(table == 0xff && deletes):
		return f, c.flowModFailed(0, 2, fmt.Sprintf("table %d: there is table 0", table))
	case buffer != control.NoBuffer && !deletes:
		return f, &refusal{errBadRequest, 8, "a buffered packet: nothing is buffered"}
	case group != portAny && deletes:
		f.out = 0 // there are no groups: nothing leads to one
	}
	if f.Match, b, err = parseMatch(c.version, b[40:]); err != nil {
		return f, err
	}
	f.Verdict, err = c.parseInstructions(b)
	return f, err
}

func (f *flowMod) times(idle, hard uint16) {
	f.Idle, f.Hard = time.Duration(idle)*time.Second, time.Duration(hard)*time.Second
}

// exact reports whether a match of 1.0 has no wildcards.
func (f *flowMod) exact() bool {
	for _, field := range fields10() {
		if _, mask := f.Get(field.field); mask == 0 && field.field != manager.VLANPrio {
			return false
		}
	}
	_, src := f.Address(manager.IPSrc, 4)
	_, dst := f.Address(manager.IPDst, 4)
	return be.Uint32(src) == 1<<32-1 && be.Uint32(dst) == 1<<32-1
}

func (c *conn) flowMod(m control.Message) error {
	if err := c.slave(); err != nil {
		return err
	}
	f, err := c.parseFlowMod(m)
	if err != nil {
		return err
	}
	f.Notify = f.flags&flagNotify != 0
	switch f.command {
	case flowAdd:
		return c.add(&f)
	case flowModify, flowModifyStrict:
		n, err := c.Manager.ChangeFlows(f.concerns, f.Verdict)
		if err == nil && n == 0 && c.version == control.OpenFlow10 {
			return c.add(&f) // section 3.4
		}
		return err
	case flowDelete, flowDeleteStrict:
		_, err := c.Manager.RemoveFlows(f.concerns)
		return err
	}
	return c.flowModFailed(4, 6, fmt.Sprintf("command %d", f.command))
}

func (c *conn) add(f *flowMod) error {
	if f.flags&flagOverlap != 0 {
		overlaps := false
		flows, _, err := c.Manager.Flows()
		if err != nil {
			return err
		}
		for i := range flows {
			o := &flows[i]
			overlaps = overlaps || o.Priority == f.Priority && o.Match != f.Match && o.Overlaps(&f.Match)
		}
		if overlaps {
			return c.flowModFailed(1, 3, "a flow of the same priority overlaps it")
		}
	}
	if err := c.Manager.AddFlow(f.Flow); err != nil {
		return c.flowModFailed(0, 1, err.Error())
	}
	return nil
}

// concerns reports whether a flow is one that the FLOW_MOD is about.
func (f *flowMod) concerns(o *manager.Flow) bool {
	strict := f.command == flowModifyStrict || f.command == flowDeleteStrict
	deletes := f.command == flowDelete || f.command == flowDeleteStrict
	switch {
	case strict && (o.Match != f.Match || o.Priority != f.Priority):
		return false
	case !strict && !f.Covers(&o.Match):
		return false
	case (o.Cookie^f.Cookie)&f.cookieMask != 0:
		return false
	}
	return !deletes || f.out == portAny || slices.Contains(outputs(&o.Verdict), f.out)
}
