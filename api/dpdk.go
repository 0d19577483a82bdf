package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"weft/dpdkhost"
	"weft/network"
	"weft/topo"
)

type (
	scaleRequest struct {
		Service   int `json:"service"`
		Instances int `json:"instances"`
	}
	nfCommand struct {
		Instance int `json:"instance"`
		// Words of the command.
		Words []string `json:"words"`
	}
	nfAnswer struct {
		// Text for people.
		Text string `json:"text"`
	}
)

// dpdkRoutes are those of DPDK nodes.
func (s *Server) dpdkRoutes() []route {
	return []route{
		answer(s, "GET /v1/dpdk/{name}", "The ports, network functions (NFs), chains and flows of a DPDK node, with their counters.", func(ctx context.Context, n *network.Network, r *http.Request, _ none) (*dpdkhost.State, error) {
			return n.NFs(ctx, r.PathValue("name"))
		}),
		answer(s, "PATCH /v1/dpdk/{name}", "Change chains or flows of a DPDK node, or the processor of an NF.", func(ctx context.Context, n *network.Network, r *http.Request, c dpdkhost.Change) (none, error) {
			return none{}, n.ChangeNFs(ctx, r.PathValue("name"), c)
		}),
		answer(s, "POST /v1/dpdk/{name}/nfs", "Start instances of an NF; without a service, of the next.", func(ctx context.Context, n *network.Network, r *http.Request, f topo.NF) ([]dpdkhost.Instance, error) {
			return n.StartNF(ctx, r.PathValue("name"), f)
		}),
		answer(s, "DELETE /v1/dpdk/{name}/nfs/{instance}", "End an instance of an NF.", func(ctx context.Context, n *network.Network, r *http.Request, _ none) (none, error) {
			id, err := strconv.Atoi(r.PathValue("instance"))
			if err != nil {
				return none{}, fmt.Errorf("%w: %q is not the number of an instance", errRequest, r.PathValue("instance"))
			}
			return none{}, n.StopNF(ctx, r.PathValue("name"), id, r.URL.Query().Get("now") == "true")
		}).with(parameter{"now", "do not wait for its last packets (false)", typeOf[bool]()}),
		answer(s, "POST /v1/dpdk/{name}/scale", "Make a service have so many instances.", func(ctx context.Context, n *network.Network, r *http.Request, q scaleRequest) (none, error) {
			return none{}, n.ScaleNF(ctx, r.PathValue("name"), q.Service, q.Instances)
		}),
		answer(s, "POST /v1/dpdk/{name}/command", "Say something to an NF, and have its answer.", func(ctx context.Context, n *network.Network, r *http.Request, q nfCommand) (nfAnswer, error) {
			text, err := n.CommandNF(ctx, r.PathValue("name"), q.Instance, q.Words)
			return nfAnswer{text}, err
		}),
	}
}

func dpdkPath(node string) string { return "/v1/dpdk/" + url.PathEscape(node) }

// NFs tells of a DPDK node: its ports, network functions (NFs), chains and flows.
func (c *Client) NFs(ctx context.Context, node string) (*dpdkhost.State, error) {
	return call[*dpdkhost.State](ctx, c, http.MethodGet, dpdkPath(node), nil)
}

// ChangeNFs changes chains or flows of a DPDK node, or the processor of an NF.
func (c *Client) ChangeNFs(ctx context.Context, node string, change dpdkhost.Change) error {
	_, err := call[none](ctx, c, http.MethodPatch, dpdkPath(node), change)
	return err
}

// StartNF starts instances of an NF and waits until they take packets.
func (c *Client) StartNF(ctx context.Context, node string, f topo.NF) ([]dpdkhost.Instance, error) {
	return call[[]dpdkhost.Instance](ctx, c, http.MethodPost, dpdkPath(node)+"/nfs", f)
}

// StopNF ends an instance, at once or after its last packets.
func (c *Client) StopNF(ctx context.Context, node string, instance int, atOnce bool) error {
	_, err := call[none](ctx, c, http.MethodDelete, fmt.Sprintf("%s/nfs/%d?now=%v", dpdkPath(node), instance, atOnce), nil)
	return err
}

// ScaleNF makes a service have so many instances.
func (c *Client) ScaleNF(ctx context.Context, node string, service, instances int) error {
	_, err := call[none](ctx, c, http.MethodPost, dpdkPath(node)+"/scale", scaleRequest{service, instances})
	return err
}

// CommandNF says something to an NF and returns its answer, text for people.
func (c *Client) CommandNF(ctx context.Context, node string, instance int, words []string) (string, error) {
	a, err := call[nfAnswer](ctx, c, http.MethodPost, dpdkPath(node)+"/command", nfCommand{instance, words})
	return a.Text, err
}
