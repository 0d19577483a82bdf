package parquet

import (
	"bytes"
	"io"
	"testing"
	"time"

	"weft/link/record"
)

func TestRoundTrip(t *testing.T) {
	text := []byte(record.Header)
	var want []record.Frame
	for i := range 3000 {
		f := record.Frame{Way: i % 2, Number: uint64(i), Copy: i%7 == 0, Bytes: 60 + i%1000, Arrival: time.Duration(i) * 1234567, Fate: record.Fate(i % 8),
			Marked: i%5 == 0, Corrupted: i%3 == 0, QueueFrames: uint32(i), QueueBytes: uint32(i * 1000)}
		if f.Fate == record.Delivered {
			f.Departure = f.Arrival + 5_000_001
		}
		want = append(want, f)
		text = f.Append(text)
	}
	text = record.AppendMissing(text, 17)
	var file bytes.Buffer
	w := NewWriter(&file)
	for part := text; len(part) > 0; { // parts end anywhere
		n := min(777, len(part))
		if _, err := w.Write(part[:n]); err != nil {
			t.Fatal(err)
		}
		part = part[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if r.Missing() != 17 {
		t.Errorf("%d are missing, want 17", r.Missing())
	}
	for i := range want {
		got, err := r.Read()
		if err != nil || got != want[i] {
			t.Fatalf("frame %d: %+v, %v; want %+v", i, got, err, want[i])
		}
	}
	if _, err := r.Read(); err != io.EOF {
		t.Error(err)
	}
	if file.Len() > len(text)/2 {
		t.Errorf("%d bytes of text became %d", len(text), file.Len())
	}
}

func TestErrors(t *testing.T) {
	if _, err := NewReader(bytes.NewReader([]byte("PAR1 this is not one PAR1")), 25); err == nil {
		t.Error("any file is a record")
	}
	if _, err := NewWriter(io.Discard).Write([]byte("a,b\n")); err == nil {
		t.Error("any text is a record")
	}
}
