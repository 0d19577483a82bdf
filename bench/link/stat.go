package main

import "slices"

func sorted(list []int64) []int64 {
	s := slices.Clone(list)
	slices.Sort(s)
	return s
}
