package api

import (
	"context"
	"net/http"
	"net/url"

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
		answer(s, "GET /v1/links", "Links with their counters: those named by link=, or all.", func(_ context.Context, n *network.Network, r *http.Request, _ none) ([]network.LinkState, error) {
			return n.Links(r.URL.Query()["link"])
		}),
		answer(s, "PATCH /v1/links/{a}", "Change the links that a name stands for: A-B, an interface, or an ID.", change),
		answer(s, "PATCH /v1/links/{a}/{b}", "Change the links between two nodes.", change),
	}
}
