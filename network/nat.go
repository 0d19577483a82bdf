package network

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"weft/internal/sandbox"
	"weft/topo"
)

// uplinkTimeout bounds the making of a gateway's way out.
const uplinkTimeout = 15 * time.Second

// openGateway gives a gateway host its way to the user's own network.
func (n *Network) openGateway(ctx context.Context, h topo.PlannedHost) error {
	ctx, cancel := context.WithTimeout(ctx, uplinkTimeout)
	defer cancel()
	n.mu.Lock()
	host := n.hosts[h.Name]
	n.mu.Unlock()
	up, err := n.env.Broker.Uplink(ctx, host.Net().FD(), h.NAT.Subnet)
	if err != nil {
		return fmt.Errorf("gateway %s: %w", h.Name, err)
	}
	n.mu.Lock()
	n.uplinks[h.Name] = up
	n.mu.Unlock()
	if err := n.writeResolver(up.DNS); err != nil {
		return fmt.Errorf("gateway %s: %w", h.Name, err)
	}
	return host.Masquerade(sandbox.UplinkDevice)
}

// Where a resolver on the machine itself keeps the servers that it asks.
const systemdResolv = "/run/systemd/resolve/resolv.conf"

// writeResolver writes the resolv.conf of hosts behind a gateway: with the uplink's own
// name server, or the user's, unless that is one on the machine's loopback interface.
func (n *Network) writeResolver(dns netip.Addr) error {
	conf := fmt.Appendf(nil, "nameserver %s\n", dns)
	if !dns.IsValid() {
		var err error
		if conf, err = os.ReadFile("/etc/resolv.conf"); err != nil {
			return nil // the user has none
		}
		if bytes.Contains(conf, []byte("nameserver 127.")) {
			if other, err := os.ReadFile(systemdResolv); err == nil {
				conf = other
			}
		}
	}
	return os.WriteFile(filepath.Join(n.etc(), "resolv.conf"), conf, 0o644)
}
