package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"weft/capture"
	"weft/network"
)

// A Capture is one that runs in a network; its packets wait for Copy.
type Capture struct {
	Started network.CaptureStart
	conn    io.Closer
	frames  *framer
}

// Capture starts a capture. It ends with ctx without its last packets; see Stop.
func (c *Client) Capture(ctx context.Context, r network.CaptureRequest) (*Capture, error) {
	conn, f, err := c.upgrade(ctx, "/v1/captures", captureProtocol, r)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	run := &Capture{conn: conn, frames: f}
	kind, p, err := f.read()
	switch {
	case err != nil:
		err = fmt.Errorf("%w (capture: %v)", ErrGone, err)
	case kind == frameError:
		err = &Error{Message: string(p)}
	default:
		err = json.Unmarshal(p, &run.Started)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return run, nil
}

// Stop ends the capture: Copy returns when it has written the rest.
func (c *Capture) Stop() { c.frames.write(frameStop, nil) }

// Copy writes the capture's stream to w, each time whole blocks of pcapng, until the
// capture ends: by itself, by Stop or with the network. An error of w ends it too.
func (c *Capture) Copy(w io.Writer) (r network.CaptureResult, err error) {
	defer c.conn.Close()
	for {
		kind, p, err := c.frames.read()
		switch {
		case err != nil:
			return r, fmt.Errorf("%w (capture: %v)", ErrGone, err)
		case kind == frameError:
			return r, &Error{Message: string(p)}
		case kind == frameResult:
			return r, json.Unmarshal(p, &r)
		case kind == frameOutput:
			if _, err := w.Write(p); err != nil {
				return r, err
			}
		}
	}
}

// A Recording is a capture that goes to a file.
type Recording struct {
	*Capture
	Request network.CaptureRequest
	File    *capture.File

	done   chan struct{}
	result network.CaptureResult
	err    error
}

// Record starts a capture into the file that to says. It makes no file if the capture
// cannot start.
func (c *Client) Record(ctx context.Context, r network.CaptureRequest, to capture.FileConfig) (*Recording, error) {
	run, err := c.Capture(ctx, r)
	if err != nil {
		return nil, err
	}
	f, err := capture.Create(to)
	if err != nil {
		run.conn.Close()
		return nil, fmt.Errorf("capture: %w", err)
	}
	rec := &Recording{Capture: run, Request: r, File: f, done: make(chan struct{})}
	go func() {
		defer close(rec.done)
		rec.result, rec.err = run.Copy(f)
		rec.err = errors.Join(rec.err, f.Close())
	}()
	return rec, nil
}

// Done is closed when the capture has ended and its file is complete.
func (r *Recording) Done() <-chan struct{} { return r.done }

// Result waits for the end and says what was captured. A file that could not be written to
// its end has an error.
func (r *Recording) Result() (network.CaptureResult, error) {
	<-r.done
	return r.result, r.err
}

// capture runs a capture for as long as the client wants it.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	var q network.CaptureRequest
	err := decode(r.Body, &q)
	var n *network.Network
	if err == nil {
		n, err = s.network()
	}
	if err != nil {
		fail(w, err)
		return
	}
	f, conn, err := upgrade(w, r, captureProtocol)
	if err != nil {
		fail(w, err)
		return
	}
	defer conn.Close()
	s.captures.Add(1)
	defer s.captures.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		// Any frame stops it, and so does the end of the client.
		if _, _, err := f.read(); err != nil {
			conn.Close()
		}
	}()
	n.Capture(ctx, q, captureFrames{outputFrames{f}})
}

// captureFrames is a capture's sink on the connection to its client.
type captureFrames struct{ outputFrames }

// Started tells the client that the capture runs.
func (c captureFrames) Started(st network.CaptureStart) error { return c.f.writeJSON(frameStarted, st) }

// Ended tells the client what was captured. A client that has gone does not hear it.
func (c captureFrames) Ended(r network.CaptureResult, err error) {
	if err != nil {
		c.f.write(frameError, []byte(err.Error()))
		return
	}
	c.f.writeJSON(frameResult, r)
}

func (f *framer) writeJSON(kind byte, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(kind, p)
}
