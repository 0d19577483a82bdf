package ovs

import (
	"encoding/json"
	"sort"

	"github.com/digitalocean/go-openvswitch/ovsdb"
)

// The operations of RFC 7047 section 5.2 that go-openvswitch does not have.

// row holds column values as RFC 7047 section 5.1 writes them.
type row map[string]any

type insert struct {
	Table string
	Row   row
	// As names the new row for set references within the transaction.
	As string
}

func (i insert) MarshalJSON() ([]byte, error) {
	m := map[string]any{"op": "insert", "table": i.Table, "row": i.Row}
	if i.As != "" {
		m["uuid-name"] = i.As
	}
	return json.Marshal(m)
}

// cond is [column, function, value].
type cond [3]any

type update struct {
	Table string
	Where []cond
	Row   row
}

func (u update) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"op": "update", "table": u.Table, "where": orEmpty(u.Where), "row": u.Row})
}

// mutate applies [column, mutator, value] triples.
type mutate struct {
	Table     string
	Where     []cond
	Mutations []cond
}

func (m mutate) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"op": "mutate", "table": m.Table, "where": orEmpty(m.Where), "mutations": m.Mutations})
}

// query selects some columns.
type query struct {
	Table   string
	Where   []cond
	Columns []string
}

func (s query) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"op": "select", "table": s.Table, "where": orEmpty(s.Where), "columns": s.Columns})
}

// wait holds the transaction until the table's only row no longer has the values of Not.
type wait struct {
	Table   string
	Timeout int // ms
	Not     row
}

func (w wait) MarshalJSON() ([]byte, error) {
	cols := make([]string, 0, len(w.Not))
	for c := range w.Not {
		cols = append(cols, c)
	}
	return json.Marshal(map[string]any{"op": "wait", "table": w.Table, "timeout": w.Timeout,
		"where": []cond{}, "columns": cols, "until": "!=", "rows": []row{w.Not}})
}

var _ = []ovsdb.TransactOp{insert{}, update{}, mutate{}, query{}, wait{}}

func orEmpty(c []cond) []cond {
	if c == nil {
		return []cond{}
	}
	return c
}

// named refers to a row inserted As name; set and dict are the collection notations.
func named(name string) any { return [2]string{"named-uuid", name} }

func uuid(id string) any { return [2]string{"uuid", id} }

func set[T any](v []T) any {
	if v == nil {
		v = []T{}
	}
	return [2]any{"set", v}
}

func dict(m map[string]string) any {
	pairs := make([][2]string, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, [2]string{k, v})
	}
	sort.Slice(pairs, func(i, j int) bool { return pairs[i][0] < pairs[j][0] })
	return [2]any{"map", pairs}
}

// rowID returns the UUID in a column value ["uuid", id].
func rowID(v any) string {
	if p, ok := v.([]any); ok && len(p) == 2 {
		id, _ := p[1].(string)
		return id
	}
	return ""
}
