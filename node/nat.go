package node

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Masquerade gives what a host forwards over device that device's address (nftables).
func (h *Host) Masquerade(device string) error {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return fmt.Errorf("gateway %s: %w", h.cfg.Name, errors.New("NAT needs nft: sudo apt-get install nftables"))
	}
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader(`add table ip weft
add chain ip weft post { type nat hook postrouting priority srcnat ; }
add rule ip weft post oifname "` + device + `" masquerade
`)
	var out []byte
	err = h.net.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("gateway %s: nft: %w: %s", h.cfg.Name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
