package record

import (
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func read(text string) (list []Frame, missing uint64, err error) {
	r, err := NewReader(strings.NewReader(text))
	if err != nil {
		return nil, 0, err
	}
	for {
		f, err := r.Read()
		if err == io.EOF {
			return list, r.Missing(), nil
		} else if err != nil {
			return list, r.Missing(), err
		}
		list = append(list, f)
	}
}

func TestRoundTrip(t *testing.T) {
	text := []byte(Header)
	var want []Frame
	for i := range 100 {
		f := Frame{
			Way: i % 2, Number: rand.Uint64(), Copy: i%3 == 0, Bytes: rand.IntN(1 << 17),
			Arrival: time.Duration(rand.Int64N(1 << 50)), Fate: Fate(i % len(fates())),
			Marked: i%5 == 0, Corrupted: i%7 == 0, QueueFrames: rand.Uint32(), QueueBytes: rand.Uint32(),
		}
		if f.Fate == Delivered {
			f.Departure = f.Arrival + time.Duration(rand.Int64N(1e9))
		}
		want = append(want, f)
		text = f.Append(text)
	}
	text = AppendMissing(text, 3)
	text = AppendMissing(text, 4)
	got, missing, err := read(string(text))
	if err != nil || missing != 7 || len(got) != len(want) {
		t.Fatalf("%d frames, %d missing, %v", len(got), missing, err)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("frame %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestLine(t *testing.T) {
	f := Frame{Number: 7, Bytes: 1514, Arrival: 1500 * time.Millisecond, Departure: 1505 * time.Millisecond, QueueFrames: 2, QueueBytes: 3028}
	const want = "ab,7,0,1514,1.500000000,1.505000000,delivered,0,0,2,3028\n"
	if got := string(f.Append(nil)); got != want {
		t.Errorf("%s", got)
	}
	if f.Delay() != 5*time.Millisecond {
		t.Error(f.Delay())
	}
}

func TestErrors(t *testing.T) {
	const good = "ab,7,0,1514,1.500000000,1.505000000,delivered,0,0,2,3028\n"
	for _, c := range []struct{ text, want string }{
		{"", "the file is empty"},
		{"a,b\n", "no record of a link"},
		{Header + good + "ab,1\n", "line 3: 2 fields"},
		{Header + "# a comment\n" + strings.Replace(good, "ab", "ac", 1), `line 3: "ac" is not one of ab, ba`},
		{Header + strings.Replace(good, ",7,", ",-7,", 1), `line 2: "-7" is not a number`},
		{Header + strings.Replace(good, "1.500000000", "1.5000000001", 1), `line 2: "1.5000000001" is not a time`},
		{Header + strings.Replace(good, "delivered", "eaten", 1), `line 2: "eaten" is not one of delivered, lost`},
		{Header + "# missing many\n", `line 2: "many" is not a number`},
	} {
		if _, _, err := read(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add("ab,7,0,1514,1.500000000,1.505000000,delivered,0,0,2,3028\n")
	f.Add("ba,7,1,1514,1.500000000,,lost,0,0,2,3028\n# missing 7\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, _, err := read(Header + text)
		if err != nil {
			return
		}
		again := []byte(Header)
		for _, frame := range list {
			again = frame.Append(again)
		}
		same, _, err := read(string(again))
		if err != nil || len(same) != len(list) {
			t.Fatalf("%d frames, then %d, %v", len(list), len(same), err)
		}
	})
}
