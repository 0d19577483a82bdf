package topo

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// Each line: options, and what Options gives back.
func TestLinkOptions(t *testing.T) {
	for in, want := range map[string]string{
		"bw=10,delay=5ms,loss=1,jitter=1ms,max_queue_size=100,use_htb=True": "bw=10mbit delay=5ms jitter=1ms loss=1 queue=100",
		"bw=0.064":                       "bw=64kbit",
		"bw=2.5gbit/s":                   "bw=2500mbit",
		"bw=10,ab:bw=1":                  "ab:bw=1mbit ba:bw=10mbit",
		"ab:delay=1500us":                "ab:delay=1.5ms",
		"ba:loss=0.1%":                   "ba:loss=0.1",
		"loss=5,loss=none":               "error",
		"loss=5,ab:loss=none":            "ba:loss=5",
		"gemodel=1/10":                   "gemodel=1/10/100/0",
		"drop=3+10-12":                   "drop=3+10-12",
		"drop_if=udp port 53":            "drop_if=udp port 53",
		"bw=1,queue=64kB":                "bw=1mbit queue=64kB",
		"bw=1,queue=1500B":               "bw=1mbit queue=1500B",
		"bw=1,latency_ms=20":             "bw=1mbit queue=20ms",
		"bw=1,enable_red=1,enable_ecn=1": "bw=1mbit aqm=red ecn=true",
		"slot=10ms-20ms,slot_packets=3":  "slot=10ms-20ms slot_packets=3",
		"slot=5ms":                       "slot=5ms",
		"seed=7,mtu=9000,record=x":       "mtu=9000 seed=7 record=x",
		"driver=wire":                    "driver=wire",
		"driver=AUTO":                    "driver=auto",
		"delay=0":                        "",
	} {
		var s LinkSettings
		err := s.Set(strings.Split(in, ",")...)
		got := strings.Join(s.Options(), " ")
		if want == "error" != (err != nil) || err == nil && got != want {
			t.Errorf("Set(%s): %q, %v, want %q", in, got, err, want)
		}
		if err != nil {
			continue
		}
		var again LinkSettings
		if err := again.Set(s.Options()...); err != nil || !slices.Equal(again.Options(), s.Options()) {
			t.Errorf("Set(%s) = %q, %v", s.Options(), again.Options(), err)
		}
		b, err := json.Marshal(s)
		var back LinkSettings
		if err == nil {
			err = json.Unmarshal(b, &back)
		}
		if err != nil || !slices.Equal(back.Options(), s.Options()) {
			t.Errorf("JSON of %s: %s, %v", in, b, err)
		}
	}
}

