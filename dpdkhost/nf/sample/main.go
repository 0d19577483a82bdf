// Command sample is a network function that counts packets and lets one UDP port be found by
// nobody. Change it to yours.
package main

import (
	"fmt"
	"strconv"

	"weft/dpdkhost/nf"
)

func main() { nf.RunFunction(&function{hidden: 9}) }

// A function has the NF's state. Its methods are called one at a time.
type function struct {
	hidden          uint16
	passed, dropped uint64
}

// Handle decides about packets.
func (f *function) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		h := p.Headers()
		if _, port := h.Ports(p.Data()); h.Protocol == nf.ProtocolUDP && h.HasPorts() && port == f.hidden {
			f.dropped++
			p.Drop()
			continue
		}
		f.passed++
		p.Next()
	}
}

// Counters is optional: what it shows is in weft's statistics.
func (f *function) Counters(show func(name string, value uint64)) {
	show("passed", f.passed)
	show("dropped", f.dropped)
}

// Command is optional: it does what words say.
func (f *function) Command(words []string) (string, error) {
	if len(words) != 2 || words[0] != "hide" {
		return "", fmt.Errorf("say: hide PORT")
	}
	port, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil {
		return "", fmt.Errorf("hide %s: no port", words[1])
	}
	f.hidden = uint16(port)
	return fmt.Sprintf("UDP port %d is hidden now\n", port), nil
}
