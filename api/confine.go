package api

import (
	"context"
	"encoding/json"
	"net/http"

	"weft/network"
)

// confinement is what confined programs may do with files.
type confinement struct {
	// Writable are the only directories that programs on nodes may write to, Readable those
	// that they see even where they would see an empty place, as below /tmp. Absolute paths.
	Writable []string `json:"writable"`
	Readable []string `json:"readable"`
}

// Confine keeps the programs on nodes of the network that is to be built from changing
// anything of the machine's but the directories in writable. Those in readable they see even
// where they would see an empty place, as below /tmp.
func (c *Client) Confine(ctx context.Context, writable, readable []string) error {
	_, err := call[none](ctx, c, http.MethodPut, "/v1/confinement", confinement{writable, readable})
	return err
}

func (s *Server) confine(w http.ResponseWriter, r *http.Request) {
	var q confinement
	err := decode(r.Body, &q)
	s.mu.Lock()
	if err == nil && s.net != nil {
		err = errHasNetwork
	}
	if err == nil {
		s.env.Confine = &network.Confinement{Writable: q.Writable, Readable: q.Readable}
	}
	s.mu.Unlock()
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(none{})
}
