package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"weft/network"
)

// Links returns links with their counters: those that names stand for
// (topo.Plan.FindLinks), or all.
func (c *Client) Links(ctx context.Context, names ...string) ([]network.LinkState, error) {
	return call[[]network.LinkState](ctx, c, http.MethodGet, "/v1/links?"+url.Values{"link": names}.Encode(), nil)
}

// ChangeLink changes the links that a name stands for, or all between the nodes a and b if b
// is not empty, and returns them as they are then.
func (c *Client) ChangeLink(ctx context.Context, a, b string, change network.LinkChange) ([]network.LinkState, error) {
	path := "/v1/links/" + url.PathEscape(a)
	if b != "" {
		path = linkPath(a, b)
	}
	return call[[]network.LinkState](ctx, c, http.MethodPatch, path, change)
}

// Faults returns the trouble that is going on.
func (c *Client) Faults(ctx context.Context) ([]network.Fault, error) {
	return call[[]network.Fault](ctx, c, http.MethodGet, "/v1/faults", nil)
}

// StartFault starts trouble, which goes on without the caller.
func (c *Client) StartFault(ctx context.Context, r network.FaultRequest) ([]network.Fault, error) {
	return call[[]network.Fault](ctx, c, http.MethodPost, "/v1/faults", r)
}

// StopFaults ends trouble: all, if no IDs are given.
func (c *Client) StopFaults(ctx context.Context, ids ...int) error {
	q := url.Values{}
	for _, id := range ids {
		q.Add("id", strconv.Itoa(id))
	}
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/v1/faults?"+q.Encode(), nil)
	return err
}

// VerifyLinks measures whether links do what was asked of them.
func (c *Client) VerifyLinks(ctx context.Context, r network.VerifyRequest) ([]network.LinkCheck, error) {
	return call[[]network.LinkCheck](ctx, c, http.MethodPost, "/v1/links/verify", r)
}

// SetLink takes both ends of every link between two nodes up or down.
func (c *Client) SetLink(ctx context.Context, a, b string, up bool) error {
	_, err := c.ChangeLink(ctx, a, b, network.LinkChange{Up: &up})
	return err
}

// linkRoutes are those of links.
func (s *Server) linkRoutes() []route {
	change := func(ctx context.Context, n *network.Network, r *http.Request, c network.LinkChange) ([]network.LinkState, error) {
		return n.ChangeLink(ctx, r.PathValue("a"), r.PathValue("b"), c)
	}
	return []route{
		answer(s, "GET /v1/links", "Links with their counters: all, or those that are named.", func(_ context.Context, n *network.Network, r *http.Request, _ none) ([]network.LinkState, error) {
			return n.Links(r.URL.Query()["link"])
		}).with(parameter{"link", "a name of links: A-B, an interface, or an ID; may be repeated", typeOf[[]string]()}),
		answer(s, "PATCH /v1/links/{a}", "Change the links that a name stands for: A-B, an interface, or an ID.", change),
		answer(s, "PATCH /v1/links/{a}/{b}", "Change the links between two nodes.", change),
		answer(s, "POST /v1/links/verify", "Measure whether links do what was asked of them.", func(ctx context.Context, n *network.Network, _ *http.Request, r network.VerifyRequest) ([]network.LinkCheck, error) {
			return n.VerifyLinks(ctx, r)
		}),
		answer(s, "GET /v1/faults", "The trouble that is going on: failing links, schedules, a partition.", func(_ context.Context, n *network.Network, _ *http.Request, _ none) ([]network.Fault, error) {
			return n.Faults(), nil
		}),
		answer(s, "POST /v1/faults", "Start trouble.", func(ctx context.Context, n *network.Network, _ *http.Request, r network.FaultRequest) ([]network.Fault, error) {
			return n.StartFault(ctx, r)
		}),
		answer(s, "DELETE /v1/faults", "End trouble: that named by id=, or all.", func(ctx context.Context, n *network.Network, r *http.Request, _ none) (none, error) {
			var ids []int
			for _, text := range r.URL.Query()["id"] {
				id, err := strconv.Atoi(text)
				if err != nil {
					return none{}, fmt.Errorf("%w: %q is not the ID of a fault", errRequest, text)
				}
				ids = append(ids, id)
			}
			return none{}, n.StopFaults(ctx, ids...)
		}),
	}
}
