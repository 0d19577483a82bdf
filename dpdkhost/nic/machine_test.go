package nic

import (
	"slices"
	"testing"
)

func TestParseList(t *testing.T) {
	for text, want := range map[string][]int{"": nil, "0": {0}, "0-2,5": {0, 1, 2, 5}, " 7 , 9-9\n": {7, 9}} {
		if got, err := parseList(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "3-1", "-1", "1-", "0-99999999", "1;2"} {
		if got, err := parseList(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
