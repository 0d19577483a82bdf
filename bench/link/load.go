package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What this program runs as in the hosts: it sends, or receives and reports as JSON.
const (
	tcpPort   = 5201
	udpPort   = 5202
	tcpChunk  = 128 << 10 // as iperf
	batchSize = 64
)

// A Sent is what a sender reports.
type Sent struct {
	Frames, Bytes uint64
	Seconds       float64
	Retransmits   uint32
}

// A Received is what a receiver reports.
type Received struct {
	Frames, Bytes uint64
	Seconds       float64  // from the first to the last
	Delays        []int64  `json:",omitempty"` // ns, in the order of arrival
	Numbers       []uint64 `json:",omitempty"`
}

type loadConfig struct {
	to       string
	duration time.Duration
	skip     time.Duration // of the receiver's: is not counted
	size     int
	rate     float64 // datagrams a second; 0 for as many as can be
	count    int
	delays   bool
	idle     time.Duration // after which the receiver has all
	cc       string
	window   int // bytes of TCP's receive buffer; 0 for the kernel's
}

// runLoad is the program in a host.
func runLoad(args []string) error {
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	var c loadConfig
	flags.StringVar(&c.to, "to", "10.0.0.2", "address")
	flags.DurationVar(&c.duration, "t", time.Second, "duration")
	flags.DurationVar(&c.skip, "skip", 0, "not counted at the beginning")
	flags.IntVar(&c.size, "size", 18, "payload of datagrams")
	flags.Float64Var(&c.rate, "rate", 0, "datagrams a second")
	flags.IntVar(&c.count, "count", 0, "datagrams")
	flags.BoolVar(&c.delays, "delays", false, "report delays")
	flags.DurationVar(&c.idle, "idle", time.Hour, "end when nothing has come for so long")
	flags.StringVar(&c.cc, "cc", "cubic", "congestion control")
	flags.IntVar(&c.window, "window", 0, "receive buffer, bytes")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var result any
	var err error
	switch args[0] {
	case "tcp-source":
		result, err = tcpSource(c)
	case "tcp-sink":
		result, err = tcpSink(c)
	case "raw-source":
		result, err = rawSource(c)
	case "udp-source":
		result, err = udpSource(c)
	case "udp-sink":
		result, err = udpSink(c)
	case "spin":
		for end := time.Now().Add(c.duration); time.Now().Before(end); {
		}
	default:
		return fmt.Errorf("no load is called %q", args[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func tcpSource(c loadConfig) (Sent, error) {
	var s Sent
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return s, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, c.cc); err != nil {
		return s, fmt.Errorf("congestion control %s: %w", c.cc, err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: tcpPort, Addr: [4]byte(net.ParseIP(c.to).To4())}); err != nil {
		return s, err
	}
	buf := make([]byte, tcpChunk)
	start := time.Now()
	for time.Since(start) < c.duration {
		n, err := unix.Write(fd, buf)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			break // the receiver has what it wants
		} else if err != nil {
			return s, err
		}
		s.Bytes += uint64(n)
	}
	s.Seconds = time.Since(start).Seconds()
	if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
		s.Retransmits = info.Total_retrans
	}
	// What is still to be sent would take its time.
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return s, nil
}

func tcpSink(c loadConfig) (Received, error) {
	var r Received
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return r, err
	}
	unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if c.window > 0 {
		unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_RCVBUF, c.window)
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Port: tcpPort}); err != nil {
		return r, err
	}
	if err := unix.Listen(l, 1); err != nil {
		return r, err
	}
	fmt.Fprintln(os.Stderr, "ready")
	fd, _, err := unix.Accept(l)
	if err != nil {
		return r, err
	}
	buf := make([]byte, tcpChunk)
	begin := time.Now()
	var start, last time.Time
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			break
		}
		last = time.Now()
		if last.Sub(begin) < c.skip {
			continue
		}
		if start.IsZero() {
			start = last // these bytes came before
			continue
		}
		r.Bytes += uint64(n)
		if last.Sub(begin) >= c.duration {
			break
		}
	}
	r.Seconds = last.Sub(start).Seconds()
	return r, nil
}

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// header is the beginning of a datagram: its number from 1, and when it was sent.
const header = 16

