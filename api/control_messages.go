package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"weft/network"
)

// ControlMessages calls report for each OpenFlow message that passes between switches and
// controllers from now on, until ctx or the network ends or report returns an error. ready,
// if not nil, is called once the network listens.
func (c *Client) ControlMessages(ctx context.Context, ready func(), report func(network.ControlMessage) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/control/messages", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if ready != nil {
		ready()
	}
	dec := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var m network.ControlMessage
		if err := dec.Decode(&m); err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return ErrGone
			}
			return fmt.Errorf("%w (control messages: %v)", ErrGone, err)
		}
		if err := report(m); err != nil {
			return err
		}
	}
}

// controlMessages answers with a line of JSON for each message, until the client leaves.
func (s *Server) controlMessages(w http.ResponseWriter, r *http.Request) {
	n, err := s.network()
	if err != nil {
		fail(w, err)
		return
	}
	feed := n.ControlFeed()
	defer feed.Close()
	w.Header().Set("Content-Type", "application/jsonl")
	buf := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(buf)
	flush := http.NewResponseController(w).Flush
	flush()
	for {
		batch, err := feed.Next(r.Context())
		if err != nil {
			return
		}
		for _, m := range batch {
			if enc.Encode(m) != nil {
				return
			}
		}
		if buf.Flush() != nil || flush() != nil {
			return
		}
	}
}
