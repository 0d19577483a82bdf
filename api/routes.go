package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"time"

	"weft/network"
	"weft/topo"
)

// A route is a request that the server answers. openapi.json describes all of them, which a
// test holds against this.
type route struct {
	pattern string // method and path, as http.ServeMux has it
	doc     string // what it does, one line
	// query are parameters after the path.
	query []parameter
	// request and response are types of the JSON bodies; nil: none.
	request, response reflect.Type
	// lines says that the response is a line of JSON for each value, until it ends.
	lines bool
	// text says that the response is plain text.
	text bool
	// protocol is what the connection is upgraded to; empty: it is not.
	protocol string
	serve    http.HandlerFunc
}

// A parameter is one of a query.
type parameter struct {
	name, doc string
	of        reflect.Type
}

// routes returns all routes of the server.
func (s *Server) routes() []route {
	return slices.Concat(s.lifeRoutes(), s.useRoutes(), s.changeRoutes(), s.linkRoutes(), s.dpdkRoutes())
}

// lifeRoutes are those of the network as a whole.
func (s *Server) lifeRoutes() []route {
	return []route{
		{pattern: "GET /v1/info", doc: "What network this is, in brief.", response: typeOf[Info](), serve: s.info},
		{pattern: "PUT /v1/network", doc: "Build the network of a plan.", request: typeOf[topo.Plan](), response: typeOf[streamLine](), lines: true, serve: s.up},
		{pattern: "PUT /v1/confinement", doc: "Confine the programs on the nodes of the network that is to be built.", request: typeOf[confinement](), serve: s.confine},
		{pattern: "POST /v1/network/start", doc: "Start controllers and switches.", response: typeOf[streamLine](), lines: true, serve: s.start},
		answer(s, "POST /v1/network/run", "Run the commands of the plan that are due at the start, and from then on the others at their times.", func(ctx context.Context, n *network.Network, _ *http.Request, _ none) (none, error) {
			return none{}, n.RunCommands(ctx)
		}),
		{pattern: "DELETE /v1/network", doc: "End the network and all that runs in it.", response: typeOf[streamLine](), lines: true, serve: s.down},
		{pattern: "GET /v1/events", doc: "What happens from now on, until the network or the client ends; without follow, what happened.", response: typeOf[streamLine](), lines: true, serve: s.events,
			query: []parameter{{"since", "also what happened from then on, as far as it is kept (RFC 3339)", typeOf[time.Time]()},
				{"follow", "go on until the end (true)", typeOf[bool]()}}},
		answer(s, "GET /v1/logs", "The logs that there are.", func(_ context.Context, n *network.Network, _ *http.Request, _ none) ([]network.LogInfo, error) {
			return n.Logs(), nil
		}),
		{pattern: "GET /v1/logs/{name}", doc: "A log, as text.", text: true, serve: s.log,
			query: []parameter{{"tail", "only the last lines, so many", typeOf[int]()},
				{"follow", "go on with what is written from then on (false)", typeOf[bool]()}}},
		answer(s, "GET /v1/network", "What the network is now.", func(_ context.Context, n *network.Network, _ *http.Request, _ none) (network.State, error) {
			return n.State(), nil
		}),
		answer(s, "GET /v1/nodes/{name}", "All that is known of a node.", func(_ context.Context, n *network.Network, r *http.Request, _ none) (network.NodeState, error) {
			return n.Node(r.PathValue("name"))
		}),
		answer(s, "POST /v1/wait", "Wait until all switches have their controllers; the connections that are missing.", func(ctx context.Context, n *network.Network, _ *http.Request, q waitRequest) ([]network.ControlConnection, error) {
			return n.Wait(ctx, q.Timeout)
		}),
	}
}

