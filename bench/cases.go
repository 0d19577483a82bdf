package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// The contenders' names.
const (
	nameWeft    = "weft"
	nameMininet = "Mininet"
	nameStock   = "Mininet as installed"
	nameVeth    = "bare veth pair"
)

// tcpSeconds is how long a TCP measurement takes.
const tcpSeconds = 5

// A benchmark is some work, and who does it.
type benchmark struct {
	name, work, unit string
	less             bool // less is better
	slow             bool // takes Mininet more than a minute
	contenders       []contender
	goals            []Goal
}

// A sample is what one run measured, in the benchmark's unit, and what there is to be
// said about it.
type sample struct {
	value float64
	note  string
}

// plain is a sample without a note.
func plain(v float64, err error) (sample, error) { return sample{value: v}, err }

// A contender does the work once.
type contender struct {
	name    string
	command string // as a person would type it
	limit   time.Duration
	run     func(context.Context) (sample, error)
}

// benchmarks lists all, for weft's binary at path.
func benchmarks(weft string) []benchmark {
	all := []benchmark{
		upDown(weft, "single", "single,2", "ovsc", false, 3),
		upDown(weft, "tree", "tree,2,32", "ovsc", true, 30),
		upDown(weft, "torus", "torus,10,10", "none", false, 20),
	}
	all = append(append(all, pingAll(weft), tcp(weft), memory(weft)), relay(weft)...)
	return append(all, live(weft)...)
}

// mininet adds to mn's command line what it needs to work at all where the kernel has
// no openvswitch.
func mininet(topo, controller string, args ...string) []string {
	return append([]string{"mn", "--topo", topo, "--switch", "ovsk,datapath=user", "--controller", controller}, args...)
}

func upDown(weft, name, topo, controller string, slow bool, atLeast float64) benchmark {
	theirs := mininet(topo, controller, "--test", "none")
	ours := []string{"weft", "--topo", topo, "--test", "none"}
	if controller == "none" {
		ours = append(ours, "--controller", controller)
	}
	return benchmark{
		name: name, work: "up + down, " + topo, unit: "s", less: true, slow: slow,
		goals: []Goal{{Than: nameMininet, AtLeast: atLeast}},
		contenders: []contender{
			{nameMininet, strings.Join(theirs, " "), 10 * time.Minute, func(ctx context.Context) (sample, error) {
				r, err := runMininet(ctx, theirs, "")
				return sample{value: r.seconds}, err
			}},
			{nameWeft, strings.Join(ours, " "), 2 * time.Minute, func(ctx context.Context) (sample, error) {
				r, err := runWeft(ctx, weft, ours)
				return sample{value: r.seconds}, err
			}},
		},
	}
}

func pingAll(weft string) benchmark {
	const topo = "tree,2,8"
	theirs := mininet(topo, "ovsc", "--test", "pingall")
	ours := []string{"weft", "--topo", topo, "--test", "pingall"}
	return benchmark{
		name: "pingall", work: "up + pingall + down, " + topo + " (4,032 pairs)", unit: "s", less: true, slow: true,
		goals: []Goal{{Than: nameMininet, AtLeast: 60}},
		contenders: []contender{
			{nameMininet, strings.Join(theirs, " "), 10 * time.Minute, func(ctx context.Context) (sample, error) {
				r, err := runMininet(ctx, theirs, "")
				if err != nil {
					return sample{}, err
				}
				return parseMininetPing(r)
			}},
			// weft's exit status says whether all were answered.
			{nameWeft, strings.Join(ours, " "), 2 * time.Minute, func(ctx context.Context) (sample, error) {
				r, err := runWeft(ctx, weft, ours)
				return sample{value: r.seconds}, err
			}},
		},
	}
}

func tcp(weft string) benchmark {
	const topo = "single,2"
	stock := mininet(topo, "ovsc", "--test", "iperf")
	// Without checksum offload on the hosts, the best that Mininet can do here.
	post := fmt.Sprintf("h1 ethtool -K h1-eth0 tx off\nh2 ethtool -K h2-eth0 tx off\nh2 iperf -s &\npingall\nh1 iperf -c 10.0.0.2 -t %d -f k\nh2 kill %%iperf\n", tcpSeconds)
	theirs := mininet(topo, "ovsc", "--test", "none", "--post", "/tmp/post")
	ours := []string{"weft", "--topo", topo, "--test", "iperf", "--json"}
	return benchmark{
		name: "tcp", work: "TCP through one switch, user datapath", unit: "Gbit/s",
		goals: []Goal{{Than: nameMininet, AtLeast: 12}, {Than: nameVeth, AtLeast: 0.6}},
		contenders: []contender{
			{nameMininet, strings.Join(theirs, " ") + " # tx offload off, iperf -t 5", time.Minute, func(ctx context.Context) (sample, error) {
				r, err := runMininet(ctx, theirs, post)
				if err != nil {
					return sample{}, err
				}
				return plain(parseIperf(r.output))
			}},
			{nameWeft, strings.Join(ours, " "), time.Minute, func(ctx context.Context) (sample, error) {
				r, err := runWeft(ctx, weft, ours)
				if err != nil {
					return sample{}, err
				}
				return plain(parseWeftIperf(r.output))
			}},
			{nameVeth, fmt.Sprintf("sh bench/veth.sh %d", tcpSeconds), time.Minute, func(ctx context.Context) (sample, error) {
				return plain(bareVeth(ctx, tcpSeconds))
			}},
			// Stalls where the kernel has no openvswitch; shown, not judged.
			{nameStock, strings.Join(stock, " "), 30 * time.Second, func(ctx context.Context) (sample, error) {
				r, err := runMininet(ctx, stock, "")
				if err != nil {
					return sample{}, err
				}
				return plain(parseMininetIperf(r.output))
			}},
		},
	}
}

func memory(weft string) benchmark {
	const topo = "tree,2,32"
	theirs := mininet(topo, "ovsc")
	ours := []string{"weft", "--topo", topo}
	return benchmark{
		name: "memory", work: "memory of the emulator's own processes at 1,024 hosts (PSS, without Open vSwitch)", unit: "MiB", less: true, slow: true,
		goals: []Goal{{Than: nameMininet, AtLeast: 10}},
		contenders: []contender{
			{nameMininet, strings.Join(theirs, " "), 10 * time.Minute, func(ctx context.Context) (sample, error) {
				return plain(mininetMemory(ctx, theirs))
			}},
			{nameWeft, strings.Join(ours, " "), 2 * time.Minute, func(ctx context.Context) (sample, error) {
				return plain(weftMemory(ctx, weft, ours))
			}},
		},
	}
}
