package netfile

import (
	"context"
	"path/filepath"

	"go.yaml.in/yaml/v4"

	"weft/topo"
)

// ParseYAML reads the text of a YAML file, for other formats that have a network in them.
// What is wrong with it is an Errors. Nodes know their places, and scalars are as they were
// written.
func ParseYAML(name string, text []byte) (*yaml.Node, error) {
	d, err := parseYAML(name, text)
	if err != nil {
		return nil, err
	}
	return d.root, nil
}

// ReadNode reads the network that a part of the file at path describes. What is wrong with it
// is an Errors.
func ReadNode(ctx context.Context, path string, n *yaml.Node, p Params) (topo.Spec, error) {
	return readDocument(&document{complaint: complaint{file: path}, root: n}, beside{filepath.Dir(path), p})
}
