package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"weft/dpdkhost"
	"weft/topo"
)

// A Client is a manager's process as a dpdkhost.Backend.
type Client struct {
	http *http.Client
}

var (
	_ dpdkhost.Backend   = (*Client)(nil)
	_ dpdkhost.Commander = (*Client)(nil)
	_ dpdkhost.Steered   = (*Client)(nil)
)

// NewClient returns a client of the manager whose Config.Dir is dir.
func NewClient(dir string) *Client {
	path := filepath.Join(dir, controlName)
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 4, IdleConnTimeout: time.Minute,
	}}}
}

// call sends a request and reads the answer.
func call[A any](ctx context.Context, c *Client, method, path string, q any) (a A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://manager"+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return a, fmt.Errorf("NF manager: %w", ctx.Err())
		}
		return a, fmt.Errorf("%w (%w)", dpdkhost.ErrEnded, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Error == "" {
			return a, fmt.Errorf("NF manager: %s", resp.Status)
		}
		if f.Unsupported {
			return a, unsupported(f.Error)
		}
		return a, errors.New(f.Error)
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return a, fmt.Errorf("%w (its answer broke off: %w)", dpdkhost.ErrEnded, err)
	}
	io.Copy(io.Discard, resp.Body) // so that the connection can be used again
	return a, nil
}

// An unsupported error wraps dpdkhost.ErrUnsupported without repeating it.
type unsupported string

func (u unsupported) Error() string   { return string(u) }
func (u unsupported) Is(e error) bool { return e == dpdkhost.ErrUnsupported }

// State tells of ports, instances, chains and flows.
func (c *Client) State(ctx context.Context) (*dpdkhost.State, error) {
	return call[*dpdkhost.State](ctx, c, http.MethodGet, "/state", nil)
}

// Start starts instances of an NF and waits until they take packets.
func (c *Client) Start(ctx context.Context, f topo.NF) ([]dpdkhost.Instance, error) {
	return call[[]dpdkhost.Instance](ctx, c, http.MethodPost, "/start", f)
}

// Stop ends an instance.
func (c *Client) Stop(ctx context.Context, instance int, atOnce bool) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/stop", stopping{instance, atOnce})
	return err
}

// Change changes chains, flows or an instance.
func (c *Client) Change(ctx context.Context, change dpdkhost.Change) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/change", change)
	return err
}

// AddPorts opens ports while the manager runs: all, or none.
func (c *Client) AddPorts(ctx context.Context, list ...Port) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/ports/add", list)
	return err
}

// RemovePorts takes ports away while the manager runs; the rest goes on. Those that are not there,
// as one whose interface vanished, are no error.
func (c *Client) RemovePorts(ctx context.Context, numbers ...int) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/ports/remove", numbers)
	return err
}

// Command sends words to an NF and returns what it answers.
func (c *Client) Command(ctx context.Context, instance int, words []string) (string, error) {
	return call[string](ctx, c, http.MethodPost, "/command", commanding{instance, words})
}

// SetControllers connects the node to these controllers and no others.
func (c *Client) SetControllers(ctx context.Context, targets []string) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/controllers", targets)
	return err
}

// endTimeout bounds how long a manager takes to say that it ends.
const endTimeout = 5 * time.Second

// Close asks the manager to end. One that has ended already is no error.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	_, err := call[struct{}](ctx, c, http.MethodPost, "/end", struct{}{})
	c.http.CloseIdleConnections()
	if errors.Is(err, dpdkhost.ErrEnded) {
		return nil
	}
	return err
}
