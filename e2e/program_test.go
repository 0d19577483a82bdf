package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program has two islands on which DPDK's testpmd carries packets: through AF_XDP where that is
// allowed, and through packet sockets.
const program = `
topology:
  controllers: none
  hosts: {h1: 10.1.0.1/16, h2: 10.1.0.2/16, h3: 10.2.0.1/16, h4: 10.2.0.2/16}
  dpdk:
    any:
      manager: dpdk
      command: dpdk-testpmd {eal} -- --auto-start --forward-mode=io --no-mlockall --total-num-mbufs=16384 --interactive
    packet:
      manager: dpdk
      portKind: packet
      command: dpdk-testpmd {eal} -- --auto-start --forward-mode=io --no-mlockall --total-num-mbufs=16384 --interactive
  links: [h1 -- any, any -- h2, h3 -- packet, packet -- h4]
steps:
  - ping: h1 -> h2
  - ping: h3 -> h4
  - iperf: {from: h3, to: h4, time: 500ms}
`

// Any DPDK program can be a node's manager, for an ordinary user too.
func TestDPDKProgram(t *testing.T) {
	if _, err := exec.LookPath("dpdk-testpmd"); err != nil {
		t.Skip("there is no dpdk-testpmd: apt-get install dpdk")
	}
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, nil)
		file := filepath.Join(dir, "program.yaml")
		if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
			t.Fatal(err)
		}
		weft(t, u, 0, "run", file)
	})
}

// Links of a DPDK program's come and go, and it is said that the program starts anew.
func TestDPDKProgramLinks(t *testing.T) {
	if _, err := exec.LookPath("dpdk-testpmd"); err != nil {
		t.Skip("there is no dpdk-testpmd: apt-get install dpdk")
	}
	eachUser(t, func(t *testing.T, u user) {
		file := filepath.Join(place(t, u, nil), "program.yaml")
		text := "controllers: none\nhosts: h1 h2 h3\ndpdk:\n  s1:\n    manager: dpdk\n    portKind: packet\n" +
			"    command: dpdk-testpmd {eal} -- --auto-start --forward-mode=io --no-mlockall --total-num-mbufs=16384\nlinks: [h1 -- s1, s1 -- h2]\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r := start(t, launch{user: u, prompt: true, args: []string{"--custom", file}})
		r.ready()
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		r.ask("add link h3 s1")
		r.expect("started anew, with 3 links")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		r.ask("del link h3 s1")
		r.expect("started anew, with 2 links")
		r.eventually("h1 ping -c 1 -W 1 h2", "1 received")
		r.in.Close()
		r.wait() // 1, if a ping was lost
		r.gone()
	})
}
