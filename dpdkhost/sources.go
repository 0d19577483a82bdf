package dpdkhost

import (
	"embed"
	"io/fs"
)

//go:embed shm/*.go nf/*.go nf/sample/main.go nf/c
var sources embed.FS

// Sources returns the files that a user's own NF is built with: the packages nf and shm, the
// header for C, and samples.
func Sources() fs.FS { return sources }
