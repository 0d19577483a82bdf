package ovs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"encoding/json"

	"github.com/digitalocean/go-openvswitch/ovsdb"
)

const database = "Open_vSwitch"

var errNoRow = errors.New("no Open_vSwitch row")

// errLost is matched by errors of a client whose ovsdb-server has gone.
var errLost = errors.New("ovsdb-server ended in the midst of a change")

// A client is go-openvswitch's, with the errors that it drops: its Transact reads only
// the rows of each operation's outcome.
type client struct {
	*ovsdb.Client
	tap *tap
}

func newClient(conn net.Conn) (*client, error) {
	t := &tap{Conn: conn, lost: make(chan struct{})}
	c, err := ovsdb.New(t)
	if err != nil {
		return nil, err
	}
	return &client{c, t}, nil
}

func (c *client) close() {
	c.tap.Conn.Close()
	c.Client.Close()
}

// Transact is go-openvswitch's, which does not notice the end of the connection.
func (c *client) Transact(ctx context.Context, db string, ops []ovsdb.TransactOp) ([]ovsdb.Row, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.tap.lost:
			cancel(errLost)
		case <-ctx.Done():
		}
	}()
	rows, err := c.Client.Transact(ctx, db, ops)
	if err != nil && c.lost() {
		return nil, errLost
	}
	return rows, err
}

// lost reports whether the connection has ended.
func (c *client) lost() bool {
	select {
	case <-c.tap.lost:
		return true
	default:
		return false
	}
}

// transact commits ops and raises next_cfg, or returns the error of the operation that
// failed.
func (c *client) transact(ctx context.Context, ops ...ovsdb.TransactOp) error {
	columns := []string{"next_cfg"}
	ops = append(ops,
		mutate{Table: "Open_vSwitch", Mutations: []cond{{"next_cfg", "+=", 1}}},
		query{Table: "Open_vSwitch", Columns: columns})
	c.tap.forget()
	inside, err := c.Transact(ctx, database, ops)
	if err != nil {
		return err
	}
	// Not all failures end the list of outcomes early: constraints are checked at
	// commit. Only the database tells whether the transaction took place.
	after, err := c.Transact(ctx, database, []ovsdb.TransactOp{query{Table: "Open_vSwitch", Columns: columns}})
	if err != nil {
		return err
	}
	if len(inside) > 0 && len(after) == 1 {
		want, _ := inside[len(inside)-1]["next_cfg"].(float64)
		got, _ := after[0]["next_cfg"].(float64)
		if want > 0 && got >= want {
			return nil
		}
	}
	return fmt.Errorf("switch database refused the change: %s", c.tap.lastError())
}

// A tap keeps the last error text that passed in a reply, and notices the end.
type tap struct {
	net.Conn
	lost chan struct{} // closed when there is no more to read
	once sync.Once
	mu   sync.Mutex
	buf  []byte
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	if len(t.buf)+n > 1<<20 {
		t.buf = t.buf[:0]
	}
	t.buf = append(t.buf, p[:n]...)
	t.mu.Unlock()
	if err != nil {
		t.once.Do(func() { close(t.lost) })
		// The only error that ends go-openvswitch's reader in the midst of a message.
		err = net.ErrClosed
	}
	return n, err
}

func (t *tap) forget() {
	t.mu.Lock()
	t.buf = t.buf[:0]
	t.mu.Unlock()
}

// lastError returns the details of the last failed operation, an object
// {"error": …, "details": …} among the outcomes of a reply.
func (t *tap) lastError() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := "no reason given"
	dec := json.NewDecoder(bytes.NewReader(t.buf))
	for {
		var r struct {
			Result []json.RawMessage `json:"result"`
		}
		if err := dec.Decode(&r); err != nil {
			return text
		}
		for _, o := range r.Result {
			var e struct{ Error, Details string }
			if json.Unmarshal(o, &e) == nil && e.Error != "" {
				text = e.Error
				if e.Details != "" {
					text += ": " + e.Details
				}
			}
		}
	}
}
