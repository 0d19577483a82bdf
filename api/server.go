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

	captures sync.WaitGroup

	mu  sync.Mutex
	net *network.Network // nil before PUT /v1/network
	end sync.Once
}

// deliverTimeout bounds the wait for clients to take the rest of their captures.
const deliverTimeout = 3 * time.Second

// errNoNetwork answers calls before the network is built.
var errNoNetwork = errors.New("the network is not built yet")

// Serve serves the API on l until the network has been taken down through it or ctx ends,
// and closes the network.
func Serve(ctx context.Context, l net.Listener, env network.Env) error {
	s := &Server{env: env, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/network", s.up)
	mux.HandleFunc("GET /v1/network", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, _ struct{}) (any, error) {
		return n.State(), nil
	}))
	mux.HandleFunc("DELETE /v1/network", s.down)
	mux.HandleFunc("POST /v1/network/start", s.start)
	mux.HandleFunc("POST /v1/wait", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, q struct{ Timeout time.Duration }) (any, error) {
		return n.Wait(ctx, q.Timeout)
	}))
	mux.HandleFunc("POST /v1/ping", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, q network.PingRequest) (any, error) {
		return n.Ping(ctx, q)
	}))
	mux.HandleFunc("POST /v1/iperf", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, q network.IperfRequest) (any, error) {
		return n.Iperf(ctx, q)
	}))
	mux.HandleFunc("POST /v1/hosts", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, h topo.Host) (any, error) {
		return n.AddHost(ctx, h)
	}))
	mux.HandleFunc("POST /v1/switches", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, sw topo.Switch) (any, error) {
		return n.AddSwitch(ctx, sw)
	}))
	mux.HandleFunc("PATCH /v1/switches/{name}", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, q struct{ Running bool }) (any, error) {
		return struct{}{}, n.SetSwitch(ctx, r.PathValue("name"), q.Running)
	}))
	mux.HandleFunc("DELETE /v1/nodes/{name}", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, _ struct{}) (any, error) {
		return struct{}{}, n.DeleteNode(ctx, r.PathValue("name"))
	}))
	mux.HandleFunc("POST /v1/links", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, l topo.Link) (any, error) {
		return n.AddLink(ctx, l)
	}))
	mux.HandleFunc("DELETE /v1/links/{a}/{b}", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, _ struct{}) (any, error) {
		return struct{}{}, n.DeleteLink(ctx, r.PathValue("a"), r.PathValue("b"))
	}))
	mux.HandleFunc("PATCH /v1/links/{a}/{b}", handle(s, func(ctx context.Context, n *network.Network, r *http.Request, q struct{ Up bool }) (any, error) {
		return struct{}{}, n.SetLink(ctx, r.PathValue("a"), r.PathValue("b"), q.Up)
	}))
	mux.HandleFunc("POST /v1/shell", s.shell)
	mux.HandleFunc("POST /v1/captures", s.capture)
	s.handleChannels(mux)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/control/messages", s.controlMessages)
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

// handle decodes the body into a Q, calls f and encodes its answer.
func handle[Q any](s *Server, f func(context.Context, *network.Network, *http.Request, Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		n, err := s.network()
		if err == nil && r.ContentLength != 0 {
			err = decode(r.Body, &q)
		}
		var v any
		if err == nil {
			v, err = f(r.Context(), n, r, q)
		}
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
}

func decode(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return nil
}

func fail(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	json.NewEncoder(w).Encode(Error{Message: err.Error()})
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

func (s *Server) up(w http.ResponseWriter, r *http.Request) {
	var plan topo.Plan
	if err := decode(r.Body, &plan); err != nil {
		fail(w, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.net != nil {
		fail(w, errors.New("the sandbox has a network already"))
		return
	}
	l := newLineWriter(w)
	n, err := network.Up(r.Context(), &plan, s.env, l.event)
	if err == nil {
		s.net = n
	}
	l.end(err)
}

func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	n, err := s.network()
	if err != nil {
		fail(w, err)
		return
	}
	l := newLineWriter(w)
	l.end(n.Start(r.Context(), l.event))
}

func (s *Server) down(w http.ResponseWriter, r *http.Request) {
	l := newLineWriter(w)
	l.event(network.Event{Time: time.Now(), Stage: network.StageStop})
	var err error
	if n, _ := s.network(); n != nil {
		err = n.Close()
	}
	l.end(err)
	s.end.Do(func() { close(s.done) })
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	n, err := s.network()
	if err != nil {
		fail(w, err)
		return
	}
	events, cancel := n.Events()
	defer cancel()
	l := newLineWriter(w)
	l.mu.Lock()
	l.flush()
	l.mu.Unlock()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				l.end(nil)
				return
			}
			l.event(e)
		case <-r.Context().Done():
			return
		}
	}
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