// useRoutes are those that work with the network as it is.
func (s *Server) useRoutes() []route {
	return []route{
		answer(s, "POST /v1/ping", "Exchange echoes between hosts.", func(ctx context.Context, n *network.Network, _ *http.Request, q network.PingRequest) (network.PingResult, error) {
			return n.Ping(ctx, q)
		}),
		answer(s, "POST /v1/iperf", "Measure throughput between two hosts.", func(ctx context.Context, n *network.Network, _ *http.Request, q network.IperfRequest) (network.IperfResult, error) {
			return n.Iperf(ctx, q)
		}),
		answer(s, "POST /v1/ping/train", "Send echo requests from a host to another at even times.", func(ctx context.Context, n *network.Network, _ *http.Request, q network.TrainRequest) (network.TrainResult, error) {
			return n.Train(ctx, q)
		}),
		answer(s, "GET /v1/switches/{name}/flows", "The flow table of a switch.", func(ctx context.Context, n *network.Network, r *http.Request, _ none) ([]network.Flow, error) {
			return n.Flows(ctx, r.PathValue("name"))
		}),
		{pattern: "GET /v1/timing", doc: "Watch how well the machine keeps its time.", response: typeOf[network.Timing](), lines: true, serve: s.timing,
			query: []parameter{{"interval", "between samples, as Go writes it (1s)", typeOf[string]()}}},
		answer(s, "GET /v1/drops", "Frames that were lost where none should be.", func(ctx context.Context, n *network.Network, _ *http.Request, _ none) ([]network.Drop, error) {
			return n.Drops(ctx)
		}),
		answer(s, "POST /v1/reach", "Try whether hosts reach a port of others.", func(ctx context.Context, n *network.Network, _ *http.Request, q network.ReachRequest) (network.ReachResult, error) {
			return n.Reach(ctx, q)
		}),
		{pattern: "POST /v1/shell", doc: "Run a command line in a node's persistent shell.", request: typeOf[ShellRequest](), protocol: shellProtocol, serve: s.shell},
		{pattern: "POST /v1/exec", doc: "Run a program on a node with files of the caller's.", request: typeOf[network.ExecRequest](), protocol: execProtocol, serve: s.exec},
		{pattern: "POST /v1/captures", doc: "Capture packets.", request: typeOf[network.CaptureRequest](), protocol: captureProtocol, serve: s.capture},
		{pattern: "GET /v1/control/messages", doc: "Follow the OpenFlow messages.", response: typeOf[network.ControlMessage](), lines: true, serve: s.controlMessages},
		answer(s, "GET /v1/channels", "The control channels, with what is done to them.", func(_ context.Context, n *network.Network, _ *http.Request, _ none) ([]network.ChannelState, error) {
			return n.Channels(), nil
		}),
		answer(s, "PATCH /v1/channels/{switch}/{controller}", "Change what is done to a control channel.", func(_ context.Context, n *network.Network, r *http.Request, c network.ChannelChange) (network.ChannelState, error) {
			return n.SetChannel(r.PathValue("switch"), r.PathValue("controller"), c)
		}),
	}
}

// changeRoutes are those that change what the network consists of.
func (s *Server) changeRoutes() []route {
	return []route{
		{pattern: "POST /v1/apply", doc: "Make the network the one that a description says, or say what that would change.", request: typeOf[network.ApplyRequest](), response: typeOf[streamLine](), lines: true, serve: s.apply},
		answer(s, "POST /v1/hosts", "Add a host.", func(ctx context.Context, n *network.Network, _ *http.Request, h topo.Host) (topo.PlannedHost, error) {
			return n.AddHost(ctx, h)
		}),
		answer(s, "POST /v1/switches", "Add a switch.", func(ctx context.Context, n *network.Network, _ *http.Request, sw topo.Switch) (topo.PlannedSwitch, error) {
			return n.AddSwitch(ctx, sw)
		}),
		answer(s, "PATCH /v1/switches/{name}", "Start or stop a switch.", func(ctx context.Context, n *network.Network, r *http.Request, q switchChange) (none, error) {
			return none{}, n.SetSwitch(ctx, r.PathValue("name"), q.Running)
		}),
		answer(s, "DELETE /v1/nodes/{name}", "Remove a host or switch and its links.", func(ctx context.Context, n *network.Network, r *http.Request, _ none) (none, error) {
			return none{}, n.DeleteNode(ctx, r.PathValue("name"))
		}),
		answer(s, "POST /v1/links", "Add a link.", func(ctx context.Context, n *network.Network, _ *http.Request, l topo.Link) (topo.PlannedLink, error) {
			return n.AddLink(ctx, l)
		}),
		answer(s, "DELETE /v1/links/{a}/{b}", "Remove the links between two nodes.", func(ctx context.Context, n *network.Network, r *http.Request, _ none) (none, error) {
			return none{}, n.DeleteLink(ctx, r.PathValue("a"), r.PathValue("b"))
		}),
	}
}

// none is an empty body.
type none struct{}

type (
	waitRequest struct {
		// Timeout bounds the wait, nanoseconds.
		Timeout time.Duration `json:"timeout"`
	}
	switchChange struct {
		Running bool `json:"running"`
	}
)

// typeOf returns the type T, nil for none.
func typeOf[T any]() reflect.Type {
	t := reflect.TypeFor[T]()
	if t == reflect.TypeFor[none]() {
		return nil
	}
	return t
}

// answer is a route that decodes the body into a Q, calls f and encodes its answer.
func answer[Q, A any](s *Server, pattern, doc string, f func(context.Context, *network.Network, *http.Request, Q) (A, error)) route {
	return route{pattern: pattern, doc: doc, request: typeOf[Q](), response: typeOf[A](), serve: func(w http.ResponseWriter, r *http.Request) {
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
	}}
}

// with returns the route with parameters after its path.
func (r route) with(query ...parameter) route {
	r.query = query
	return r
}

// errRequest is matched by errors of requests that are malformed.
var errRequest = errors.New("request")

func decode(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errRequest, err)
	}
	return nil
}

// fail answers with an error: 400 for what is malformed, 404 for a node that there is not, 409 for what cannot be now, 422
// for what the network refuses.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, errRequest):
		status = http.StatusBadRequest
	case errors.Is(err, network.ErrNoNode):
		status = http.StatusNotFound
	case errors.Is(err, errNoNetwork), errors.Is(err, errHasNetwork):
		status = http.StatusConflict
	}
	failWith(w, status, err)
}

func failWith(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(Error{Message: err.Error()})
}
