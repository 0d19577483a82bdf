// Package topologies has sample networks to try and to copy: weft topologies lists them, weft
// up @NAME builds one. Each says in its first lines what it is and what to try. It imports
// nothing.
package topologies

import "embed"

// Files are the sample networks.
//
//go:embed *.yaml *.graphml
var Files embed.FS
