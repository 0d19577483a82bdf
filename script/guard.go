package script

import (
	"fmt"
	"math"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// The size of the largest value that an operation or range makes: list elements, bytes of
// text, bits of a number. Larger ones are mistakes, and the interpreter would make them in one
// step, which nothing can stop.
const (
	maxElements = 1 << 20
	maxText     = 1 << 24
	maxBits     = 1 << 16
)

// guardName is the function that guard puts round operands; no script can spell it.
const guardName = "+*"

// guard rewrites the right operands of + and * so that the size of the result is known
// before it is made: X * Y becomes X * operand(Y). And the left one of %, which so formats as
// Python's does.
func guard(f *syntax.File) { syntax.Walk(f, guardNode) }

func guardNode(n syntax.Node) bool {
	switch n := n.(type) {
	case *syntax.BinaryExpr:
		switch {
		case n.Op == syntax.PERCENT:
			n.X = guarded(guardName, n.OpPos, n.X)
		case n.Op == syntax.STAR, n.Op == syntax.PLUS && !isNumber(n.Y):
			n.Y = guarded(guardName, n.OpPos, n.Y)
		}
	case *syntax.AssignStmt:
		if n.Op == syntax.STAR_EQ || n.Op == syntax.PLUS_EQ && !isNumber(n.RHS) {
			n.RHS = guarded(guardName+"=", n.OpPos, n.RHS)
		}
	}
	return true
}

// isNumber reports whether x is a number as it is written, which no sum makes large.
func isNumber(x syntax.Expr) bool {
	l, ok := x.(*syntax.Literal)
	return ok && (l.Token == syntax.INT || l.Token == syntax.FLOAT)
}

func guarded(name string, pos syntax.Position, x syntax.Expr) syntax.Expr {
	return &syntax.CallExpr{Fn: &syntax.Ident{NamePos: pos, Name: name}, Lparen: pos, Args: []syntax.Expr{x}, Rparen: syntax.End(x)}
}

// guards are the functions behind guard, range with a bound, and what Python has besides.
func guards() starlark.StringDict {
	wrap := func(inPlace bool) *starlark.Builtin {
		return starlark.NewBuiltin(guardName, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
			return operand{args[0], inPlace}, nil
		})
	}
	builtinRange := starlark.Universe["range"].(*starlark.Builtin)
	return starlark.StringDict{
		guardName:       wrap(false),
		guardName + "=": wrap(true),
		"round":         starlark.NewBuiltin("round", round),
		"sum":           starlark.NewBuiltin("sum", sum),
		"range": starlark.NewBuiltin("range", func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			v, err := builtinRange.CallInternal(t, args, kwargs)
			if err != nil {
				return nil, err
			}
			if n := starlark.Len(v); n > maxElements {
				return nil, fmt.Errorf("range: %d numbers are too many; at most %d are made", n, maxElements)
			}
			return v, nil
		}),
	}
}

// An operand is a side of +, * or %, on its way from guard's function to the operation.
type operand struct {
	starlark.Value
	inPlace bool // of += and *=
}

var _ starlark.HasBinary = operand{}

// Binary does what the operator would, if the result is not too large.
func (o operand) Binary(op syntax.Token, x starlark.Value, side starlark.Side) (starlark.Value, error) {
	if side == starlark.Left {
		if format, ok := o.Value.(starlark.String); ok {
			return interpolate(string(format), x)
		}
		return starlark.Binary(op, o.Value, x)
	}
	y := o.Value
	if err := checkResult(op, x, y); err != nil {
		return nil, err
	}
	if list, ok := x.(*starlark.List); ok && o.inPlace && op == syntax.PLUS {
		if more, ok := y.(starlark.Iterable); ok {
			return extend(list, more)
		}
	}
	return starlark.Binary(op, x, y)
}

// extend does what += does to a list.
func extend(list *starlark.List, more starlark.Iterable) (starlark.Value, error) {
	var values []starlark.Value // first: it may be the list itself
	for v := range starlark.Elements(more) {
		values = append(values, v)
	}
	if len(values) == 0 {
		return list, nil
	}
	for _, v := range values {
		if err := list.Append(v); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func checkResult(op syntax.Token, x, y starlark.Value) error {
	if a, ok := x.(starlark.Int); ok {
		if b, ok := y.(starlark.Int); ok {
			if n := bitLen(a) + bitLen(b); op == syntax.STAR && n > maxBits {
				return fmt.Errorf("the product would be a number of %d bits; at most %d are possible", n, maxBits)
			}
			return nil
		}
		x, y = y, x
	}
	size, most, what := sizeOf(x)
	if what == "" {
		return nil
	}
	result := size
	if op == syntax.PLUS {
		other, _, _ := sizeOf(y)
		result += other
	} else if n, ok := y.(starlark.Int); ok {
		times, ok := n.Int64()
		switch {
		case !ok && n.Sign() > 0:
			times = math.MaxInt32
		case times < 0:
			times = 0
		}
		result *= float64(times)
	}
	if result > most {
		return fmt.Errorf("the result would have %.0f %s; at most %.0f are possible", result, what, most)
	}
	return nil
}

// sizeOf returns the size of a value that + and * can make larger, and how large it may be.
func sizeOf(v starlark.Value) (size, most float64, what string) {
	switch v := v.(type) {
	case starlark.String:
		return float64(len(v)), maxText, "bytes"
	case starlark.Bytes:
		return float64(len(v)), maxText, "bytes"
	case *starlark.List:
		return float64(v.Len()), maxElements, "elements"
	case starlark.Tuple:
		return float64(len(v)), maxElements, "elements"
	}
	return float64(max(0, starlark.Len(v))), 0, ""
}

func bitLen(n starlark.Int) int {
	if small, ok := n.Int64(); ok && small > math.MinInt32 && small < math.MaxInt32 {
		return 32
	}
	return n.BigInt().BitLen()
}
