package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"weft/link/parquet"
	"weft/link/record"
	"weft/session"
)

// plotLink is weft link plot: it reads what record=FILE wrote, says what became of the frames, and
// draws it.
func (p *program) plotLink(args []string, asJSON bool) error {
	if len(args) == 0 || len(args) > 2 {
		return &session.UsageError{Err: errors.New("write weft link plot FILE [DRAWING.svg|DRAWING.png]")}
	}
	drawing := ""
	if len(args) == 2 {
		drawing = args[1]
		if !slices.Contains([]string{".svg", ".png"}, filepath.Ext(drawing)) {
			return &session.UsageError{Err: fmt.Errorf("%s: the name of a drawing must end in .svg or .png", drawing)}
		}
	}
	plot, err := readRecord(args[0])
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if asJSON {
		err = printJSON(p.out, map[string]any{"ab": plot.Summary(0), "ba": plot.Summary(1), "missing": plot.Missing})
	} else {
		_, err = fmt.Fprintf(p.out, "ab: %s\nba: %s\n", plot.Summary(0), plot.Summary(1))
	}
	if plot.Missing > 0 {
		fmt.Fprintf(p.err, "Note: %d frames came faster than they could be recorded\n", plot.Missing)
	}
	return errors.Join(err, drawFile(drawing, map[string]func(io.Writer) error{".svg": plot.WriteSVG, ".png": plot.WritePNG}))
}

// readRecord reads a record, whichever form it has.
func readRecord(path string) (*record.Plot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the path is named by the caller
	}
	defer f.Close()
	var source record.Source
	var magic [4]byte
	if n, _ := f.ReadAt(magic[:], 0); string(magic[:n]) == "PAR1" {
		var info os.FileInfo
		if info, err = f.Stat(); err == nil {
			source, err = parquet.NewReader(f, info.Size())
		}
	} else {
		source, err = record.NewReader(bufio.NewReader(f))
	}
	if err != nil {
		return nil, err
	}
	return record.NewPlot(source)
}
