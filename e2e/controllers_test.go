package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testController is a command that runs a learning switch at {port}.
const testController = "exec ovs-testcontroller --unixctl=none -O OpenFlow13 ptcp:{port}"

// TestControllers runs controllers that weft starts.
func TestControllers(t *testing.T) {
	need(t, "ovs-testcontroller")
	for _, c := range []struct{ name, controller, switches string }{
		{"ovsc 1.0", "ovsc", "ovsk,protocols=OpenFlow10"},
		{"ovsc 1.3", "ovsc", "ovsk,protocols=OpenFlow13"},
		{"command outside", "cmd:" + testController, "ovsk"},
		{"command inside", "cmd,inside=1:" + testController, "ovsk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				weft(t, u, 0, "--topo", "tree,2,2", "--switch", c.switches, "--controller", c.controller, "--test", "pingall")
			})
		})
	}
	t.Run("several", func(t *testing.T) {
		t.Parallel()
		r := start(t, launch{user: ordinary(), prompt: true, args: []string{"--topo", "linear,2",
			"--controller", "ovsc", "--controller", "cmd:" + testController}})
		r.ready()
		has(t, r.ask("pingall"), "2 of 2 received")
		r.finish(0)
	})
	t.Run("ends at once", func(t *testing.T) {
		eachUser(t, func(t *testing.T, u user) {
			has(t, weft(t, u, 1, "--topo", "single,2", "--controller", "cmd:echo no way >&2; exit 3", "--test", "pingall"),
				"controller c0", "no way")
		})
	})
	t.Run("no such program", func(t *testing.T) {
		t.Parallel()
		has(t, weft(t, ordinary(), 1, "--topo", "single,2", "--controller", "cmd:nosuchprogram {port}", "--test", "pingall"),
			"controller c0", "nosuchprogram")
	})
	t.Run("dies in use", func(t *testing.T) {
		eachUser(t, func(t *testing.T, u user) {
			r := start(t, launch{user: u, prompt: true, args: []string{"--topo", "single,2", "--controller", "cmd:" + testController}})
			r.ready()
			r.kill("ovs-testcontroller")
			gone := until(mostReady, func() bool { return strings.Contains(r.ask("wait 0.2"), "s1 and c0: not connected") })
			if !gone {
				t.Errorf("the controller is dead, and nothing says so\n%s", r.transcript())
			}
			r.finish(1)
		})
	})
}

// TestRemoteControllers runs controllers that weft finds running.
func TestRemoteControllers(t *testing.T) {
	need(t, "ovs-testcontroller")
	run := func(t *testing.T, listen string) {
		cmd := exec.Command("ovs-testcontroller", append([]string{"--unixctl=none", "-O", "OpenFlow13"}, strings.Fields(listen)...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
	}
	port4, port6, portTLS := freePort(t, "127.0.0.1"), freePort(t, "::1"), freePort(t, "127.0.0.1")
	run(t, "ptcp:"+port4+":127.0.0.1")
	run(t, "ptcp:"+port6+":[::1]")
	keys := makeKeys(t)
	run(t, fmt.Sprintf("pssl:%s:127.0.0.1 --private-key=%s/key.pem --certificate=%[2]s/cert.pem --ca-cert=%[2]s/cert.pem", portTLS, keys))
	mutual := fmt.Sprintf("cacert=%s/cert.pem,cert=%[1]s/cert.pem,key=%[1]s/key.pem", keys)
	for _, c := range []struct{ name, controller string }{
		{"IPv4", "remote,127.0.0.1:" + port4},
		{"Mininet's way", "remote,ip=127.0.0.1,port=" + port4},
		{"tcp", "tcp:127.0.0.1:" + port4},
		{"name", "remote,localhost:" + port4},
		{"IPv6", "remote,[::1]:" + port6},
		{"TLS", "ssl:127.0.0.1:" + portTLS + "," + mutual},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachUser(t, func(t *testing.T, u user) {
				weft(t, u, 0, "--topo", "linear,2", "--controller", c.controller, "--test", "pingall")
			})
		})
	}
	t.Run("TLS by the wrong authority", func(t *testing.T) {
		t.Parallel()
		other := makeKeys(t)
		has(t, weft(t, ordinary(), 1, "--topo", "linear,2", "--twait", "2", "--test", "pingall", "--controller",
			fmt.Sprintf("ssl:127.0.0.1:%s,cacert=%s/cert.pem,cert=%s/cert.pem,key=%[3]s/key.pem", portTLS, other, keys)),
			"s1 is not connected to c0", "certificate")
	})
	t.Run("comes back", func(t *testing.T) {
		t.Parallel()
		address := "127.0.0.1:" + freePort(t, "127.0.0.1")
		port := address[strings.LastIndex(address, ":")+1:]
		r := start(t, launch{user: ordinary(), prompt: true, args: []string{"--topo", "single,2", "--controller", "remote," + address}})
		r.ready()
		has(t, r.ask("wait 0.2"), "not connected", "refused")
		for range 2 {
			cmd := exec.Command("ovs-testcontroller", "--unixctl=none", "-O", "OpenFlow13", "ptcp:"+port+":127.0.0.1")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if out := r.ask("wait 30"); strings.Contains(out, "not connected") {
				t.Errorf("the controller is there: %s", out)
			}
			if !until(mostReady, func() bool { return strings.Contains(r.ask("pingall"), "2 of 2 received") }) {
				t.Errorf("no ping with a controller that has come\n%s", r.transcript())
			}
			cmd.Process.Kill()
			cmd.Wait()
			if !until(mostReady, func() bool { return strings.Contains(r.ask("wait 0.2"), "not connected") }) {
				t.Errorf("the controller has gone, and nothing says so\n%s", r.transcript())
			}
		}
		r.finish(1)
	})
}

