package script

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"weft/network"
	"weft/topo"
)

// Represent returns what Mininet calls the representation of a node: "<Host h1:
// h1-eth0:10.0.0.1 pid=3700> ", with the blank at its end. It is empty if there is no such
// node.
func Represent(st network.State, name string) string {
	p := st.Plan
	class, what := "", ""
	if h := p.Host(name); h != nil {
		class, what = "Host", strings.Join(addresses(h.Interfaces), ",")
		if h.NAT != nil {
			class = "NAT"
		}
	} else if s := p.Switch(name); s != nil {
		class, what = switchClass(s.Driver), strings.Join(append([]string{"lo:127.0.0.1"}, addresses(s.Interfaces)...), ",")
	} else if c := p.Controller(name); c != nil {
		class, what = controllerClass(c.Kind), ControllerAddress(st, *c)
		if what == "" {
			what = "127.0.0.1:6653" // where Mininet's always listens
		}
	} else {
		return ""
	}
	return fmt.Sprintf("<%s %s: %s pid=%d> ", class, name, what, PIDs(st)[name])
}

// addresses writes NAME:ADDRESS for each interface as Mininet does.
func addresses(ifs []topo.Interface) []string {
	var list []string
	for _, i := range ifs {
		text := i.Name + ":None"
		if i.IP.IsValid() {
			text = i.Name + ":" + i.IP.Addr().String()
		}
		list = append(list, text)
	}
	return list
}

func switchClass(d topo.SwitchDriver) string {
	switch d {
	case topo.DriverOVSBridge:
		return "OVSBridge"
	case topo.DriverLinux:
		return "LinuxBridge"
	}
	return "OVSSwitch"
}

func controllerClass(k topo.ControllerKind) string {
	switch k {
	case topo.ControllerRemote:
		return "RemoteController"
	case topo.ControllerOVS:
		return "OVSController"
	case topo.ControllerRyu:
		return "Ryu"
	}
	return "Controller"
}

// PIDs returns the process IDs of the nodes that have one.
func PIDs(st network.State) map[string]int {
	m := map[string]int{}
	for _, h := range st.Hosts {
		m[h.Name] = h.PID
	}
	for _, c := range st.Controllers {
		m[c.Name] = c.PID
	}
	return m
}

// ControllerAddress returns HOST:PORT of a controller, now or as planned; the built-in one may
// have none.
func ControllerAddress(st network.State, c topo.PlannedController) string {
	for _, now := range st.Controllers {
		if now.Name == c.Name && now.Address != "" {
			return now.Address
		}
	}
	if c.Address == "" || c.Port == 0 {
		return ""
	}
	return net.JoinHostPort(c.Address, strconv.Itoa(c.Port))
}

// Scaled returns a number with a decimal prefix: 33.3 and "G".
func Scaled(v float64) (float64, string) {
	for _, p := range []string{"", "k", "M", "G", "T"} {
		if v < 999.95 {
			return v, p
		}
		v /= 1000
	}
	return v, "P"
}

// Rate writes a rate in bit/s as Mininet does: "33.3 Gbits/sec".
func Rate(bps float64) string {
	v, p := Scaled(bps)
	return fmt.Sprintf("%.1f %sbits/sec", v, p)
}
