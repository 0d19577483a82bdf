package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"

	"weft/graph"
)

// write writes the results: all that can be, whatever fails.
func (r *runner) write() error {
	to := func(name string) string { return filepath.Join(r.Results, name) }
	errs := []error{
		writeJSON(to("result.json"), r.result),
		writeFile(to("junit.xml"), r.result.writeJUnit),
		writeFile(to("report.html"), func(w io.Writer) error { return r.result.writeReport(w, r.picture()) }),
	}
	if r.result.Source != "" {
		errs = append(errs, writeFile(to("experiment"+filepath.Ext(r.result.File)), func(w io.Writer) error {
			_, err := io.WriteString(w, r.result.Source)
			return err
		}))
	}
	return errors.Join(errs...)
}

// picture draws the topology of the first network that came up.
func (r *runner) picture() template.HTML {
	for _, t := range r.result.Trials {
		if t.Plan == nil {
			continue
		}
		var b strings.Builder
		if err := (graph.Graph{Plan: t.Plan}).Write(&b, graph.FormatSVG); err != nil {
			return template.HTML(template.HTMLEscapeString(err.Error()))
		}
		return template.HTML(b.String()) // with all names escaped
	}
	return ""
}

// writeFile writes a new file.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	err = errors.Join(write(f), f.Close())
	if err != nil {
		return fmt.Errorf("results: %s: %w", path, err)
	}
	return nil
}

// writeJSON writes a new file.
func writeJSON(path string, v any) error {
	return writeFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	})
}
