package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// optparse reads words as Python's optparse does, which Mininet uses, and returns them
// in the form --name=value: a long option may be shortened to what is unique, short
// ones may be written together, and the value of an option that must have one is the next
// word whatever it looks like. An option whose value may be left out takes the next word if
// that does not begin with "-", as Mininet's --nat does.
func optparse(flags *pflag.FlagSet, words []string) ([]string, error) {
	var out []string
	next := func(name string, f *pflag.Flag) error {
		switch {
		case isSwitch(f):
			out = append(out, "--"+f.Name)
		case f.NoOptDefVal != "" && (len(words) == 0 || strings.HasPrefix(words[0], "-")):
			out = append(out, "--"+f.Name)
		case len(words) == 0:
			return fmt.Errorf("%s option requires 1 argument", name)
		default:
			out = append(out, "--"+f.Name+"="+words[0])
			words = words[1:]
		}
		return nil
	}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		var err error
		switch {
		case word == "--":
			if len(words) > 0 {
				return nil, fmt.Errorf("unexpected argument: %s", words[0])
			}
		case strings.HasPrefix(word, "--"):
			given, value, hasValue := strings.Cut(word, "=")
			var f *pflag.Flag
			if f, err = longOption(flags, given); err != nil {
				break
			}
			switch {
			case !hasValue:
				err = next("--"+f.Name, f)
			case isSwitch(f):
				err = fmt.Errorf("--%s option does not take a value", f.Name)
			default:
				out = append(out, "--"+f.Name+"="+value)
			}
		case len(word) > 1 && word[0] == '-':
			for letters := word[1:]; letters != "" && err == nil; {
				_, size := utf8.DecodeRuneInString(letters)
				name := "-" + letters[:size]
				f := shortOption(flags, letters[:size])
				letters = letters[size:]
				if f == nil {
					err = fmt.Errorf("no such option: %s", name)
					break
				}
				if !isSwitch(f) && letters != "" {
					out = append(out, "--"+f.Name+"="+letters)
					break
				}
				err = next(name, f)
			}
		default:
			err = fmt.Errorf("unexpected argument: %s", word)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// isSwitch reports whether an option never takes a value.
func isSwitch(f *pflag.Flag) bool {
	r, refused := f.Value.(refusal)
	return f.Value.Type() == "bool" || refused && r.isSwitch
}

// shortOption returns the option with that letter, or nil.
func shortOption(flags *pflag.FlagSet, letter string) *pflag.Flag {
	if len(letter) > 1 {
		return nil // pflag knows single bytes only
	}
	return flags.ShorthandLookup(letter)
}

// longOption returns the option that given, with its dashes, is the name of, or the beginning
// of the name of. Only options that Mininet has can be shortened: so what is unique there
// stays unique.
func longOption(flags *pflag.FlagSet, given string) (*pflag.Flag, error) {
	name := strings.TrimPrefix(given, "--")
	if f := flags.Lookup(name); f != nil {
		return f, nil
	}
	var fits []*pflag.Flag
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if _, own := f.Annotations[ownOption]; !own && strings.HasPrefix(f.Name, name) {
			fits = append(fits, f)
			names = append(names, "--"+f.Name)
		}
	})
	switch len(fits) {
	case 0:
		return nil, fmt.Errorf("no such option: %s", given)
	case 1:
		return fits[0], nil
	}
	return nil, fmt.Errorf("ambiguous option: %s (%s?)", given, strings.Join(names, ", "))
}
