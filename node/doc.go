// Package node realises one node of a topo.Plan: a host (network namespace), a
// switch (Open vSwitch or Linux bridge), a NAT gateway, a controller process; and
// runs programs on it. It speaks of namespaces and interface names, never of links.
package node
