// Package parquet keeps records of links as Parquet files, for tools that analyse tables
// (DuckDB, pandas). It imports link/record.
package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parquet-go/parquet-go"

	"weft/link/record"
)

// row is a frame as a row; columns are those of record.Header.
type row struct {
	Way         string   `parquet:"way,dict"`
	Number      uint64   `parquet:"number,delta"`
	Copy        bool     `parquet:"copy"`
	Bytes       int32    `parquet:"bytes"`
	Arrival     float64  `parquet:"arrival"` // seconds
	Departure   *float64 `parquet:"departure,optional"`
	Fate        string   `parquet:"fate,dict"`
	Marked      bool     `parquet:"marked"`
	Corrupted   bool     `parquet:"corrupted"`
	QueueFrames uint32   `parquet:"queue_frames"`
	QueueBytes  uint32   `parquet:"queue_bytes"`
}

// rowGroup is how many rows wait in memory until they are written.
const rowGroup = 1 << 16

// A Writer takes a record as the text that link/record writes, and writes it as Parquet.
type Writer struct {
	text    bytes.Buffer // what is not a whole line yet
	started bool
	rows    *parquet.GenericWriter[row]
	waiting int
	missing uint64
}

// NewWriter returns a Writer; Close completes the file.
func NewWriter(w io.Writer) *Writer {
	return &Writer{rows: parquet.NewGenericWriter[row](w, parquet.Compression(&parquet.Snappy))}
}

// Write takes the next part of the text.
func (w *Writer) Write(b []byte) (int, error) {
	w.text.Write(b)
	end := bytes.LastIndexByte(w.text.Bytes(), '\n') + 1
	if end == 0 {
		return len(b), nil
	}
	text := w.text.Next(end)
	if !w.started {
		w.started = true
	} else {
		text = append([]byte(record.Header), text...)
	}
	r, err := record.NewReader(bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	for {
		f, err := r.Read()
		switch {
		case err == io.EOF:
			w.missing += r.Missing()
			return len(b), nil
		case err != nil:
			return 0, err
		}
		if err := w.add(f); err != nil {
			return 0, err
		}
	}
}

func (w *Writer) add(f record.Frame) error {
	r := row{
		Way: record.WayName(f.Way), Number: f.Number, Copy: f.Copy, Bytes: int32(f.Bytes), Arrival: f.Arrival.Seconds(),
		Fate: f.Fate.String(), Marked: f.Marked, Corrupted: f.Corrupted, QueueFrames: f.QueueFrames, QueueBytes: f.QueueBytes,
	}
	if f.Fate == record.Delivered {
		at := f.Departure.Seconds()
		r.Departure = &at
	}
	if _, err := w.rows.Write([]row{r}); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	if w.waiting++; w.waiting == rowGroup {
		w.waiting = 0
		return w.rows.Flush()
	}
	return nil
}

// missingKey is where a file says how many frames are missing in it.
const missingKey = "missing"

// Close completes the file. It does not close what the file is written to.
func (w *Writer) Close() error {
	if w.missing > 0 {
		w.rows.SetKeyValueMetadata(missingKey, fmt.Sprint(w.missing))
	}
	return w.rows.Close()
}

// A Reader reads the frames of a file.
type Reader struct {
	file    *parquet.File
	rows    *parquet.GenericReader[row]
	buf     []row
	missing uint64
}

// NewReader returns a reader of a file of so many bytes; it fails if that is not a record.
func NewReader(r io.ReaderAt, size int64) (d *Reader, err error) {
	f, err := parquet.OpenFile(r, size)
	if err != nil {
		return nil, fmt.Errorf("this is no Parquet file: %w", err)
	}
	schema := f.Schema()
	for _, column := range parquet.SchemaOf(row{}).Columns() {
		if _, ok := schema.Lookup(column...); !ok {
			return nil, fmt.Errorf("this is no record of a link: it has no column %s", column[0])
		}
	}
	d = &Reader{file: f, rows: parquet.NewGenericReader[row](f)}
	if n, ok := f.Lookup(missingKey); ok {
		if _, err := fmt.Sscan(n, &d.missing); err != nil {
			return nil, fmt.Errorf("%q is not a number of missing frames", n)
		}
	}
	return d, nil
}

// Missing returns how many frames the file says could not be written.
func (d *Reader) Missing() uint64 { return d.missing }

// Read returns the next frame, or io.EOF.
func (d *Reader) Read() (f record.Frame, err error) {
	if len(d.buf) == 0 {
		d.buf = make([]row, 1024)
		n, err := d.rows.Read(d.buf)
		if n == 0 && err == nil {
			err = io.EOF
		}
		if n == 0 {
			return f, err
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return f, fmt.Errorf("parquet: %w", err)
		}
		d.buf = d.buf[:n]
	}
	r := d.buf[0]
	d.buf = d.buf[1:]
	f = record.Frame{Number: r.Number, Copy: r.Copy, Bytes: int(r.Bytes), Arrival: seconds(r.Arrival),
		Marked: r.Marked, Corrupted: r.Corrupted, QueueFrames: r.QueueFrames, QueueBytes: r.QueueBytes}
	if f.Way, err = record.ParseWay(r.Way); err != nil {
		return f, err
	}
	if f.Fate, err = record.ParseFate(r.Fate); err != nil {
		return f, err
	}
	if r.Departure != nil {
		f.Departure = seconds(*r.Departure)
	}
	return f, nil
}

func seconds(s float64) time.Duration { return time.Duration(s*1e9 + 0.5) }
