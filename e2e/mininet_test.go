package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestMininet types at weft mn as a person would, and wants what Mininet prints, to the
// letter: testdata/mn.txt is the whole dialogue.
func TestMininet(t *testing.T) {
	text, err := os.ReadFile("testdata/mn.txt")
	if err != nil {
		t.Fatal(err)
	}
	const prompt = "mininet> "
	beginning, dialogue, _ := strings.Cut(strings.ReplaceAll(string(text), "\n", "\r\n"), prompt)
	eachUser(t, func(t *testing.T, u user) {
		s := onScreen(t, launch{user: u, args: []string{"mn", "--topo", "linear,2", "--mac", "--wait"}})
		s.sees(beginning)
		for _, exchange := range strings.Split(dialogue, prompt) {
			command, answer, _ := strings.Cut(exchange, "\r\n")
			s.sees(prompt)
			s.types(command + "\r")
			s.sees("\r\n" + answer)
		}
		s.sees("completed in ")
		s.exits(0)
	})
}
