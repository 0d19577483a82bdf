package api

import (
	"context"
	"net/http"
	"net/url"

	"weft/network"
)

// Channels returns the control channels, with what is done to them.
func (c *Client) Channels(ctx context.Context) ([]network.ChannelState, error) {
	return call[[]network.ChannelState](ctx, c, http.MethodGet, "/v1/channels", nil)
}

// SetChannel changes what is done to the control channel between a switch and a
// controller, and returns its state then.
func (c *Client) SetChannel(ctx context.Context, sw, controller string, change network.ChannelChange) (network.ChannelState, error) {
	path := "/v1/channels/" + url.PathEscape(sw) + "/" + url.PathEscape(controller)
	return call[network.ChannelState](ctx, c, http.MethodPatch, path, change)
}
