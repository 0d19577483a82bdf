package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"weft/dpdkhost"
	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
	"weft/topo"
)

// hostile is an NF that writes anything into all that it got and can write, for ever.
func hostile() {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: os.Getenv(nf.SocketVariable), Net: "unixpacket"})
	check(err)
	hello, err := json.Marshal(nf.Hello{Version: nf.Protocol, Key: os.Getenv(nf.KeyVariable), Fresh: 32})
	check(err)
	_, err = conn.Write(hello)
	check(err)
	buffer, control := make([]byte, messageSize), make([]byte, 256)
	n, oobn, _, _, err := conn.ReadMsgUnix(buffer, control)
	check(err)
	var w nf.Welcome
	check(json.Unmarshal(buffer[:n], &w))
	messages, err := syscall.ParseSocketControlMessage(control[:oobn])
	check(err)
	fds, err := syscall.ParseUnixRights(&messages[0])
	check(err)
	var files []*os.File
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), fmt.Sprint(fd)))
	}
	// Their sizes are sealed.
	for _, f := range files[:3] {
		if f.Truncate(0) == nil {
			panic(f.Name() + " was cut off")
		}
	}
	mem, err := shm.OpenMemory(files[0], w.Frames, w.Large, false)
	check(err)
	pair, err := shm.OpenPair(files[1])
	check(err)
	bell, err := shm.OpenBell(files[2], files[3])
	check(err)
	info, err := files[1].Stat()
	check(err)
	rings, err := syscall.Mmap(int(files[1].Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	check(err)
	transmit := rings[len(rings)/2:]
	word := func(at int) *uint32 { return (*uint32)(unsafe.Pointer(&transmit[at])) }
	random := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	odd := func() uint32 {
		switch random.IntN(4) {
		case 0:
			return ^uint32(0) - random.Uint32N(4)
		case 1:
			return random.Uint32N(uint32(w.Frames+w.Large) + 4)
		case 2:
			return random.Uint32N(4)
		}
		return random.Uint32()
	}
	var honest [64]shm.Desc
	for round := 0; ; round++ {
		// Own frames with lies about them, then sheer nonsense, then indices.
		k := pair.Receive.Pop(honest[:])
		for i := range honest[:k] {
			d := &honest[i]
			d.Action, d.To, d.Flags = shm.Action(random.UintN(256)), uint16(odd()), shm.Flags(random.UintN(256))
			if random.IntN(2) == 0 {
				d.Offset, d.Length = uint16(odd()), odd()
			}
			if random.IntN(8) == 0 {
				honest[random.IntN(k)] = *d // twice
			}
			copy(mem.Frame(uint32(random.IntN(w.Frames))), "nonsense in anybody's packet")
		}
		pair.Transmit.Push(honest[:k])
		for range random.IntN(64) {
			pair.Transmit.Push([]shm.Desc{{Frame: odd(), Length: odd(), Offset: uint16(odd()), To: uint16(odd()), Port: uint16(odd()), Action: shm.Action(random.UintN(256)), Flags: shm.Flags(random.UintN(256))}})
		}
		pair.Transmit.Publish()
		if random.IntN(4) == 0 {
			for _, at := range []int{0, 128, 256} { // tail, head, sleep
				if random.IntN(2) == 0 {
					*word(at) = odd()
				}
			}
			for range 64 {
				rings[random.IntN(len(rings))] = byte(random.Uint32())
			}
		}
		bell.Ring()
		if random.IntN(64) == 0 {
			conn.Write([]byte(`{"id":` + fmt.Sprint(odd()) + `,"leaving":false,"counters":{"a":1}}`))
		}
		if round%16 == 0 {
			time.Sleep(time.Millisecond)
		}
		if round == 1000 {
			conn.Write([]byte("{"))
			time.Sleep(20 * time.Millisecond) // alive without a connection
			os.Exit(1)
		}
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A hostile NF harms packets, which it may write, and nothing else: the manager works on, and has
// all its frames in the end.
func TestHostile(t *testing.T) {
	for name, f := range map[string]topo.NF{
		"trusted": {Command: command("hostile")},
		"copying": {Command: command("hostile"), Copy: true},
	} {
		t.Run(name, func(t *testing.T) {
			f.Name, f.Service, f.Restart = "hostile", 1, "always"
			l := start(t, Config{Ports: ports(t, flows(t, 100), 5000, -1), Chains: append(through(1, 2), topo.Chain{Name: "good", Services: []int{2}, Out: 2}),
				Rules: []string{"udp,nw_src=10.0.0.7,actions=chain:good"},
				NFs:   []topo.NF{f, {Name: "good", Service: 2, Copy: true, Command: command("writer")}}})
			var id int
			l.eventually("it lies, dies and comes again, and others go on", func(st *dpdkhost.State) bool {
				for _, i := range st.Instances {
					if i.Name == "hostile" {
						id = i.ID
						return i.Restarts >= 2 && i.Invalid > 1000 && st.Flows[0].Packets > 20
					}
				}
				return false
			})
			good := l.instance(3 - id)
			if good.Invalid != 0 || good.Restarts != 0 || good.Sent == 0 {
				t.Errorf("the other NF: %+v", good)
			}
			l.must(l.Stop(t.Context(), id, true))
			l.must(l.Stop(t.Context(), good.ID, false))
			l.eventually("all frames are back", func(st *dpdkhost.State) bool { return st.Pool.Free == st.Pool.Frames })
		})
	}
}
