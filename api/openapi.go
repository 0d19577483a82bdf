package api

import _ "embed"

// document is openapi.json, which go test -update writes from the table of routes and the
// types of their bodies.
//
//go:embed openapi.json
var document []byte

// OpenAPI returns the description of the API: a document of OpenAPI 3.1, in JSON.
func OpenAPI() []byte { return append([]byte(nil), document...) }