func udpSource(c loadConfig) (Sent, error) {
	var s Sent
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return s, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: udpPort, Addr: [4]byte(net.ParseIP(c.to).To4())}); err != nil {
		return s, err
	}
	n := batchSize
	if c.rate > 0 && c.rate < 20000 {
		n = 1
	}
	var msgs [batchSize]mmsghdr
	var iov [batchSize]unix.Iovec
	bufs := make([][]byte, n)
	for i := range n {
		bufs[i] = make([]byte, max(c.size, header))
		iov[i].Base = &bufs[i][0]
		iov[i].SetLen(len(bufs[i]))
		msgs[i].hdr.Iov = &iov[i]
		msgs[i].hdr.SetIovlen(1)
	}
	start := time.Now()
	for (c.count == 0 || s.Frames < uint64(c.count)) && (c.count > 0 || time.Since(start) < c.duration) {
		if c.rate > 0 {
			due := start.Add(time.Duration(float64(s.Frames) / c.rate * 1e9))
			if d := time.Until(due); d > 0 {
				time.Sleep(d)
			}
		}
		k := n
		if c.count > 0 {
			k = min(n, c.count-int(s.Frames))
		}
		for i := range k {
			*(*uint64)(unsafe.Pointer(&bufs[i][0])) = s.Frames + uint64(i) + 1
			*(*int64)(unsafe.Pointer(&bufs[i][8])) = time.Now().UnixNano()
		}
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs)), uintptr(k), 0, 0, 0)
		if errno != 0 && errno != unix.ENOBUFS && errno != unix.ECONNREFUSED {
			return s, errno
		}
		if errno == 0 {
			s.Frames += uint64(sent)
			s.Bytes += uint64(sent) * uint64(c.size)
		}
	}
	s.Seconds = time.Since(start).Seconds()
	return s, nil
}

func udpSink(c loadConfig) (Received, error) {
	var r Received
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return r, err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	if c.delays {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: udpPort}); err != nil {
		return r, err
	}
	timeout := unix.NsecToTimeval(int64(20 * time.Millisecond))
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	fmt.Fprintln(os.Stderr, "ready")
	var msgs [batchSize]mmsghdr
	var iov [batchSize]unix.Iovec
	var control [batchSize][64]byte
	bufs := make([]byte, batchSize*2048)
	for i := range batchSize {
		iov[i].Base = &bufs[i*2048]
		iov[i].SetLen(2048)
		msgs[i].hdr.Iov = &iov[i]
		msgs[i].hdr.SetIovlen(1)
	}
	begin := time.Now()
	var start, last time.Time
	for time.Since(begin) < c.duration && (c.count == 0 || r.Frames < uint64(c.count)) {
		for i := range msgs {
			msgs[i].hdr.Control = &control[i][0]
			msgs[i].hdr.SetControllen(64)
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs)), batchSize, unix.MSG_WAITFORONE, 0, 0)
		if errors.Is(errno, unix.EAGAIN) || errors.Is(errno, unix.EINTR) {
			if !last.IsZero() && time.Since(last) > c.idle {
				break
			}
			continue
		}
		if errno != 0 {
			return r, errno
		}
		now := time.Now()
		if start.IsZero() {
			start = now
		}
		if now.Sub(start) < c.skip {
			continue
		}
		if last.IsZero() && c.skip > 0 {
			start, last = now, now
			c.skip = 0
			continue
		}
		last = now
		for i := range int(n) {
			r.Frames++
			r.Bytes += uint64(msgs[i].n)
			if !c.delays {
				continue
			}
			at := (*unix.Timespec)(unsafe.Pointer(&control[i][unix.CmsgLen(0)])).Nano()
			b := bufs[i*2048:]
			r.Numbers = append(r.Numbers, *(*uint64)(unsafe.Pointer(&b[0])))
			r.Delays = append(r.Delays, at-*(*int64)(unsafe.Pointer(&b[8])))
		}
	}
	r.Seconds = last.Sub(start).Seconds()
	return r, nil
}
