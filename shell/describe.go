package shell

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"

	"weft/network"
	"weft/topo"
)

// Descriptions for people of what weft inspect shows.

// WriteNetwork describes a network as a whole.
func WriteNetwork(w io.Writer, st network.State) {
	networkView(st).native(w)
	fmt.Fprintln(w)
	netView(st).native(w)
}

// WriteLinkDetail says all of links.
func WriteLinkDetail(w io.Writer, links []network.LinkState) { linkView(links).native(w) }

// WriteNode says all of a node.
func WriteNode(w io.Writer, n network.NodeState) {
	t := table(w)
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	var interfaces []topo.Interface
	var connections []network.ControlConnection
	switch {
	case n.Host != nil:
		h := n.Host
		field("host", h.Name)
		field("default route", validText(h.DefaultRoute))
		field("private", strings.Join(h.PrivateDirs, " "))
		if h.NAT != nil {
			field("gateway for", validText(h.NAT.Subnet))
		}
		field("shell", pidText(h.PID))
		field("programs", joinPIDs(h.Programs))
		interfaces = h.Interfaces
	case n.Switch != nil:
		s := n.Switch
		field("switch", s.Name)
		field("driver", string(s.Driver))
		field("datapath", string(s.InForce))
		if s.DPID != 0 {
			field("DPID", fmt.Sprintf("%016x", s.DPID))
		}
		field("protocols", strings.Join(s.Protocols, " "))
		field("fail mode", s.FailMode)
		field("state", map[bool]string{true: "running", false: "stopped"}[s.Running])
		interfaces, connections = s.Interfaces, s.Connections
	case n.Controller != nil:
		c := n.Controller
		field("controller", c.Name)
		field("kind", string(c.Kind))
		field("address", c.Listening)
		if c.Listening == "" && c.Port != 0 {
			field("address", net.JoinHostPort(c.Address, strconv.Itoa(c.Port)))
		}
		field("command", c.Command)
		if c.PID != 0 {
			field("PID", strconv.Itoa(c.PID))
		}
		connections = c.Connections
	}
	t.Flush()
	writeInterfaces(w, interfaces)
	writeConnections(w, connections)
}

func joinPIDs(pids []int) string {
	var words []string
	for _, p := range pids {
		words = append(words, strconv.Itoa(p))
	}
	return strings.Join(words, " ")
}

func writeInterfaces(w io.Writer, list []topo.Interface) {
	if len(list) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\nINTERFACE\tPORT\tMAC\tADDRESSES\n")
	for _, i := range list {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", i.Name, i.Port, i.MAC, dash(strings.TrimSpace(validText(i.IP)+" "+validText(i.IP6))))
	}
	t.Flush()
}

func writeConnections(w io.Writer, list []network.ControlConnection) {
	if len(list) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\nSWITCH\tCONTROLLER\tSTATUS\n")
	for _, c := range list {
		status := "not connected: " + c.Reason
		if c.Connected {
			status = "connected, OpenFlow " + c.Version
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", c.Switch, c.Controller, status)
	}
	t.Flush()
}
