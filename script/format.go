package script

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// maxWidth bounds the width and precision of a conversion.
const maxWidth = 1000

// interpolate is FORMAT % VALUES. Starlark has no flags, width and precision, which people
// write to show rates and times; with them, a conversion does what Python's and C's do.
func interpolate(format string, x starlark.Value) (starlark.Value, error) {
	if !hasSpec(format) {
		return starlark.Binary(syntax.PERCENT, starlark.String(format), x)
	}
	values := starlark.Tuple{x}
	if t, ok := x.(starlark.Tuple); ok {
		values = t
	}
	var out strings.Builder
	for {
		text, rest, ok := strings.Cut(format, "%")
		out.WriteString(text)
		if !ok {
			break
		}
		if rest == "" {
			return nil, errors.New("incomplete format")
		}
		if rest[0] == '%' {
			out.WriteByte('%')
			format = rest[1:]
			continue
		}
		n := len(rest) - len(strings.TrimLeft(rest, specCharacters))
		if n == len(rest) {
			return nil, errors.New("incomplete format")
		}
		spec, verb := rest[:n], rest[n]
		format = rest[n+1:]
		if len(values) == 0 {
			return nil, errors.New("not enough values for the format")
		}
		piece, err := convert(spec, verb, values[0])
		if err != nil {
			return nil, err
		}
		if values = values[1:]; out.Len()+len(piece) > maxText {
			return nil, fmt.Errorf("the text would have more than %d bytes", maxText)
		}
		out.WriteString(piece)
	}
	if len(values) > 0 {
		return nil, errors.New("there are more values than the format has conversions")
	}
	return starlark.String(out.String()), nil
}

const specCharacters = "-+ #0123456789."

// hasSpec reports whether a conversion of format has flags, width or precision.
func hasSpec(format string) bool {
	for i := strings.IndexByte(format, '%'); i >= 0 && i+1 < len(format); {
		if strings.IndexByte(specCharacters, format[i+1]) >= 0 {
			return true
		}
		next := strings.IndexByte(format[i+2:], '%')
		if next < 0 {
			break
		}
		i += 2 + next
	}
	return false
}

// convert writes one value.
func convert(spec string, verb byte, v starlark.Value) (string, error) {
	number := 0
	for _, c := range spec {
		if c < '0' || c > '9' {
			number = 0
			continue
		}
		if number = 10*number + int(c-'0'); number > maxWidth {
			return "", fmt.Errorf("%%%s%c is wider than %d characters", spec, verb, maxWidth)
		}
	}
	if strings.Count(spec, ".") > 1 {
		return "", fmt.Errorf("%%%s%c has two points", spec, verb)
	}
	switch verb {
	case 'e', 'E', 'f', 'F', 'g', 'G':
		f, ok := starlark.AsFloat(v)
		if !ok {
			return "", fmt.Errorf("%%%s%c wants a number, not %s", spec, verb, shortly(v))
		}
		return fmt.Sprintf("%"+spec+string(verb), f), nil
	case 'd', 'i', 'o', 'x', 'X':
		if f, ok := v.(starlark.Float); ok && math.Abs(float64(f)) < 1<<62 {
			v = starlark.MakeInt64(int64(f))
		}
		n, ok := v.(starlark.Int)
		if !ok {
			return "", fmt.Errorf("%%%s%c wants a whole number, not %s", spec, verb, shortly(v))
		}
		return fmt.Sprintf("%"+spec+strings.Replace(string(verb), "i", "d", 1), n.BigInt()), nil
	}
	text, err := starlark.Binary(syntax.PERCENT, starlark.String("%"+string(verb)), starlark.Tuple{v})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%"+strings.NewReplacer("+", "", " ", "", "#", "", "0", "0").Replace(spec)+"s", string(text.(starlark.String))), nil
}

// round is the function round(x, digits=0), and sum sum(values, start=0): Python's, which
// Starlark lacks.
func round(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var x starlark.Value
	var digits int
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "x", &x, "digits?", &digits); err != nil {
		return nil, err
	}
	f, ok := starlark.AsFloat(x)
	if !ok || digits < -300 || digits > 300 {
		return nil, fmt.Errorf("round: %s is not a number", shortly(x))
	}
	scale := math.Pow(10, float64(digits))
	f = math.RoundToEven(f*scale) / scale
	if digits > 0 {
		return starlark.Float(f), nil
	}
	return starlark.NumberToInt(starlark.Float(f))
}

func sum(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var values starlark.Iterable
	var total starlark.Value = starlark.MakeInt(0)
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "values", &values, "start?", &total); err != nil {
		return nil, err
	}
	for v := range starlark.Elements(values) {
		var err error
		if total, err = (operand{Value: v}).Binary(syntax.PLUS, total, starlark.Right); err != nil {
			return nil, fmt.Errorf("sum: %w", err)
		}
	}
	return total, nil
}
