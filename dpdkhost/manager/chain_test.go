package manager

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/dpdkhost/nf"
	"weft/dpdkhost/shm"
)

// A loop is a port that receives what it sends.
type loop struct {
	waiting, next []shm.Desc
	at            int // of waiting
}

func (l *loop) Receive(into []shm.Desc, _ *Pool) int {
	if l.at == len(l.waiting) {
		l.waiting, l.next, l.at = l.next, l.waiting[:0], 0
	}
	n := copy(into, l.waiting[l.at:])
	l.at += n
	return n
}

func (l *loop) Send(list []shm.Desc, _ *Pool) int {
	l.next = append(l.next, list...)
	return len(list)
}

func (l *loop) FD() int      { return -1 }
func (l *loop) Close() error { return nil }

// TestMain lets the test program be an NF.
func TestMain(m *testing.M) {
	if os.Getenv("WEFT_TEST_NF") != "" {
		file := func(n int) *os.File { return os.NewFile(uintptr(n), fmt.Sprint("fd", n)) }
		small, _ := strconv.Atoi(os.Getenv("WEFT_TEST_NF"))
		mem, err := shm.OpenMemory(file(3), small, 0, false)
		if err != nil {
			panic(err)
		}
		rings, err := shm.OpenPair(file(4))
		if err != nil {
			panic(err)
		}
		bell, err := shm.OpenBell(file(5), file(6))
		if err != nil {
			panic(err)
		}
		e := &nf.Edge{Memory: mem, Rings: rings, Bell: bell}
		runtime.LockOSThread()
		for {
			if e.Turn(nf.Handler(func(batch []nf.Packet) {
				for i := range batch {
					batch[i].Data()[0]++
					batch[i].Next()
				}
			})) == 0 {
				bell.Ring()
				rings.Receive.Wait(-1, nil)
			}
		}
	}
	os.Exit(m.Run())
}

// Chains of NFs in processes of their own, all on one processor with the manager; a flow for
// each of 64 5-tuples.
func BenchmarkChain(b *testing.B) {
	for _, flight := range []int{16000, 128} {
		for length := 1; length <= 4; length++ {
			b.Run(fmt.Sprintf("flight=%d/nfs=%d", flight, length), func(b *testing.B) { benchmarkChain(b, length, flight) })
		}
	}
}

func benchmarkChain(b *testing.B, length, flight int) {
	var old, one unix.CPUSet
	unix.SchedGetaffinity(0, &old)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	one.Set(0)
	unix.SchedSetaffinity(0, &one)
	defer unix.SchedSetaffinity(0, &old)
	m, err := New(Config{Frames: 32768})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		unix.SchedSetaffinity(0, &one)
		done <- m.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	var services []uint16
	for k := range length {
		i, rings, _, err := m.Attach(Instance{Service: uint16(k + 1), Shared: true}, 0)
		if err != nil {
			b.Fatal(err)
		}
		_ = i
		word, event := m.bell.Files()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WEFT_TEST_NF=32768", "GOMAXPROCS=1")
		cmd.ExtraFiles = []*os.File{m.mem.File(), rings.File(), word, event}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		services = append(services, uint16(k+1))
	}
	if err := m.SetChain(Chain{Name: DefaultChain, Services: services, Out: 1}); err != nil {
		b.Fatal(err)
	}
	l := &loop{}
	m.Do(func() {
		for n := range flight {
			frame, _ := m.pool.Get(64)
			d := shm.Desc{Frame: frame, Offset: shm.Headroom, Length: 64}
			p := m.mem.Packet(&d)
			binary.BigEndian.PutUint16(p[12:], typeIPv4)
			p[14], p[23] = 0x45, 17
			binary.BigEndian.PutUint32(p[26:], uint32(n%64))
			l.waiting = append(l.waiting, d)
			if n < 64 {
				var k Key
				parseKey(&k, p, 1)
				m.addFlow(Flow{Match: Match{k, allOnes()}, Verdict: Verdict{Chain: DefaultChain}})
			}
		}
	})
	if err := m.AddPort(1, "loop", l); err != nil {
		b.Fatal(err)
	}
	passed := func() (n uint64) {
		m.Do(func() { n = m.ports[1].stats.Sent })
		return n
	}
	time.Sleep(200 * time.Millisecond)
	b.ResetTimer()
	from, start := passed(), time.Now()
	for passed()-from < uint64(b.N) {
		time.Sleep(20 * time.Millisecond)
	}
	b.ReportMetric(float64(passed()-from)/time.Since(start).Seconds()/1e6, "Mpps")
}
