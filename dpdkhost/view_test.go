package dpdkhost

import (
	"flag"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestOpenNetVMView(t *testing.T) {
	at := time.Unix(1000, 0)
	before := &State{At: at, Ports: []Port{{Number: 1, Name: "s1-eth1", Received: 100, Sent: 50}, {Number: 2, Name: "s1-eth2"}},
		Instances: []Instance{{ID: 1, Service: 1, Received: 1000, Sent: 900}, {ID: 3, Service: 2, Received: 500}}}
	now := &State{At: at.Add(2 * time.Second),
		Ports: []Port{{Number: 1, Name: "s1-eth1", Received: 2100, Sent: 1050}, {Number: 2, Name: "s1-eth2", Received: 7, Sent: 8}},
		Instances: []Instance{
			{ID: 1, Name: "speed_tester", Service: 1, Core: 2, Received: 74493736, Sent: 74493636, ToNF: 38144302},
			{ID: 2, Name: "bridge", Service: 2, RxDrops: 12, Out: 3, Dropped: 4}, // new since then
			{ID: 3, Name: "bridge", Service: 2, Core: 1, Received: 100, TxDrops: 1},
		}}
	golden := func(file string, got string) {
		t.Helper()
		if *update {
			os.WriteFile(file, []byte(got), 0o666)
		}
		if want, err := os.ReadFile(file); err != nil || string(want) != got {
			t.Errorf("%v\n%s\nis not\n%s", err, got, want)
		}
	}
	golden("testdata/onvm-view.txt", OpenNetVMView(now, before))
	golden("testdata/onvm-view-first.txt", OpenNetVMView(now, nil))
}
