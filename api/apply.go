package api

import (
	"context"
	"net/http"

	"weft/network"
	"weft/topo"
)

// Apply makes the network the one that a Spec describes. planned, if not nil, is told what is
// to be done before anything is, and done of each thing that is done.
func (c *Client) Apply(ctx context.Context, r network.ApplyRequest, planned func(*topo.Diff), done func(network.Event)) error {
	return c.lines(ctx, http.MethodPost, "/v1/apply", r, func(l streamLine) {
		switch {
		case l.Diff != nil && planned != nil:
			planned(l.Diff)
		case l.Event != nil && done != nil:
			done(*l.Event)
		}
	})
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	var q network.ApplyRequest
	err := decode(r.Body, &q)
	var n *network.Network
	if err == nil {
		n, err = s.network()
	}
	if err != nil {
		fail(w, err)
		return
	}
	l := newLineWriter(w)
	// Half a change is worse than one whose client has gone.
	l.end(n.Apply(context.WithoutCancel(r.Context()), q, l.diff, l.event))
}
