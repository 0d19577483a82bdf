// Package link realises links between namespaces: a driver makes both ends in
// place, named, addressed and up. It knows no nodes.
package link
