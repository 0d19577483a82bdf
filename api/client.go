// Package api is the HTTP API of a running network over a Unix socket: the server
// around a network.Network, and the client that the REPL and the commands use, as may
// other programs in Go. OpenAPI describes it for those in other languages.
//
// It may import network and node, for their values, and internal/sandbox, to find sockets.
package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"weft/internal/sandbox"
	"weft/network"
	"weft/topo"
)

// A Client talks to one running network. Its methods may be called concurrently.
type Client struct {
	path string
	http *http.Client
}

// Open returns a Client of a running network of this user's. It does not connect yet.
func Open(name string) (*Client, error) {
	if err := sandbox.Check(name); err != nil {
		return nil, err
	}
	path, err := sandbox.SocketPath(name)
	if err != nil {
		return nil, err
	}
	return Dial(path), nil
}

// Dial returns a Client of the API socket at path. It does not connect yet.
func Dial(path string) *Client {
	var d net.Dialer
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// An Error is an error that the network answered with.
type Error struct {
	Message string `json:"error"`
}

func (e *Error) Error() string { return e.Message }

// ErrGone is matched by errors of calls on a network that has ended.
var ErrGone = errors.New("the network is gone")

// Up builds the network of plan and calls progress, if not nil, for each event.
func (c *Client) Up(ctx context.Context, plan *topo.Plan, progress func(network.Event)) error {
	return c.stream(ctx, http.MethodPut, "/v1/network", plan, progress)
}

// Start connects the switches of a network that Up built to their controllers.
func (c *Client) Start(ctx context.Context, progress func(network.Event)) error {
	return c.stream(ctx, http.MethodPost, "/v1/network/start", nil, progress)
}

// RunCommands runs the commands of the plan that are due at the start. It returns when they
// have ended, with the error of those that failed; the others run at their times.
func (c *Client) RunCommands(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/network/run", nil)
	return err
}

// Down stops the network's controllers and programs, and ends the sandbox.
func (c *Client) Down(ctx context.Context, progress func(network.Event)) error {
	return c.stream(ctx, http.MethodDelete, "/v1/network", nil, progress)
}

// Info returns what the network is, in brief. It answers while the network is built, too.
func (c *Client) Info(ctx context.Context) (Info, error) {
	return call[Info](ctx, c, http.MethodGet, "/v1/info", nil)
}

// State returns what the network is now.
func (c *Client) State(ctx context.Context) (network.State, error) {
	return call[network.State](ctx, c, http.MethodGet, "/v1/network", nil)
}

// Node returns all that is known of a node.
func (c *Client) Node(ctx context.Context, name string) (network.NodeState, error) {
	return call[network.NodeState](ctx, c, http.MethodGet, "/v1/nodes/"+url.PathEscape(name), nil)
}

// Wait waits until every switch is connected to its controllers, at most timeout,
// and returns the connections that are missing.
func (c *Client) Wait(ctx context.Context, timeout time.Duration) ([]network.ControlConnection, error) {
	return call[[]network.ControlConnection](ctx, c, http.MethodPost, "/v1/wait", waitRequest{timeout})
}

// Ping exchanges ICMP echoes between hosts.
func (c *Client) Ping(ctx context.Context, r network.PingRequest) (network.PingResult, error) {
	return call[network.PingResult](ctx, c, http.MethodPost, "/v1/ping", r)
}

// Train sends echo requests from a host to another at even times.
func (c *Client) Train(ctx context.Context, r network.TrainRequest) (network.TrainResult, error) {
	return call[network.TrainResult](ctx, c, http.MethodPost, "/v1/ping/train", r)
}

// Reach tries whether hosts reach a port of others.
func (c *Client) Reach(ctx context.Context, r network.ReachRequest) (network.ReachResult, error) {
	return call[network.ReachResult](ctx, c, http.MethodPost, "/v1/reach", r)
}

// Flows returns the flow table of a switch.
func (c *Client) Flows(ctx context.Context, name string) ([]network.Flow, error) {
	return call[[]network.Flow](ctx, c, http.MethodGet, "/v1/switches/"+url.PathEscape(name)+"/flows", nil)
}

// Iperf measures throughput between two hosts.
func (c *Client) Iperf(ctx context.Context, r network.IperfRequest) (network.IperfResult, error) {
	return call[network.IperfResult](ctx, c, http.MethodPost, "/v1/iperf", r)
}

// AddHost adds a host to the running network.
func (c *Client) AddHost(ctx context.Context, h topo.Host) (topo.PlannedHost, error) {
	return call[topo.PlannedHost](ctx, c, http.MethodPost, "/v1/hosts", h)
}

// AddSwitch adds a switch to the running network.
func (c *Client) AddSwitch(ctx context.Context, s topo.Switch) (topo.PlannedSwitch, error) {
	return call[topo.PlannedSwitch](ctx, c, http.MethodPost, "/v1/switches", s)
}

// AddLink adds a link between two nodes of the running network.
func (c *Client) AddLink(ctx context.Context, l topo.Link) (topo.PlannedLink, error) {
	return call[topo.PlannedLink](ctx, c, http.MethodPost, "/v1/links", l)
}

// DeleteNode removes a host or switch and its links.
func (c *Client) DeleteNode(ctx context.Context, name string) error {
	_, err := call[none](ctx, c, http.MethodDelete, "/v1/nodes/"+url.PathEscape(name), nil)
	return err
}

// DeleteLink removes the links between two nodes.
func (c *Client) DeleteLink(ctx context.Context, a, b string) error {
	_, err := call[none](ctx, c, http.MethodDelete, linkPath(a, b), nil)
	return err
}

// SetSwitch starts or stops a switch.
func (c *Client) SetSwitch(ctx context.Context, name string, running bool) error {
	_, err := call[none](ctx, c, http.MethodPatch, "/v1/switches/"+url.PathEscape(name), switchChange{running})
	return err
}

func linkPath(a, b string) string {
	return "/v1/links/" + url.PathEscape(a) + "/" + url.PathEscape(b)
}

func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://weft"+path, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, gone(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, answered(resp)
	}
	return resp, nil
}

// answered is the error that the network answered with.
func answered(resp *http.Response) error {
	var e Error
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Message == "" {
		e.Message = "the network answers " + resp.Status
	}
	return &e
}

// gone is the error of a network that does not answer, or of ctx's end.
func gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w (%v)", ErrGone, err)
}

func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var v T
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		return v, fmt.Errorf("%w (%s %s: %v)", ErrGone, method, path, err)
	}
	return v, nil
}

// stream reads streamLines until the last and calls progress, if not nil, for each event.
func (c *Client) stream(ctx context.Context, method, path string, body any, progress func(network.Event)) error {
	return c.lines(ctx, method, path, body, func(l streamLine) {
		if l.Event != nil && progress != nil {
			progress(*l.Event)
		}
	})
}

// lines calls f for each streamLine but the last.
func (c *Client) lines(ctx context.Context, method, path string, body any, f func(streamLine)) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var l streamLine
		if err := dec.Decode(&l); err != nil {
			return gone(ctx, fmt.Errorf("%s %s: %w", method, path, err))
		}
		switch {
		case l.Error != "":
			return &Error{Message: l.Error}
		case l.Done:
			return nil
		}
		f(l)
	}
}

// A streamLine is a line of an answer that comes bit by bit. The last has Done or Error.
type streamLine struct {
	// Diff is what is to be done (POST /v1/apply).
	Diff  *topo.Diff     `json:"diff,omitempty"`
	Event *network.Event `json:"event,omitempty"`
	Error string         `json:"error,omitempty"`
	Done  bool           `json:"done,omitempty"`
}
