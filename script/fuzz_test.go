package script

import (
	"strings"
	"testing"
)

// No script makes weft panic or hang: it ends with a network or an error that says where.
func FuzzScript(f *testing.F) {
	for _, text := range badScripts {
		if len(text) < 200 {
			f.Add(text)
		}
	}
	f.Add("load('lib.star', 'f')\nfor h in f(3): link(h, switch('s' + h.name, protocols=['OpenFlow13']), bw=10, ab={'loss': 1})\n")
	f.Add("k = param('k', 2, 'n', choices=[1, 2])\ntopo.tree(k, 2, link={'delay': '5ms'}, prefix='x')\nnet.start()\nping('a -> b')\n")
	f.Add("r = random(7)\nx = r.sample(range(9), 3) + [r.randint(1, 5), '%s' % r.shuffled({1: 2})]\nhost('h', files={'/a/b': 'c' * 3})\n")
	f.Fuzz(func(t *testing.T, text string) {
		a := inProcess(text, map[string]string{"k": "1"}, 20_000)
		if len(a.Errors) == 0 {
			if err := a.Spec.Validate(); err != nil {
				t.Errorf("the network is not valid: %v", err)
			}
			return
		}
		for _, e := range a.Errors {
			if e.Message == "" || strings.Contains(e.Message, errPanic.Error()) {
				t.Errorf("%s", e)
			}
		}
	})
}
