package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"weft/topo"
)

// listen opens the switch's port on the user's loopback interface, if it is to have one.
// What connects there talks to the management socket of the switch.
//
//	ovs-ofctl ─TCP─► broker's listener ─► engine ─Unix─► BRIDGE.mgmt
func (n *Network) listen(ctx context.Context, sw topo.PlannedSwitch) error {
	if sw.ListenPort == 0 {
		return nil
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(sw.ListenPort))
	l, err := n.env.Broker.ListenTCP(ctx, addr)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("switch %s cannot listen at %s: somebody else does; choose other ports", sw.Name, addr)
	}
	if err != nil {
		return fmt.Errorf("switch %s cannot listen at %s: %w", sw.Name, addr, err)
	}
	n.mu.Lock()
	n.listeners[sw.Name] = l
	n.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go n.manage(sw, conn)
		}
	}()
	return nil
}

// managementSocket returns the path of the socket at which ovs-ofctl finds a switch by its name:
// Open vSwitch has one for every bridge, and NF managers do as it does.
func (n *Network) managementSocket(sw topo.PlannedSwitch) string {
	return filepath.Join(n.ovsDir(), sw.Device+".mgmt")
}

// manage joins conn to a switch's management socket until either end closes.
func (n *Network) manage(sw topo.PlannedSwitch, conn net.Conn) {
	defer conn.Close()
	mgmt, err := net.Dial("unix", n.managementSocket(sw))
	if err != nil {
		n.env.Log.Warn("management connection", "switch", sw.Name, "error", err)
		return
	}
	defer mgmt.Close()
	go func() {
		io.Copy(mgmt, conn)
		mgmt.Close()
	}()
	io.Copy(conn, mgmt)
}

// unlisten closes the switch's port.
func (n *Network) unlisten(name string) error {
	n.mu.Lock()
	l := n.listeners[name]
	delete(n.listeners, name)
	n.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.Close()
}
