package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"weft/network"
)

// Timing calls report for each interval with how well the machine kept its time, until ctx or
// the network ends or report returns an error.
func (c *Client) Timing(ctx context.Context, interval time.Duration, report func(network.Timing) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/timing?interval="+url.QueryEscape(interval.String()), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var t network.Timing
		if err := dec.Decode(&t); err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return ErrGone
			}
			return fmt.Errorf("%w (timing: %v)", ErrGone, err)
		}
		if err := report(t); err != nil {
			return err
		}
	}
}

// Drops returns the counters of frames that were lost where none should be.
func (c *Client) Drops(ctx context.Context) ([]network.Drop, error) {
	return call[[]network.Drop](ctx, c, http.MethodGet, "/v1/drops", nil)
}

// timing answers with a line of JSON for each sample, until the client leaves.
func (s *Server) timing(w http.ResponseWriter, r *http.Request) {
	n, err := s.network()
	interval := time.Second
	if text := r.URL.Query().Get("interval"); err == nil && text != "" {
		if interval, err = time.ParseDuration(text); err != nil || interval <= 0 {
			err = fmt.Errorf("%w: interval %q is not a time", errRequest, text)
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	enc, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	flush()
	n.WatchTiming(r.Context(), interval, func(t network.Timing) error {
		return errors.Join(enc.Encode(t), flush())
	})
}