func TestLinkOptionsBad(t *testing.T) {
	for in, want := range map[string]string{
		"bw":                        `"bw" is not KEY=VALUE; write for example delay=5ms`,
		"bw=fast":                   `bw: "fast" is not a rate; write 10 (Mbit/s), 64kbit, 10mbit or 2.5gbit`,
		"bw=100gbit":                `bw: 100gbit is not between 1kbit and 40gbit`,
		"bw=-1":                     `bw: -1 is not between 1kbit and 40gbit`,
		"bw=NaN":                    `bw: "NaN" is not a rate; write 10 (Mbit/s), 64kbit, 10mbit or 2.5gbit`,
		"bw=10mbps":                 `bw: "10mbps" is not a rate; write 10 (Mbit/s), 64kbit, 10mbit or 2.5gbit`,
		"delay=5":                   `delay: 5 has no unit; write 5ms`,
		"delay=-5ms":                `delay: -5ms is not between 0 and 3600s`,
		"loss=101":                  `loss: "101" is not a percentage from 0 to 100`,
		"dely=5ms":                  `there is no option "dely"; did you mean delay?`,
		"xy:delay=5ms":              `"xy:delay": a direction is ab or ba, not "xy"`,
		"ab:mtu=900":                `mtu is the same for both directions; write mtu=900`,
		"drop=0":                    "",
		"drop=7-3":                  `drop: "7-3" is not a list of numbers from 1; write for example 3+10-12`,
		"queue=lots":                `queue: "lots" is not the size of a queue; write 100 (frames), 64kB or 20ms`,
		"queue=20ms":                `a queue of 20ms needs a rate; write bw too`,
		"distribution=normal":       `distribution normal is that of the jitter; write jitter too`,
		"ecn=true,bw=1":             `ecn marks where aqm would drop; write aqm=red, codel or fq_codel too`,
		"aqm=pie,bw=1":              `aqm: "pie" is not one of droptail, red, codel, fq_codel`,
		"loss=1,gemodel=1/1":        `loss and gemodel both say which frames are lost; leave one out`,
		"driver=veth,loss=1":        `a veth link impairs nothing; leave the driver out, or write netem or wire`,
		"driver=netem,seed=1":       `seed, record, trace, drop and drop_if need the driver wire; leave driver=netem out`,
		"reorder=5":                 `reorder lets frames skip the delay; write delay too`,
		"ba:slot_packets=5":         `ba: slot_packets and slot_bytes bound a slot; write slot too`,
		"loss=1,loss=2":             `loss is given twice; write it once`,
		"speedup=1":                 `speedup is of Mininet's own machinery; leave it out`,
		"seed=x":                    `seed: "x" is not a seed; write a number from 0 to 2^64-1`,
		"mtu=1":                     `mtu: "1" is not an MTU from 68 to 65535`,
		"use_htb=perhaps":           `use_htb: "perhaps" is not true or false`,
		"bw=1,delay=5ms,bw2=3,x=y":  `there is no option "bw2"; did you mean bw?`,
		"slot=20ms-10ms":            `slot: "20ms-10ms" has its longer time first`,
		"gemodel=1":                 `gemodel: "1" is not P/R/BAD/GOOD; write for example 1/10/100/0`,
		"corrupt=1e-400%,jitter=no": `jitter: "no" is not a time; write for example 5ms, 250us or 1.5s`,
	} {
		s := LinkSettings{MTU: 1400}
		err := s.Set(strings.Split(in, ",")...)
		if want == "" {
			if err != nil {
				t.Errorf("Set(%s): %v", in, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Set(%s): %v\nwant %s", in, err, want)
		}
		if s != (LinkSettings{MTU: 1400}) {
			t.Errorf("Set(%s) changed the settings: %v", in, s.Options())
		}
	}
}

// An automatic driver is veth, wire where only that can do it, and auto where it depends on
// the machine; a network's seed gives each impaired link its own.
func TestPlanLinkDrivers(t *testing.T) {
	seed := uint64(7)
	s := Spec{Hosts: []Host{{Name: "h1"}, {Name: "h2"}}, Switches: []Switch{{Name: "s1"}}}
	for _, options := range []string{"mtu=1400", "delay=5ms", "seed=3,loss=1", "drop=3", "driver=netem,bw=1", "driver=wire"} {
		l := Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "s1"}}
		if err := l.Set(strings.Split(options, ",")...); err != nil {
			t.Fatal(err)
		}
		s.Links = append(s.Links, l)
	}
	drivers := func() (list []LinkDriver) {
		p, err := s.Plan()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range p.Links {
			list = append(list, l.Driver)
		}
		if p.Links[0].Seed != nil || (p.Links[1].Seed != nil) != (s.Seed != nil) || *p.Links[2].Seed != 3 {
			t.Errorf("seeds: %v %v %v", p.Links[0].Seed, p.Links[1].Seed, p.Links[2].Seed)
		}
		return list
	}
	if got, want := drivers(), []LinkDriver{"veth", "auto", "wire", "wire", "netem", "wire"}; !slices.Equal(got, want) {
		t.Errorf("drivers %q, want %q", got, want)
	}
	s.Links = slices.Delete(s.Links, 4, 5) // netem has no seed
	s.Seed = &seed
	if got, want := drivers(), []LinkDriver{"veth", "wire", "wire", "wire", "wire"}; !slices.Equal(got, want) {
		t.Errorf("with a seed: drivers %q, want %q", got, want)
	}
}

func TestSetLink(t *testing.T) {
	l := Link{A: LinkEnd{Node: "h1"}, B: LinkEnd{Node: "h2"}}
	if err := l.Set("delay=5ms"); err != nil {
		t.Fatal(err)
	}
	p, err := Spec{Hosts: []Host{{Name: "h1"}, {Name: "h2"}}, Links: []Link{l}}.Plan()
	if err != nil {
		t.Fatal(err)
	}
	s := p.Links[0].LinkSettings
	if err := s.Set("ab:loss=1", "delay=0"); err != nil {
		t.Fatal(err)
	}
	if err := p.SetLink(1, s); err != nil || strings.Join(p.Links[0].Options(), " ") != "driver=auto ab:loss=1" {
		t.Errorf("%v, %q", err, p.Links[0].Options())
	}
	if err := s.Set("mtu=1400"); err != nil {
		t.Fatal(err)
	}
	if err := p.SetLink(1, s); err != nil || p.Links[0].MTU != 1400 {
		t.Errorf("%v, MTU %d", err, p.Links[0].MTU)
	}
}

func FuzzLinkOptions(f *testing.F) {
	fuzzText(f, func(t *testing.T, text string) error {
		var s LinkSettings
		if err := s.Set(strings.Split(text, ",")...); err != nil {
			return err
		}
		var again LinkSettings
		if err := again.Set(s.Options()...); err != nil {
			t.Errorf("%q gave %q, which is wrong: %v", text, s.Options(), err)
		} else if !slices.Equal(again.Options(), s.Options()) {
			t.Errorf("%q gave %q, then %q", text, s.Options(), again.Options())
		}
		return nil
	}, "bw=10,delay=5ms", "ab:loss=1,gemodel=1/2/3/4", "queue=1e3B,bw=1kbit", "slot=1ms-2ms,slot_bytes=1.5kB", "drop=1-2+3,seed=0x7")
}