// TestOSKen runs os-ken's learning switch.
func TestOSKen(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	bin := osKen(t)
	app, err := os.ReadFile("testdata/learning.py")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(shared.dir, "learning.py")
	if err := os.WriteFile(file, app, 0o644); err != nil {
		t.Fatal(err)
	}
	me := user{"myself", os.Getuid(), os.Getgid()} // others cannot look into the cache
	r := start(t, launch{user: me, env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")},
		args: []string{"--topo", "tree,2,2", "--switch", "ovsk,protocols=OpenFlow13",
			"--controller", "osken," + file, "--test", "pingall"}})
	r.exits(0)
	none := start(t, launch{user: ordinary(), env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		args: []string{"--topo", "single,2", "--controller", "osken," + file, "--test", "pingall"}})
	none.exits(1)
	has(t, none.err(), "pip install os-ken")
}

// osKen returns the directory of programs of a Python environment with os-ken, which it
// makes if need be.
func osKen(t *testing.T) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err.Error())
	}
	venv := filepath.Join(cache, "weft-e2e", "os-ken")
	python := filepath.Join(venv, "bin", "python")
	if exec.Command(python, "-c", "import os_ken").Run() != nil {
		// Where the Internet is.
		script := fmt.Sprintf("python3 -m venv %q && %q -m pip install --quiet os-ken", venv, python)
		cmd := exec.Command("timeout", "60", "sh", "-c", script)
		if first := os.Getenv(envInside); first != "" {
			cmd = exec.Command("nsenter", append([]string{"-t", first, "-n"}, cmd.Args...)...)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skip("os-ken cannot be installed by pip: " + lastLine(string(out)))
		}
	}
	return filepath.Join(venv, "bin")
}

// osKenForAll returns an environment in which every user's python3 finds os-ken, until the test
// ends.
func osKenForAll(t *testing.T) []string {
	bin := osKen(t)
	env := func(bin string) []string {
		packages, err := filepath.Glob(filepath.Join(filepath.Dir(bin), "lib", "python3*", "site-packages"))
		if err != nil || len(packages) == 0 {
			t.Fatalf("no packages beside %s: %v", bin, err)
		}
		// The environment's own python3 may be a link to where only its maker can look.
		return []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "PYTHONPATH=" + packages[0]}
	}
	if os.Geteuid() != 0 {
		return env(bin)
	}
	dir, err := os.MkdirTemp(shared.dir, "os-ken-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		err = unix.Mount(filepath.Dir(bin), dir, "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return env(filepath.Join(dir, "bin"))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// freePort returns a port of an address at which nobody listens, and which the kernel gives to
// nobody who asks for any.
func freePort(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Skip("no " + address + ": " + err.Error())
	}
	l.Close()
	for {
		shared.mu.Lock()
		shared.ports++
		port := fmt.Sprint(20000 + shared.ports)
		shared.mu.Unlock()
		if l, err := net.Listen("tcp", net.JoinHostPort(address, port)); err == nil {
			l.Close()
			return port
		} else if shared.ports > 1000 {
			t.Fatal(err)
		}
	}
}

// makeKeys writes a certificate for 127.0.0.1, which signs itself, and its key into a
// directory that everybody can read.
func makeKeys(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(shared.dir, "keys-")
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
