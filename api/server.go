package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/creack/pty"

	"weft/network"
	"weft/node"
	"weft/topo"
)

// A Server is the API around the one network of a sandbox.
type Server struct {
	env  network.Env
	http *http.Server
	done chan struct{} // closed when the network is to end
	end  sync.Once

	captures sync.WaitGroup

	mu    sync.Mutex
	phase Phase
	net   *network.Network   // nil before it is built
	abort context.CancelFunc // ends the building
	built chan struct{}      // closed when the building has ended
}

// A Phase is a time in a network's life.
type Phase string

// The phases.
const (
	PhaseEmpty    Phase = "empty"    // nothing is built yet
	PhaseBuilding Phase = "building" // PUT /v1/network is under way
	PhaseBuilt    Phase = "built"    // the switches are not started
	PhaseRunning  Phase = "running"
	PhaseEnding   Phase = "ending"
)

// Info is a network in brief.
type Info struct {
	Name     string    `json:"name"`
	Phase    Phase     `json:"phase"`
	Started  time.Time `json:"started,omitzero"`
	Rootless bool      `json:"rootless"`
	// Nodes are the names of hosts, switches and controllers, by kind.
	Nodes network.Names `json:"nodes"`
	Links int           `json:"links"` // how many there are
}

// deliverTimeout bounds the wait for clients to take the rest of their captures.
const deliverTimeout = 3 * time.Second

var (
	errNoNetwork  = errors.New("the network is not built yet")
	errHasNetwork = errors.New("the sandbox has a network already")
)

// Serve serves the API on l until the network has been taken down through it or ctx ends,
// and closes the network.
func Serve(ctx context.Context, l net.Listener, env network.Env) error {
	s := &Server{env: env, done: make(chan struct{}), phase: PhaseEmpty}
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.HandleFunc(r.pattern, r.serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		failWith(w, http.StatusNotFound, fmt.Errorf("the API has no %s %s", r.Method, r.URL.Path))
	})
	s.http = &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(env.Log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(l) }()
	var err error
	select {
	case <-ctx.Done():
	case <-s.done:
	case err = <-failed:
	}
	if n, _ := s.network(); n != nil {
		err = errors.Join(err, n.Close())
	}
	// Captures end with the network, and have their last packets to deliver.
	delivered := make(chan struct{})
	go func() {
		s.captures.Wait()
		close(delivered)
	}()
	select {
	case <-delivered:
	case <-time.After(deliverTimeout):
	}
	s.http.Close()
	return err
}

func (s *Server) network() (*network.Network, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.net == nil {
		return nil, errNoNetwork
	}
	return s.net, nil
}

// A lineWriter writes streamLines, a few at a time.
type lineWriter struct {
	mu    sync.Mutex
	buf   *bufio.Writer
	enc   *json.Encoder
	flush func()
	last  time.Time
}

func newLineWriter(w http.ResponseWriter) *lineWriter {
	w.Header().Set("Content-Type", "application/jsonl")
	l := &lineWriter{buf: bufio.NewWriter(w)}
	l.enc = json.NewEncoder(l.buf)
	rc := http.NewResponseController(w)
	l.flush = func() {
		l.buf.Flush()
		rc.Flush()
		l.last = time.Now()
	}
	return l
}

func (l *lineWriter) event(e network.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enc.Encode(streamLine{Event: &e})
	if e.Node == "" || time.Since(l.last) > 20*time.Millisecond {
		l.flush()
	}
}

func (l *lineWriter) diff(d *topo.Diff) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enc.Encode(streamLine{Diff: d})
	l.flush()
}

func (l *lineWriter) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := streamLine{Done: true}
	if err != nil {
		line = streamLine{Error: err.Error()}
	}
	l.enc.Encode(line)
	l.flush()
}

