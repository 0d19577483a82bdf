package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"weft/dpdkhost"
	"weft/dpdkhost/nf"
	"weft/topo"
)

// maxBody bounds a request's body in bytes.
const maxBody = 1 << 20

// stopping is the body of a request to stop an instance.
type stopping struct {
	Instance int  `json:"instance"`
	AtOnce   bool `json:"atOnce,omitempty"`
}

// commanding is the body of a command to an NF.
type commanding struct {
	Instance int      `json:"instance"`
	Words    []string `json:"words"`
}

// failure is the body of an error.
type failure struct {
	Error       string `json:"error"`
	Unsupported bool   `json:"unsupported,omitempty"`
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	handle(mux, "GET /state", func(ctx context.Context, _ struct{}) (*dpdkhost.State, error) { return s.state(ctx) })
	handle(mux, "POST /start", func(ctx context.Context, f topo.NF) ([]dpdkhost.Instance, error) {
		list, err := s.start(ctx, f)
		if err != nil {
			return nil, err
		}
		snap, err := s.m.Snapshot()
		if err != nil {
			return nil, err
		}
		var started []dpdkhost.Instance
		for _, d := range s.instanceStates(snap.Instances) {
			for _, i := range list {
				if int(i.mi.ID) == d.ID {
					started = append(started, d)
				}
			}
		}
		return started, nil
	})
	handle(mux, "POST /stop", func(_ context.Context, q stopping) (struct{}, error) {
		i, err := s.find(q.Instance)
		if err == nil {
			err = s.remove(i, q.AtOnce)
		}
		return struct{}{}, err
	})
	handle(mux, "POST /ports/add", func(_ context.Context, list []Port) (struct{}, error) { return struct{}{}, s.addPorts(list) })
	handle(mux, "POST /ports/remove", func(_ context.Context, numbers []int) (struct{}, error) {
		return struct{}{}, s.removePorts(numbers)
	})
	handle(mux, "POST /change", func(_ context.Context, c dpdkhost.Change) (struct{}, error) {
		return struct{}{}, s.change(c)
	})
	handle(mux, "POST /controllers", func(_ context.Context, targets []string) (struct{}, error) {
		return struct{}{}, s.setControllers(targets)
	})
	handle(mux, "POST /command", func(ctx context.Context, q commanding) (string, error) {
		i, err := s.find(q.Instance)
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		r, err := s.request(ctx, i, nf.Request{Command: q.Words})
		if err == nil && r.Error != "" {
			err = errors.New(r.Error)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", i.nf.Name, err)
		}
		return r.Text, err
	})
	handle(mux, "POST /end", func(context.Context, struct{}) (struct{}, error) {
		s.end()
		return struct{}{}, nil
	})
	return mux
}

// handle answers requests of one kind with JSON.
func handle[Q, A any](mux *http.ServeMux, pattern string, f func(context.Context, Q) (A, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		var a A
		var err error
		if r.Method == http.MethodPost {
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
			dec.DisallowUnknownFields()
			if err = dec.Decode(&q); err != nil {
				err = fmt.Errorf("%s: the request is not understood: %w", r.URL.Path, err)
			}
		}
		if err == nil {
			a, err = f(r.Context(), q)
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		if err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			enc.Encode(failure{err.Error(), errors.Is(err, dpdkhost.ErrUnsupported)})
			return
		}
		enc.Encode(a)
	})
}
