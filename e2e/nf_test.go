package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nfLab has an island for each NF that changes packets, and for one of a user's own.
const nfLab = `
topology:
  controllers: none
  hosts:
    h1: 10.1.0.1/16
    h2: 10.1.0.2/16
    h3: {ip: 10.2.1.2/24, defaultRoute: 10.2.1.1}
    h4: {ip: 10.2.2.2/24, defaultRoute: 10.2.2.1}
    h5: 10.3.0.1/16
    h6: 10.3.0.2/16
    h7: 10.4.0.1/16
    h8: 10.4.0.2/16
    h9: 10.5.0.1/16
    h10: 10.5.0.2/16
  dpdk:
    seal1: [encrypt --key KEY1 --port 1, decrypt --key KEY2 --port 2 --only, bridge]
    seal2: [decrypt --key KEY1 --port 1 --only, encrypt --key-file key2 --port 2, bridge]
    router: router --port 1=10.2.1.1/24 --port 2=10.2.2.1/24
    lb: balancer --vip 10.3.0.100 --server 10.3.0.2
    nat: nat --address 10.4.0.100
    own:
      nfs: [{name: mine, command: mine/mine}, bridge]
  links: [h1 -- seal1, seal1 -- seal2, seal2 -- h2, h3 -- router, router -- h4, h5 -- lb, lb -- h6, h7 -- nat, nat -- h8, h9 -- own, own -- h10]
steps:
  - ping: h1 -> h2
  - exec: h1 ping -c 1 -W 5 -M do -s 1472 10.1.0.2
    expect: {exit: not 0, output: contains mtu = 1463}
  - iperf: {from: h1, to: h2, time: 500ms}
  - ping: h3 -> h4
  - iperf: {from: h3, to: h4, time: 500ms}
  - exec: h3 ping -c 1 -W 5 -t 1 10.2.2.2
    expect: {exit: not 0, output: contains Time to live exceeded}
  - exec: h5 ping -c 1 -W 5 10.3.0.100
  - iperf: {from: h7, to: h8, time: 500ms}
  - exec: h8 ip neighbour show 10.4.0.100
    expect: {output: contains 02:00:0a:04:00:64}
  - ping: h9 -> h10
  - iperf: {from: h9, to: h10, time: 500ms}
`

// NFs change what hosts really send, with TCP in pieces as large as hosts like, and answers come
// back.
func TestNFs(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("there is no gcc here")
	}
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"key2": "200102030405060708090a0b0c0d0e0f10111213\n"})
		mine := filepath.Join(dir, "mine")
		weft(t, u, 0, "nf", "new", "--lang", "c", mine)
		if out, err := exec.Command("gcc", "-std=c99", "-O2", "-o", filepath.Join(mine, "mine"), filepath.Join(mine, "main.c")).CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		file := filepath.Join(dir, "nf.yaml")
		text := strings.NewReplacer("KEY1", "000102030405060708090a0b0c0d0e0f10111213", "KEY2", "200102030405060708090a0b0c0d0e0f10111213").Replace(nfLab)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r := start(t, launch{user: u, args: []string{"run", file, "--allow", "--out", filepath.Join(dir, "out")}})
		if code := r.wait(); code != 0 {
			t.Errorf("exit status %d\n%s", code, r.transcript())
		}
	})
}

// Files of NFs are found beside the topology's file; a stranger's programs change nothing; what
// cannot be shared is not; and what NFs write can be read.
func TestNFUse(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{
			"web.rules": "default drop\nallow icmp\n",
			"wait":      "#!/bin/sh\necho here: $PWD \"$@\"; touch made; exit 3\n",
			"lab.yaml":  "hosts: h1 h2\ndpdk: {nf1: firewall --rules web.rules → bridge}\nlinks: [h1 -- nf1, nf1 -- h2]\n",
			"own.yaml":  "hosts: h1 h2\ndpdk: {nf1: [{name: mine, command: 'sh ./wait \"$@\"', args: [a b, c]}, bridge]}\nlinks: [h1 -- nf1, nf1 -- h2]\n",
			"bad.yaml":  "hosts: h1\ndpdk: {nf1: firewall --rules none.rules}\nlinks: [h1 -- nf1]\n",
		})
		has(t, weft(t, u, 1, "validate", filepath.Join(dir, "bad.yaml")), "bad.yaml:2:13: nfs: firewall: --rules: none.rules: no such file or directory")

		r := up(t, u, filepath.Join(dir, "lab.yaml"), "--quiet")
		has(t, r.also(0, "exec", "h1", "--", "ping", "-c", "1", "-W", "5", "10.0.0.2"), "1 received")
		has(t, r.also(1, "nf", "start", "nat@3 --address 192.0.2.1", "--instances", "2"), "nat: service 3 would have 2 instances")
		has(t, r.also(0, "nf", "start", "nat@3", "--", "--address", "192.0.2.1"), "nat runs as instance 3 of service 3")
		has(t, r.also(1, "nf", "scale", "3", "2"), "answers would find the wrong one")
		has(t, r.also(1, "nf", "start", "firewall@4 --rule 'deny all'"), `"deny": the action is allow, drop or reject`)
		has(t, r.also(0, "nf", "start", "firewall@4 --rule 'allow tcp dport 80 keep'"), "service 4")
		has(t, r.also(0, "nf", "tell", "4", "rules"), "allow tcp dport 80 keep")
		has(t, r.also(1, "nf", "stop", "1"), "is the only instance of service 1, through which chain default leads (1→2)")
		has(t, r.also(0, "nf", "top", "--interval", "50ms"), "firewall", "PACKETS/S")
		has(t, r.also(0, "save"), "--rules "+filepath.Join(dir, "web.rules"))
		r.also(0, "down")

		// The program never becomes an NF, so the network does not come up; what it said is told.
		r = tryUp(t, u, nil, filepath.Join(dir, "own.yaml"), "--quiet")
		if code := r.wait(); code == 0 {
			t.Error("a program that is no NF counts as one")
		}
		has(t, r.err(), "here: "+dir+" a b c")
		if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
			t.Error("a program of an untrusted file wrote to its directory")
		}
	})
}
