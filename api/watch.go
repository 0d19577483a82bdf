package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"weft/network"
)

// Events calls report for each event from now on, until the network or ctx ends.
func (c *Client) Events(ctx context.Context, report func(network.Event)) error {
	return c.stream(ctx, http.MethodGet, "/v1/events", nil, report)
}

// EventsSince calls report for each event from since on, of which the network keeps the newest
// 10,000; with follow it goes on until the network or ctx ends.
func (c *Client) EventsSince(ctx context.Context, since time.Time, follow bool, report func(network.Event)) error {
	query := url.Values{"since": {since.Format(time.RFC3339Nano)}, "follow": {strconv.FormatBool(follow)}}
	return c.stream(ctx, http.MethodGet, "/v1/events?"+query.Encode(), nil, report)
}

// Logs lists the logs that there are.
func (c *Client) Logs(ctx context.Context) ([]network.LogInfo, error) {
	return call[[]network.LogInfo](ctx, c, http.MethodGet, "/v1/logs", nil)
}

// Log copies a log to w; with r.Follow, until the network or ctx ends.
func (c *Client) Log(ctx context.Context, r network.LogRequest, w io.Writer) error {
	query := url.Values{"follow": {strconv.FormatBool(r.Follow)}}
	if r.Tail >= 0 {
		query.Set("tail", strconv.Itoa(r.Tail))
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/logs/"+url.PathEscape(r.Name)+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(w, resp.Body); err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return err
}

// parameters reads a query, of which each parameter may be left out.
type parameters struct {
	values url.Values
	err    error
}

func (p *parameters) read(name string, parse func(string) error) {
	if !p.values.Has(name) {
		return
	}
	if err := parse(p.values.Get(name)); err != nil && p.err == nil {
		p.err = fmt.Errorf("%w: %s: %w", errRequest, name, err)
	}
}

func (p *parameters) flag(name string, v *bool) {
	p.read(name, func(text string) (err error) {
		*v, err = strconv.ParseBool(text)
		return err
	})
}

// events tells of what happened and what happens.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	since, follow := time.Now(), true
	q := &parameters{values: r.URL.Query()}
	q.read("since", func(text string) (err error) {
		since, err = time.Parse(time.RFC3339Nano, text)
		return err
	})
	q.flag("follow", &follow)
	n, err := s.network()
	if q.err != nil {
		err = q.err
	}
	if err != nil {
		fail(w, err)
		return
	}
	past, events, stop := n.EventsSince(since)
	defer stop()
	l := newLineWriter(w)
	for _, e := range past {
		l.event(e)
	}
	l.mu.Lock()
	l.flush()
	l.mu.Unlock()
	for follow {
		select {
		case e, ok := <-events:
			if !ok {
				follow = false
				break
			}
			l.event(e)
			if len(events) == 0 {
				l.mu.Lock()
				l.flush()
				l.mu.Unlock()
			}
		case <-r.Context().Done():
			return
		}
	}
	l.end(nil)
}

// log copies a log.
func (s *Server) log(w http.ResponseWriter, r *http.Request) {
	q := &parameters{values: r.URL.Query()}
	req := network.LogRequest{Name: r.PathValue("name"), Tail: -1}
	q.read("tail", func(text string) (err error) {
		req.Tail, err = strconv.Atoi(text)
		return err
	})
	q.flag("follow", &req.Follow)
	n, err := s.network()
	if q.err != nil {
		err = q.err
	}
	if err != nil {
		fail(w, err)
		return
	}
	out := &textWriter{w: w, flush: http.NewResponseController(w).Flush}
	if err := n.ReadLog(r.Context(), req, out); err != nil && !out.begun {
		fail(w, err)
		return
	}
	out.begin()
}

// A textWriter sends text at once.
type textWriter struct {
	w     http.ResponseWriter
	flush func() error
	begun bool
}

func (t *textWriter) begin() {
	if !t.begun {
		t.begun = true
		t.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
}

func (t *textWriter) Write(p []byte) (int, error) {
	t.begin()
	k, err := t.w.Write(p)
	if err == nil {
		err = t.flush()
	}
	return k, err
}
