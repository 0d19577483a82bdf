package shell

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"weft/network"
	"weft/script"
	"weft/topo"
)

// A view is a result and how it reads. Without native text there is nothing to say;
// without Mininet's, ours is used there too.
type view struct {
	value   any
	mininet func(io.Writer)
	native  func(io.Writer)
}

// table returns a writer that aligns columns separated by tabs.
func table(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func nodesView(st network.State) view {
	p := st.Plan
	return view{
		value: struct {
			Hosts       []string `json:"hosts"`
			Switches    []string `json:"switches"`
			Controllers []string `json:"controllers"`
		}{hostNames(p), switchNames(p), controllerNames(p)},
		mininet: func(w io.Writer) {
			all := nodeNames(p)
			slices.Sort(all)
			fmt.Fprintf(w, "available nodes are: \n%s\n", strings.Join(all, " "))
		},
		native: func(w io.Writer) {
			t := table(w)
			fmt.Fprintf(t, "hosts\t%s\n", dash(strings.Join(hostNames(p), " ")))
			fmt.Fprintf(t, "switches\t%s\n", dash(strings.Join(switchNames(p), " ")))
			fmt.Fprintf(t, "controllers\t%s\n", dash(strings.Join(controllerNames(p), " ")))
			t.Flush()
		},
	}
}

// An attachment is an interface and what is at the other end of its link.
type attachment struct {
	Interface string          `json:"interface"`
	Peer      topo.PlannedEnd `json:"peer"`
}

type nodeAttachments struct {
	Node        string       `json:"node"`
	Attachments []attachment `json:"interfaces"`
}

func netView(st network.State) view {
	p, far := st.Plan, peers(st.Plan)
	all := []nodeAttachments{}
	for _, n := range nodeNames(p) {
		na := nodeAttachments{Node: n, Attachments: []attachment{}}
		for _, i := range interfaces(p, n) {
			na.Attachments = append(na.Attachments, attachment{i.Name, far[topo.PlannedEnd{Node: n, Interface: i.Name}]})
		}
		all = append(all, na)
	}
	isSwitch := switchNames(p)
	return view{
		value: all,
		mininet: func(w io.Writer) {
			for _, n := range all {
				fmt.Fprint(w, n.Node)
				if slices.Contains(isSwitch, n.Node) {
					fmt.Fprint(w, " lo: ")
				}
				for _, a := range n.Attachments {
					fmt.Fprintf(w, " %s:%s", a.Interface, a.Peer.Interface)
				}
				fmt.Fprintln(w)
			}
		},
		native: func(w io.Writer) {
			t := table(w)
			fmt.Fprintf(t, "NODE\tINTERFACE\tTO\n")
			for _, n := range all {
				if len(n.Attachments) == 0 {
					fmt.Fprintf(t, "%s\t-\t-\n", n.Node)
				}
				for _, a := range n.Attachments {
					fmt.Fprintf(t, "%s\t%s\t%s\n", n.Node, a.Interface, dash(a.Peer.Interface))
				}
			}
			t.Flush()
		},
	}
}

// orEmpty makes JSON print [] rather than null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

type nodeInterfaces struct {
	Node       string           `json:"node"`
	Interfaces []topo.Interface `json:"interfaces"`
}

func interfacesOf(p *topo.Plan, nodes []string) []nodeInterfaces {
	all := []nodeInterfaces{}
	for _, n := range nodes {
		all = append(all, nodeInterfaces{n, orEmpty(interfaces(p, n))})
	}
	return all
}

func interfaceNames(ifs []topo.Interface) []string {
	return names(ifs, func(i topo.Interface) string { return i.Name })
}

func interfacesView(st network.State) view {
	all := interfacesOf(st.Plan, nodeNames(st.Plan))
	isSwitch := switchNames(st.Plan)
	return view{
		value: all,
		mininet: func(w io.Writer) {
			for _, n := range all {
				list := interfaceNames(n.Interfaces)
				if slices.Contains(isSwitch, n.Node) {
					list = append([]string{"lo"}, list...)
				}
				fmt.Fprintf(w, "%s: %s\n", n.Node, strings.Join(list, ","))
			}
		},
		native: func(w io.Writer) {
			t := table(w)
			fmt.Fprintf(t, "NODE\tINTERFACE\tMAC\tIPV4\tIPV6\n")
			for _, n := range all {
				for _, i := range n.Interfaces {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", n.Node, i.Name, dash(i.MAC), prefix(i.IP), prefix(i.IP6))
				}
			}
			t.Flush()
		},
	}
}

// prefix writes an address with its length, or "-".
func prefix(p interface {
	IsValid() bool
	String() string
}) string {
	if !p.IsValid() {
		return "-"
	}
	return p.String()
}

func portsView(st network.State) view {
	all := interfacesOf(st.Plan, switchNames(st.Plan))
	far := peers(st.Plan)
	return view{
		value: all,
		mininet: func(w io.Writer) {
			for _, s := range all {
				fmt.Fprintf(w, "%s lo:0 ", s.Node)
				for _, i := range s.Interfaces {
					fmt.Fprintf(w, "%s:%d ", i.Name, i.Port)
				}
				fmt.Fprintln(w)
			}
		},
		native: func(w io.Writer) {
			t := table(w)
			fmt.Fprintf(t, "SWITCH\tPORT\tINTERFACE\tTO\n")
			for _, s := range all {
				for _, i := range s.Interfaces {
					to := far[topo.PlannedEnd{Node: s.Node, Interface: i.Name}]
					fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", s.Node, i.Port, i.Name, dash(to.Interface))
				}
			}
			t.Flush()
		},
	}
}

func dumpView(st network.State) view {
	p, pid := st.Plan, script.PIDs(st)
	return view{
		value: st,
		mininet: func(w io.Writer) {
			for _, n := range nodeNames(p) {
				fmt.Fprintln(w, script.Represent(st, n))
			}
		},
		native: func(w io.Writer) {
			t := table(w)
			fmt.Fprintf(t, "NODE\tKIND\tADDRESSES\tPID\n")
			for _, h := range p.Hosts {
				fmt.Fprintf(t, "%s\thost\t%s\t%s\n", h.Name, dash(hostAddresses(h)), pidText(pid[h.Name]))
			}
			for _, s := range p.Switches {
				fmt.Fprintf(t, "%s\t%s switch\t%s\t%s\n", s.Name, s.Driver, dash(strings.Join(interfaceNames(s.Interfaces), " ")), pidText(pid[s.Name]))
			}
			for _, c := range p.Controllers {
				fmt.Fprintf(t, "%s\t%s controller\t%s\t%s\n", c.Name, c.Kind, dash(script.ControllerAddress(st, c)), pidText(pid[c.Name]))
			}
			t.Flush()
		},
	}
}

func pidText(pid int) string {
	if pid == 0 {
		return "-"
	}
	return fmt.Sprint(pid)
}

func hostAddresses(h topo.PlannedHost) string {
	var list []string
	for _, i := range h.Interfaces {
		if i.IP.IsValid() {
			list = append(list, i.IP.String())
		}
		if i.IP6.IsValid() {
			list = append(list, i.IP6.String())
		}
	}
	return strings.Join(list, " ")
}

func statusView(st network.State) view {
	all := []network.ControlConnection{}
	for _, s := range st.Switches {
		all = append(all, s.Connections...)
	}
	return view{value: all, native: func(w io.Writer) {
		t := table(w)
		fmt.Fprintf(t, "SWITCH\tCONTROLLER\tSTATUS\n")
		for _, s := range st.Switches {
			switch {
			case !s.Running:
				fmt.Fprintf(t, "%s\t-\tstopped\n", s.Name)
			case len(s.Connections) == 0:
				fmt.Fprintf(t, "%s\t-\thas no controller\n", s.Name)
			default:
				for _, c := range s.Connections {
					fmt.Fprintf(t, "%s\t%s\t%s\n", s.Name, c.Controller, connectionStatus(c))
				}
			}
		}
		t.Flush()
	}}
}

func connectionStatus(c network.ControlConnection) string {
	switch {
	case c.Connected && c.Version != "":
		return "connected, OpenFlow " + c.Version
	case c.Connected:
		return "connected"
	case c.Reason != "":
		return "not connected: " + c.Reason
	}
	return "not connected"
}

func controllersView(st network.State) view {
	return view{value: orEmpty(st.Controllers), native: func(w io.Writer) {
		t := table(w)
		fmt.Fprintf(t, "CONTROLLER\tKIND\tADDRESS\tPID\tSWITCHES\n")
		for _, c := range st.Plan.Controllers {
			connected, of := 0, 0
			for _, s := range st.Switches {
				for _, conn := range s.Connections {
					if conn.Controller != c.Name {
						continue
					}
					if of++; conn.Connected {
						connected++
					}
				}
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d of %d connected\n", c.Name, c.Kind, dash(script.ControllerAddress(st, c)), pidText(script.PIDs(st)[c.Name]), connected, of)
		}
		t.Flush()
	}}
}

// networkView describes the network as a whole.
func networkView(st network.State) view {
	return view{value: st, native: func(w io.Writer) {
		p := st.Plan
		t := table(w)
		fmt.Fprintf(t, "network\t%s\n", dash(st.Name))
		fmt.Fprintf(t, "started\t%s\n", st.Started.Format(time.DateTime))
		fmt.Fprintf(t, "nodes\t%s, %s, %s\n", plural(len(p.Hosts), "host", "hosts"), plural(len(p.Switches), "switch", "switches"), plural(len(p.Controllers), "controller", "controllers"))
		fmt.Fprintf(t, "links\t%d\n", len(p.Links))
		fmt.Fprintf(t, "datapath\t%s\n", dash(string(st.Datapath)))
		privilege := "root"
		if st.Rootless {
			privilege = "none: in a user namespace"
		}
		fmt.Fprintf(t, "privilege\t%s\n", privilege)
		t.Flush()
	}}
}

// pingView shows pings between hosts, which are the rows of the matrix.
func pingView(r network.PingResult, hosts []string, full bool) view {
	rows := func(w io.Writer, end string) {
		for _, src := range hosts {
			cells := []string{src, "->"}
			for _, p := range r.Pairs {
				switch {
				case p.Src != src:
				case p.Received > 0:
					cells = append(cells, p.Dst)
				default:
					cells = append(cells, "X")
				}
			}
			if len(cells) > 2 || len(hosts) == 1 {
				fmt.Fprint(w, strings.Join(cells, " "), end)
			}
		}
	}
	return view{
		value: r,
		mininet: func(w io.Writer) {
			rows(w, " \n")
			switch {
			case full:
				fmt.Fprint(w, "*** Results: \n")
				for _, p := range r.Pairs {
					s := script.SpreadOf(p.RTT)
					fmt.Fprintf(w, " %s->%s: %d/%d, rtt min/avg/max/mdev %s ms\n", p.Src, p.Dst, p.Sent, p.Received, s)
				}
			case r.Sent == 0:
				fmt.Fprint(w, "*** Warning: No packets sent\n")
			default:
				fmt.Fprintf(w, "*** Results: %d%% dropped (%d/%d received)\n", 100*r.Lost()/r.Sent, r.Received, r.Sent)
			}
		},
		native: func(w io.Writer) {
			if full {
				t := table(w)
				fmt.Fprintf(t, "FROM\tTO\tADDRESS\tRECEIVED\tRETRIES\tRTT MIN/AVG/MAX/MDEV\n")
				for _, p := range r.Pairs {
					addr, rtt := "-", "-"
					if p.DstIP.IsValid() {
						addr = p.DstIP.String()
					}
					if len(p.RTT) > 0 {
						rtt = script.SpreadOf(p.RTT).String() + " ms"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%d of %d\t%d\t%s\n", p.Src, p.Dst, addr, p.Received, p.Sent, p.Retries, rtt)
				}
				t.Flush()
			} else {
				rows(w, "\n")
			}
			for _, p := range r.Pairs {
				if p.Error != "" {
					fmt.Fprintf(w, "%s cannot ping %s: %s\n", p.Src, p.Dst, p.Error)
				}
			}
			fmt.Fprintln(w, pingSummary(r))
		},
	}
}

// pingSummary is the last line: lost echoes and retries are never left out.
func pingSummary(r network.PingResult) string {
	if r.Sent == 0 {
		return "nothing was sent"
	}
	text := fmt.Sprintf("%d of %d received", r.Received, r.Sent)
	if lost := r.Lost(); lost > 0 {
		text += fmt.Sprintf(", %d lost (%.3g%%)", lost, 100*float64(lost)/float64(r.Sent))
	}
	retries := 0
	for _, p := range r.Pairs {
		retries += p.Retries
	}
	if retries > 0 {
		text += ", " + plural(retries, "retry", "retries")
	}
	return text + fmt.Sprintf(", %.3f s", r.Duration.Seconds())
}

// iperfView shows a measurement; asked is the UDP rate as the user wrote it.
func iperfView(r network.IperfResult, asked string) view {
	return view{
		value: r,
		mininet: func(w io.Writer) {
			list := []string{script.Rate(r.ServerBps), script.Rate(r.ClientBps)}
			if r.UDP {
				list = append([]string{asked}, list...)
			}
			fmt.Fprintf(w, "*** Results: ['%s']\n", strings.Join(list, "', '"))
		},
		native: func(w io.Writer) {
			rate, p := script.Scaled(r.ServerBps)
			sent, q := script.Scaled(r.ClientBps)
			size, b := script.Scaled(float64(r.Bytes))
			proto, detail := "TCP", plural(int(r.Retransmits), "retransmission", "retransmissions")
			if r.UDP {
				lost := 0.0
				if r.Sent > 0 {
					lost = 100 * float64(r.LostPackets) / float64(r.Sent)
				}
				proto, detail = "UDP", fmt.Sprintf("%d of %d datagrams lost (%.3g%%), %d out of order, jitter %.3f ms",
					r.LostPackets, r.Sent, lost, r.OutOfOrder, float64(r.Jitter)/float64(time.Millisecond))
			}
			fmt.Fprintf(w, "%s -> %s  %s  %.3g %sbit/s received, %.3g %sbit/s sent\n", r.Client, r.Server, proto, rate, p, sent, q)
			fmt.Fprintf(w, "%.3g %sB in %.1f s, %s\n", size, b, r.Duration.Seconds(), detail)
		},
	}
}

func waitView(switches []string, missing []network.ControlConnection, timeout time.Duration) view {
	waiting := func(sw string) bool {
		return slices.ContainsFunc(missing, func(c network.ControlConnection) bool { return c.Switch == sw })
	}
	return view{
		value: struct {
			Missing []network.ControlConnection `json:"missing"`
		}{orEmpty(missing)},
		mininet: func(w io.Writer) {
			for _, sw := range switches {
				if !waiting(sw) {
					fmt.Fprintf(w, "%s ", sw)
				}
			}
			if len(missing) == 0 {
				fmt.Fprintln(w)
				return
			}
			fmt.Fprintf(w, "Timed out after %d seconds\n", int(timeout.Seconds()))
			for _, sw := range switches {
				if waiting(sw) {
					fmt.Fprintf(w, "Warning: %s is not connected to a controller\n", sw)
				}
			}
		},
		native: func(w io.Writer) {
			if len(missing) == 0 {
				fmt.Fprintf(w, "%s connected\n", plural(len(switches), "switch", "switches"))
			}
			for _, c := range missing {
				fmt.Fprintf(w, "%s and %s: %s after %s\n", c.Switch, c.Controller, connectionStatus(c), timeout)
			}
		},
	}
}

func addedHostView(h topo.PlannedHost) view {
	return view{value: h, native: func(w io.Writer) {
		fmt.Fprintln(w, strings.TrimSpace("added host "+h.Name+" "+hostAddresses(h)))
	}}
}

func addedSwitchView(s topo.PlannedSwitch) view {
	return view{value: s, native: func(w io.Writer) {
		fmt.Fprintf(w, "added switch %s, datapath ID %016x\n", s.Name, s.DPID)
	}}
}

func addedLinkView(l topo.PlannedLink) view {
	return view{value: l, native: func(w io.Writer) {
		fmt.Fprintf(w, "added link %s - %s\n", l.A.Interface, l.B.Interface)
	}}
}
