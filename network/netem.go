package network

import (
	"errors"

	"weft/link"
	"weft/link/netem"
	"weft/link/wire"
	"weft/topo"
)

// firstNetemIndex is from where on netem's devices have their interface indices.
const firstNetemIndex = firstIndex + 1<<20

// netemCan says why this kernel cannot do what is asked of a link, nil if it can.
func (n *Network) netemCan(s topo.LinkSettings) error {
	if s.NeedsWire() {
		return errors.ErrUnsupported
	}
	f := n.netemFeatures()
	if err := netem.Supported(s.AB, f); err != nil {
		return err
	}
	return netem.Supported(s.BA, f)
}

// makeNetem makes a link that the kernel impairs.
func (n *Network) makeNetem(c link.Config, _ topo.PlannedLink) (link.Shaper, error) {
	if err := n.netemCan(c.Settings); err != nil {
		return nil, err
	}
	d, err := n.netemDriver()
	if err != nil {
		return nil, err
	}
	return d.Add(c)
}

// netemDriver returns the driver of all such links, which starts with the first.
func (n *Network) netemDriver() (*netem.Driver, error) {
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	if n.links.closed {
		return nil, wire.ErrClosed
	}
	if n.links.netem == nil {
		var err error
		if n.links.netem, err = netem.New(n.fabric, firstNetemIndex); err != nil {
			return nil, err
		}
	}
	return n.links.netem, nil
}
