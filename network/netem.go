package network

import (
	"errors"

	"weft/link"
	"weft/topo"
)

func netemCan(topo.LinkSettings) error { return errors.New("not yet") }

func (n *Network) makeNetem(c link.Config, _ topo.PlannedLink) (link.Shaper, error) {
	return nil, netemCan(c.Settings)
}