func (s *Server) info(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	info := Info{Name: s.env.Name, Phase: s.phase, Rootless: s.env.Rootless}
	n := s.net
	s.mu.Unlock()
	if n != nil {
		info.Started, info.Nodes, info.Links = n.Brief()
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(info)
}

func (s *Server) up(w http.ResponseWriter, r *http.Request) {
	var plan topo.Plan
	if err := decode(r.Body, &plan); err != nil {
		fail(w, err)
		return
	}
	ctx, abort := context.WithCancel(r.Context())
	defer abort()
	built := make(chan struct{})
	defer close(built)
	s.mu.Lock()
	if s.phase != PhaseEmpty {
		s.mu.Unlock()
		fail(w, errHasNetwork)
		return
	}
	s.phase, s.abort, s.built = PhaseBuilding, abort, built
	s.mu.Unlock()
	l := newLineWriter(w)
	n, err := network.Up(ctx, &plan, s.env, l.event)
	s.mu.Lock()
	if s.phase = PhaseEmpty; err == nil {
		s.net, s.phase = n, PhaseBuilt
	}
	s.mu.Unlock()
	l.end(err)
}

func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	n, err := s.network()
	if err != nil {
		fail(w, err)
		return
	}
	l := newLineWriter(w)
	if err = n.Start(r.Context(), l.event); err == nil {
		s.mu.Lock()
		s.phase = PhaseRunning
		s.mu.Unlock()
	}
	l.end(err)
}

func (s *Server) down(w http.ResponseWriter, r *http.Request) {
	l := newLineWriter(w)
	l.event(network.Event{Time: time.Now(), Stage: network.StageStop})
	s.mu.Lock()
	abort, built := s.abort, s.built
	s.mu.Unlock()
	if abort != nil {
		abort()
		<-built
	}
	s.mu.Lock()
	s.phase = PhaseEnding
	n := s.net
	s.mu.Unlock()
	var err error
	if n != nil {
		err = n.Close()
	}
	l.end(err)
	s.end.Do(func() { close(s.done) })
}

// shell upgrades the connection to frames and runs one command line.
func (s *Server) shell(w http.ResponseWriter, r *http.Request) {
	var q ShellRequest
	err := decode(r.Body, &q)
	var sh *node.Shell
	if err == nil {
		var n *network.Network
		if n, err = s.network(); err == nil {
			sh, err = n.Shell(q.Node)
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	f, conn, err := upgrade(w, r, shellProtocol)
	if err != nil {
		fail(w, err)
		return
	}
	defer conn.Close()
	runShell(sh, q, f)
}

// upgrade turns a request's connection into one of frames.
func upgrade(w http.ResponseWriter, r *http.Request, protocol string) (*framer, net.Conn, error) {
	if r.Header.Get("Upgrade") != protocol {
		return nil, nil, errors.New("this needs the header Upgrade: " + protocol)
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
	return &framer{r: buf, w: conn}, conn, nil
}

// runShell runs q with its input from frames. The end of the client's frames ends it.
func runShell(sh *node.Shell, q ShellRequest, f *framer) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	interrupt := make(chan struct{})
	resize := make(chan pty.Winsize)
	input, feed := io.Pipe()
	go func() {
		defer cancel()
		defer feed.Close()
		for {
			kind, p, err := f.read()
			if err != nil {
				return
			}
			switch {
			case kind == frameInput:
				feed.Write(p)
			case kind == frameInterrupt:
				select {
				case interrupt <- struct{}{}:
				case <-ctx.Done():
				}
			case kind == frameResize && len(p) == 4:
				select {
				case resize <- pty.Winsize{Rows: binary.BigEndian.Uint16(p), Cols: binary.BigEndian.Uint16(p[2:])}:
				case <-ctx.Done():
				}
			}
		}
	}()
	c := node.Command{Line: q.Command, Env: q.Env, Terminal: q.TTY, Rows: q.Rows, Cols: q.Cols,
		Stdout: outputFrames{f}, Interrupt: interrupt, Resize: resize}
	if q.Term != "" {
		c.Env = append(c.Env, "TERM="+q.Term)
	}
	if q.TTY {
		c.Stdin = input
	}
	code, err := sh.Run(ctx, c)
	input.Close()
	if err != nil {
		f.write(frameError, []byte(err.Error()))
		return
	}
	f.write(frameExit, binary.BigEndian.AppendUint32(nil, uint32(code)))
}

// outputFrames writes what it is given as output.
type outputFrames struct{ f *framer }

func (o outputFrames) Write(p []byte) (int, error) { return len(p), o.f.write(frameOutput, p) }
