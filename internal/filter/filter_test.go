package filter

import "testing"

func FuzzParseProgram(f *testing.F) {
	f.Add("1\n6 0 0 262144\n")
	f.Add("2\n40 0 0 12\n6 0 0 0")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parseProgram(text); err == nil && len(p) == 0 {
			t.Error("a program without instructions")
		}
	})
}
