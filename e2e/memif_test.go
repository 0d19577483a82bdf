package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// memifLab has shared memory between two managers of weft's, and between one and a DPDK program;
// either side of the latter dies and comes back.
const memifLab = `
topology:
  controllers: none
  hosts:
    h1: 10.1.0.1/16
    h2: 10.1.0.2/16
    h3: 10.2.0.1/16
    h4: 10.2.0.2/16
  dpdk:
    nf1: bridge
    nf2: bridge
    nf3: bridge
    nf4: {manager: dpdk, portKind: packet, command: "dpdk-testpmd {eal} -- --auto-start --no-mlockall --total-num-mbufs=4096"}
  links:
    - h1 -- nf1
    - nf1 -- nf2: {driver: memif}
    - nf2 -- h2
    - h3 -- nf3
    - nf3 -- nf4: {driver: memif}
    - nf4 -- h4
steps:
  - ping: h1 -> h2
  - iperf: {from: h1, to: h2, time: 500ms}
  - ping: h3 -> h4
  - exec: nf4 pkill -9 -x dpdk-testpmd
  - ping: h3 -> h4
    within: 60s
  - exec: nf1 pkill -9 -f nf-manager
  - ping: h1 -> h2
    within: 60s
  - ping: h3 -> h4
    within: 60s
`

// Managers share memory, find each other again, and hosts ping across.
func TestMemifLinks(t *testing.T) {
	need(t, "dpdk-testpmd")
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"memif.yaml": memifLab})
		r := start(t, launch{user: u, args: []string{"run", filepath.Join(dir, "memif.yaml"), "--allow", "--out", filepath.Join(dir, "out")}})
		if code := r.wait(); code != 0 {
			t.Errorf("exit status %d\n%s", code, r.transcript())
		}
	})
}

// What a link without devices cannot do is refused, and such a link comes and goes.
func TestMemifLink(t *testing.T) {
	eachUser(t, func(t *testing.T, u user) {
		r := start(t, launch{user: u, prompt: true, args: []string{"--switch", "dpdk", "--topo", "linear,2", "--link", "memif"}})
		r.ready()
		has(t, r.ask("h1 ping -c 3 -i 0.1 h2"), "3 received")
		has(t, r.ask("links"), "up      memif   4 (")
		for _, line := range []string{"link s1 s2 down", "link cut s1-s2", "link set s1-s2 delay=5ms", "partition {h1,s1}|{h2,s2}", "capture s1-s2 /dev/null"} {
			has(t, r.ask("%s", line), "error: ", "memif")
		}
		has(t, r.ask("h1 ping -c 1 h2"), "1 received")
		r.ask("del link s1 s2")
		has(t, r.ask("h1 ping -c 1 -W 1 h2"), "0 received")
		r.ask("add link s1 s2 driver=memif")
		has(t, r.ask("h1 ping -c 1 -W 5 h2"), "1 received")
		r.finish(1) // of what was refused
	})
}

// A program outside speaks memif with a node, as server and as client.
func TestMemifOutside(t *testing.T) {
	need(t, "dpdk-testpmd")
	eachUser(t, func(t *testing.T, u user) {
		dir := place(t, u, map[string]string{"lab.yaml": ""})
		text := strings.ReplaceAll(`
hosts: h1 h2
dpdk: {nf1: bridge, nf2: bridge}
links:
  - h1 -- nf1
  - nf1 -- memif:DIR/a?id=3&secret=xyzzy
  - nf2 -- memif:DIR/b?id=4&role=server
  - nf2 -- h2
`, "DIR", dir)
		file := filepath.Join(dir, "lab.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		has(t, weft(t, u, 2, "up", file), "program outside", "--allow")
		r := up(t, u, file, "--allow")
		program := exec.Command("dpdk-testpmd", "--no-huge", "-m", "64", "--no-pci", "--file-prefix", "outside", "--lcores", "0@0,1@0",
			"--vdev", "net_memif0,role=server,id=3,secret=xyzzy,socket-abstract=no,socket="+dir+"/a",
			"--vdev", "net_memif1,role=client,id=4,socket-abstract=no,socket="+dir+"/b",
			"--", "--forward-mode=io", "--no-mlockall", "--total-num-mbufs=8192", "--interactive")
		program.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir)
		program.SysProcAttr = &syscall.SysProcAttr{}
		if os.Geteuid() == 0 && !u.root() {
			program.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
		}
		var said bytes.Buffer
		program.Stdout, program.Stderr = &said, &said
		in, err := program.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			program.Process.Kill()
			program.Wait()
			if t.Failed() {
				t.Log(said.String())
			}
		}()
		io.WriteString(in, "start\n")
		var answer string
		if !until(mostReady, func() bool {
			ping := r.exec(nil, "h1", "--", "ping", "-c1", "-W1", "10.0.0.2")
			ping.wait()
			answer = ping.out()
			return strings.Contains(answer, "1 received")
		}) {
			t.Errorf("no ping through a program outside:\n%s", answer)
		}
		r.also(0, "down")
		r.gone()
	})
}
