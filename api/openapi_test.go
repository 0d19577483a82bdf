package api

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

var update = flag.Bool("update", false, "rewrite openapi.json")

// object is a JSON object.
type object = map[string]any

// TestOpenAPI holds openapi.json against the routes that the server has and the types that it
// reads and writes: whatever is added to these must be in it.
func TestOpenAPI(t *testing.T) {
	d := &describer{schemas: object{}, types: map[string]reflect.Type{}, docs: comments(t)}
	want, err := json.MarshalIndent(d.document((&Server{}).routes()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("openapi.json is not what the server does: go test ./api -update rewrites it")
	}
	doc, err := openapi3.NewLoader().LoadFromData(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

// Each route says what it does and is of version 1.
func TestRoutes(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range (&Server{}).routes() {
		method, where, ok := strings.Cut(r.pattern, " ")
		if !ok || !strings.HasPrefix(where, "/v1/") || !slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, method) {
			t.Errorf("route %q", r.pattern)
		}
		if seen[r.pattern] || r.serve == nil || !strings.HasSuffix(r.doc, ".") {
			t.Errorf("route %q: there twice, without a handler, or without a sentence about it", r.pattern)
		}
		seen[r.pattern] = true
	}
}

// A describer makes an OpenAPI document.
type describer struct {
	schemas object
	types   map[string]reflect.Type // of schemas
	docs    map[string]string       // comments, by package.Type and package.Type.Field
}

func (d *describer) document(routes []route) object {
	paths := object{}
	for _, r := range routes {
		method, where, _ := strings.Cut(r.pattern, " ")
		item, _ := paths[where].(object)
		if item == nil {
			item = object{}
			paths[where] = item
		}
		item[strings.ToLower(method)] = d.operation(r, where)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "weft", "version": "1",
			"description": "The API of one running network. It is served on a Unix socket that only the network's user may open: /run/weft/NAME/api.sock, for an ordinary user $XDG_RUNTIME_DIR/weft/NAME/api.sock. Lengths of time are in nanoseconds.",
		},
		"servers":    []any{object{"url": "http://weft", "description": "any host: what counts is the socket"}},
		"paths":      paths,
		"components": object{"schemas": d.schemas},
	}
}

func (d *describer) operation(r route, where string) object {
	op := object{"summary": r.doc, "operationId": operationID(r.pattern)}
	parameters := []any{}
	for _, m := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(where, -1) {
		parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range r.query {
		parameters = append(parameters, object{"name": q.name, "in": "query", "description": q.doc, "schema": d.schema(q.of)})
	}
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	if r.request != nil {
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": d.schema(r.request)}}}
	}
	status, answer := "200", object{"description": "done"}
	switch {
	case r.protocol != "":
		status = "101"
		answer["description"] = "the connection carries frames of the protocol " + r.protocol + ", which the request names in the header Upgrade"
	case r.text:
		answer["content"] = object{"text/plain": object{"schema": object{"type": "string"}}}
	case r.lines:
		answer["description"] = "a line of JSON for each value"
		answer["content"] = object{"application/jsonl": object{"schema": d.schema(r.response)}}
	case r.response != nil:
		answer["content"] = object{"application/json": object{"schema": d.schema(r.response)}}
	}
	op["responses"] = object{status: answer, "default": object{
		"description": "an error: 400 for a malformed request, 404 for a node that there is not, 409 for what cannot be now, 422 for what the network refuses",
		"content":     object{"application/json": object{"schema": d.schema(reflect.TypeFor[Error]())}},
	}}
	return op
}

// operationID makes getNodesName of GET /v1/nodes/{name}.
func operationID(pattern string) string {
	method, where, _ := strings.Cut(pattern, " ")
	id := strings.ToLower(method)
	for _, word := range regexp.MustCompile(`\w+`).FindAllString(strings.TrimPrefix(where, "/v1"), -1) {
		id += strings.ToUpper(word[:1]) + word[1:]
	}
	return id
}

// schema describes the JSON of a type.
func (d *describer) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "format": "int64", "description": "nanoseconds"}
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	}
	if t.Kind() == reflect.Pointer {
		return d.schema(t.Elem())
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return object{"type": "string"}
	}
	if t.Implements(reflect.TypeFor[json.Marshaler]()) {
		return d.named(t, func() object { return object{"type": "object", "additionalProperties": true} })
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "format": "byte"}
		}
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Array:
		return object{"type": "array", "items": d.schema(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Interface:
		return object{}
	case reflect.Struct:
		return d.named(t, func() object {
			properties := object{}
			d.fields(t, properties)
			return object{"type": "object", "properties": properties}
		})
	}
	panic("no schema for " + t.String())
}

// named puts the schema of a type with a name beside the others, and refers to it.
func (d *describer) named(t reflect.Type, make func() object) object {
	// Of Change[weft/topo.Host] it makes ChangeOfHost.
	base, of, generic := strings.Cut(t.Name(), "[")
	name := base
	if generic {
		name += "Of" + strings.TrimSuffix(of[strings.LastIndexByte(of, '.')+1:], "]")
	}
	if name == "" {
		return make()
	}
	if first := d.types[name]; first != nil && first != t {
		name = strings.ToUpper(path.Base(t.PkgPath())[:1]) + path.Base(t.PkgPath())[1:] + name
	}
	if d.schemas[name] == nil {
		d.types[name] = t
		d.schemas[name] = object{} // it may have itself as a part
		s := make()
		if doc := d.docs[path.Base(t.PkgPath())+"."+base]; doc != "" {
			s["description"] = doc
		}
		d.schemas[name] = s
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// fields describes a struct's fields, with those of the structs embedded in it.
func (d *describer) fields(t reflect.Type, into object) {
	base, _, _ := strings.Cut(t.Name(), "[")
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "-":
			continue
		case f.Anonymous && tag == "":
			d.fields(f.Type, into)
			continue
		case !f.IsExported():
			continue
		case tag == "":
			tag = f.Name
		}
		s := d.schema(f.Type)
		if doc := d.docs[path.Base(t.PkgPath())+"."+base+"."+f.Name]; doc != "" {
			if ref := s["$ref"]; ref != nil {
				s = object{"allOf": []any{s}}
			}
			s["description"] = doc
		}
		into[tag] = s
	}
}

// comments reads the comments on types and fields of the packages whose values the API has.
func comments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, dir := range []string{".", "../network", "../topo", "../link", "../control", "../node", "../capture", "../conversation"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path.Join(dir, e.Name()), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range f.Decls {
				if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.TYPE {
					typeComments(f.Name.Name, g, docs)
				}
			}
		}
	}
	return docs
}

func typeComments(pkg string, g *ast.GenDecl, docs map[string]string) {
	text := func(groups ...*ast.CommentGroup) string {
		for _, c := range groups {
			if c != nil {
				return strings.Join(strings.Fields(c.Text()), " ")
			}
		}
		return ""
	}
	for _, spec := range g.Specs {
		ts := spec.(*ast.TypeSpec)
		name := fmt.Sprintf("%s.%s", pkg, ts.Name.Name)
		docs[name] = text(ts.Doc, g.Doc)
		if s, ok := ts.Type.(*ast.StructType); ok {
			for _, field := range s.Fields.List {
				for _, n := range field.Names {
					docs[name+"."+n.Name] = text(field.Doc, field.Comment)
				}
			}
		}
	}
}
