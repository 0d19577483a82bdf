package ovs

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/digitalocean/go-openvswitch/ovsdb"
	"golang.org/x/sys/unix"
)

// Datapath types.
const (
	DatapathKernel = "system"
	DatapathUser   = "netdev"
	DatapathDummy  = "dummy" // DatapathUser without devices for local ports
)

// A Bridge is a switch of the instance.
type Bridge struct {
	Name      string // kernel name of its local port
	DPID      uint64
	Protocols []string // OpenFlow10 …; empty for the default
	FailMode  string   // secure, standalone
	// Datapath is the type in Open vSwitch's words: one of the Datapath constants.
	Datapath string
	STP      bool
	Ports    []Port
	// Controllers are targets as in ovs-vsctl(8).
	Controllers []string
}

// A Port is a bridge's port.
type Port struct {
	Name   string // of the device
	Number int    // OpenFlow port number
	// Type is Open vSwitch's: "" for a device that exists, "patch", "afxdp".
	Type string
	Peer string // the other port of a patch
	MAC  string // for patch ports; devices have their own
}

// AddBridges makes bridges with their ports in one transaction, and waits until they
// forward.
func (i *Instance) AddBridges(ctx context.Context, bridges ...Bridge) error {
	var b builder
	for _, br := range bridges {
		if br.Datapath == DatapathKernel {
			if err := awaitClock(ctx); err != nil {
				return err
			}
		}
		b.bridge(br)
	}
	return i.commit(ctx, &b)
}

// awaitClock waits until the machine has been up for 10 s. Before, Open vSwitch (3.1, and
// all others whose lib/ovs-thread.c has COUNT_CPU_UPDATE_TIME_MS) counts no processors; it
// starts a thread for each that takes packets from the kernel datapath, and without them
// every packet that has no flow yet is lost.
func awaitClock(ctx context.Context) error {
	const counts = 10 * time.Second
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &up); err != nil {
		return fmt.Errorf("monotonic clock: %w", err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(counts - time.Duration(up.Nano())):
		return nil
	}
}

// DeleteBridges removes bridges with their ports.
func (i *Instance) DeleteBridges(ctx context.Context, names ...string) error {
	ids, err := i.ids(ctx, "Bridge", names...)
	if err != nil {
		return err
	}
	var b builder
	for _, id := range ids {
		b.ops = append(b.ops, mutate{Table: "Open_vSwitch", Mutations: []cond{{"bridges", "delete", uuid(id)}}})
	}
	return i.commit(ctx, &b)
}

// AddPorts adds ports to bridges, of which each may be named by several. The ends of a
// patch must come together.
func (i *Instance) AddPorts(ctx context.Context, bridges ...Bridge) error {
	var b builder
	for _, br := range bridges {
		for _, p := range br.Ports {
			ref := b.port(p)
			b.ops = append(b.ops, mutate{Table: "Bridge", Where: []cond{{"name", "==", br.Name}},
				Mutations: []cond{{"ports", "insert", ref}}})
		}
	}
	return i.commit(ctx, &b)
}

// DeletePorts removes ports, of which only the names count, from bridges, of which each may be
// named by several.
func (i *Instance) DeletePorts(ctx context.Context, bridges ...Bridge) error {
	var b builder
	for _, br := range bridges {
		for _, p := range br.Ports {
			ids, err := i.ids(ctx, "Port", p.Name)
			if err != nil {
				return err
			}
			b.ops = append(b.ops, mutate{Table: "Bridge", Where: []cond{{"name", "==", br.Name}},
				Mutations: []cond{{"ports", "delete", uuid(ids[0])}}})
		}
	}
	return i.commit(ctx, &b)
}

// SetControllers gives a bridge other controllers; connections to those that stay go on.
func (i *Instance) SetControllers(ctx context.Context, bridge string, targets ...string) error {
	var b builder
	refs := b.controllers(targets)
	b.ops = append(b.ops, update{Table: "Bridge", Where: []cond{{"name", "==", bridge}}, Row: row{"controller": refs}})
	return i.commit(ctx, &b)
}

// ids returns the UUIDs of the rows of table that have these names, in their order.
func (i *Instance) ids(ctx context.Context, table string, names ...string) ([]string, error) {
	i.mu.Lock()
	db := i.db
	i.mu.Unlock()
	var ids []string
	for _, name := range names {
		rows, err := db.Transact(ctx, database, []ovsdb.TransactOp{
			query{Table: table, Where: []cond{{"name", "==", name}}, Columns: []string{"_uuid"}}})
		if err != nil {
			return nil, fmt.Errorf("switch database: %w", err)
		}
		if len(rows) != 1 {
			return nil, fmt.Errorf("Open vSwitch has no %s %q", table, name)
		}
		ids = append(ids, rowID(rows[0]["_uuid"]))
	}
	return ids, nil
}

// A builder gathers the operations of one transaction.
type builder struct {
	ops   []ovsdb.TransactOp
	next  int
	ports []string // added
}

func (b *builder) insert(table string, r row) any {
	b.next++
	name := "r" + strconv.Itoa(b.next)
	b.ops = append(b.ops, insert{Table: table, Row: r, As: name})
	return named(name)
}

func (b *builder) port(p Port) any {
	b.ports = append(b.ports, p.Name)
	iface := row{"name": p.Name, "ofport_request": p.Number}
	if p.Type != "" {
		iface["type"] = p.Type
	}
	if p.Peer != "" {
		iface["options"] = dict(map[string]string{"peer": p.Peer})
	}
	if p.MAC != "" {
		iface["mac"] = p.MAC
	}
	return b.insert("Port", row{"name": p.Name, "interfaces": b.insert("Interface", iface)})
}

func (b *builder) controllers(targets []string) any {
	refs := []any{}
	for _, t := range targets {
		refs = append(refs, b.insert("Controller", row{
			"target": t, "connection_mode": "out-of-band", "max_backoff": 1000,
		}))
	}
	return set(refs)
}

func (b *builder) bridge(br Bridge) {
	b.ports = append(b.ports, br.Name)
	local := b.insert("Interface", row{"name": br.Name, "type": "internal"})
	ports := []any{b.insert("Port", row{"name": br.Name, "interfaces": local})}
	for _, p := range br.Ports {
		ports = append(ports, b.port(p))
	}
	dpid := fmt.Sprintf("%016x", br.DPID)
	r := row{
		"name": br.Name, "ports": set(ports), "fail_mode": br.FailMode,
		"datapath_type": br.Datapath, "stp_enable": br.STP,
		"controller":   b.controllers(br.Controllers),
		"other_config": dict(map[string]string{"datapath-id": dpid, "disable-in-band": "true"}),
	}
	if len(br.Protocols) > 0 {
		r["protocols"] = set(br.Protocols)
	}
	b.ops = append(b.ops, mutate{Table: "Open_vSwitch",
		Mutations: []cond{{"bridges", "insert", b.insert("Bridge", r)}}})
}
