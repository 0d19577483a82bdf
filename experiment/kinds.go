package experiment

import "slices"

// Kinds is the table of all actions, in the order of the documentation.
func Kinds() []Kind {
	return slices.Concat(measureKinds(), lookKinds(), programKinds(), changeKinds(), orderKinds())
}

// group reports whether actions of the kind consist of steps.
func (k Kind) group() bool { return k.steps != nil }

func measureKinds() []Kind {
	rtt := []Quantity{
		{"sent", Number, "echo requests"},
		{"received", Number, "echo requests that were answered"},
		{"loss", Percent, "share of echo requests without an answer"},
		{"rtt", Time, "mean round-trip time"},
		{"rtt_min", Time, "least round-trip time"},
		{"rtt_median", Time, "median of the round-trip times"},
		{"rtt_p95", Time, "95th percentile of the round-trip times"},
		{"rtt_max", Time, "greatest round-trip time"},
		{"rtt_mdev", Time, "standard deviation of the round-trip times"},
	}
	iperf := []Quantity{
		{"rate", Rate, "payload received, mean"},
		{"rate_min", Rate, "that of the slowest second"},
		{"rate_max", Rate, "that of the fastest second"},
		{"sent_rate", Rate, "payload sent, mean"},
		{"bytes", Number, "payload received"},
		{"retransmits", Number, "segments sent again (TCP)"},
		{"loss", Percent, "share of datagrams lost (UDP)"},
		{"jitter", Time, "variation of the transit time, RFC 3550 (UDP)"},
		{"out_of_order", Number, "datagrams that came after later ones (UDP)"},
	}
	reach := []Quantity{
		{"pairs", Number, "pairs of hosts tried"},
		{"reached", Number, "pairs that reach each other"},
		{"unreached", Number, "pairs that do not"},
	}
	return []Kind{
		{
			Name: "ping", Doc: "exchange echoes between two hosts, one after the other", Check: true,
			New: func() Action { return &Ping{} }, Short: shortPair, Usage: "h1 -> h2",
			Quantities: rtt, Default: []Expectation{mustExpect(rtt, "received", "at least 1")},
		},
		{
			Name: "pingall", Doc: "exchange echoes between all hosts, or some, each with each", Check: true,
			New: func() Action { return &PingAll{} }, Short: shortHosts, Usage: "all, or h1 h2 h3",
			Quantities: rtt, Default: []Expectation{mustExpect(rtt, "loss", "0")},
		},
		{
			Name: "iperf", Doc: "measure the throughput from one host to another, of TCP or UDP", Check: true,
			New: func() Action { return &Iperf{} }, Short: shortPair, Usage: "h1 -> h2",
			Quantities: iperf, Default: []Expectation{mustExpect(iperf, "rate", "above 0")},
		},
		{
			Name: "reach", Doc: "hosts reach others: by ping, or at a TCP or UDP port", Check: true,
			New: func() Action { return &Reach{} }, Short: shortReach, Usage: "h1 h2 -> h3, or all",
			Quantities: reach, Default: []Expectation{mustExpect(reach, "unreached", "0")},
		},
		{
			Name: "unreachable", Doc: "hosts do not reach others: by ping, or at a TCP or UDP port", Check: true,
			New: func() Action { return &Unreachable{} }, Short: shortReach, Usage: "h1 h2 -> h3",
			Quantities: reach, Default: []Expectation{mustExpect(reach, "reached", "0")},
		},
	}
}

func lookKinds() []Kind {
	path := []Quantity{
		{"path", Nodes, "the nodes between the two hosts that the packet crossed, in order"},
		{"others", Nodes, "other nodes that saw it, as when a switch floods"},
		{"hops", Number, "how many nodes it crossed"},
		{"received", Number, "1 if it arrived, else 0"},
	}
	flows := []Quantity{
		{"count", Number, "entries"},
		{"packets", Number, "packets that they matched"},
		{"bytes", Number, "bytes of these packets"},
	}
	packets := []Quantity{
		{"count", Number, "packets"},
		{"bytes", Number, "bytes of these packets"},
		{"first", Time, "when the first one passed, from the trial's first step"},
		{"last", Time, "when the last one passed"},
	}
	messages := []Quantity{
		{"count", Number, "messages"},
		{"bytes", Number, "bytes of these messages"},
		{"packet_ins", Number, "PACKET_INs of the switches, whatever types are picked"},
		{"unanswered", Number, "PACKET_INs that caused nothing"},
		{"setup", Time, "median time from a PACKET_IN to the FLOW_MOD or PACKET_OUT that it caused"},
		{"setup_p99", Time, "99th percentile of these times"},
		{"setup_max", Time, "the longest of them"},
	}
	functions := functionQuantities()
	return []Kind{
		{
			Name: "path", Doc: "send a packet from one host to another and see which nodes it crosses", Check: true,
			New: func() Action { return &Path{} }, Short: shortPair, Usage: "h1 -> h2",
			Quantities: path, Default: []Expectation{mustExpect(path, "received", "1")},
		},
		{
			Name: "flows", Doc: "count entries of a switch's flow table", Check: true,
			New: func() Action { return &Flows{} }, Short: shortFlows, Usage: "s1",
			Quantities: flows, Default: []Expectation{mustExpect(flows, "count", "at least 1")},
		},
		{
			Name: "capture", Doc: "capture packets into a file of the results, until stop or the end",
			New: func() Action { return &Capture{} }, Short: shortCapture, Usage: "s1-s2",
		},
		{
			Name: "packets", Doc: "count the packets of a capture, which ends", Check: true, once: true,
			New: func() Action { return &Packets{} }, Short: shortPackets, Usage: "name of the capture",
			Quantities: packets, Default: []Expectation{mustExpect(packets, "count", "at least 1")},
		},
		{
			Name: "messages", Doc: "count the OpenFlow messages of a capture of control channels, which ends", Check: true, once: true,
			New: func() Action { return &Messages{} }, Short: shortMessages, Usage: "name of the capture",
			Quantities: messages, Default: []Expectation{mustExpect(messages, "count", "at least 1")},
		},
		{
			Name: "nfstats", Doc: "look at the counters of an NF on a DPDK node, or of all", Check: true,
			New: func() Action { return &FunctionStats{} }, Short: shortFunctionStats, Usage: "fw1 firewall",
			Quantities: functions, Default: []Expectation{mustExpect(functions, "instances", "at least 1")},
		},
		{
			Name: "nfnode", Doc: "look at the ports, drops and chains of a DPDK node", Check: true,
			New: func() Action { return &NodeStats{} }, Short: shortNodeStats, Usage: "fw1",
			Quantities: nodeQuantities(),
		},
	}
}

func programKinds() []Kind {
	exec := []Quantity{
		{"exit", Number, "exit status, 128+n if signal n ended it"},
		{"output", Text, "standard output"},
		{"errors", Text, "standard error"},
		{"seconds", Time, "how long it ran"},
	}
	return []Kind{
		{
			Name: "exec", Doc: "run a command on a node and wait for its end",
			New: func() Action { return &Exec{} }, Short: shortExec, Usage: "h1 ping -c1 h2",
			Quantities: exec, Default: []Expectation{mustExpect(exec, "exit", "0")},
		},
		{
			Name: "start", Doc: "start a service on a node, and wait until it is ready",
			New:        func() Action { return &Start{} },
			Quantities: []Quantity{{"ready", Time, "how long it took to be ready"}},
		},
		{
			Name: "stop", Doc: "end a service or a capture",
			New: func() Action { return &Stop{} }, Short: shortStop, Usage: "name",
			Quantities: append([]Quantity{{"packets", Number, "packets of a capture"}}, exec...),
		},
	}
}

func changeKinds() []Kind {
	return []Kind{
		{
			Name: "down", Doc: "cut a link, stop a switch, isolate a host, or cut a control channel",
			New: func() Action { return &Down{} }, Short: shortTargets, Usage: "s1-s2, s1, h1 or s1:c0",
		},
		{
			Name: "up", Doc: "undo down",
			New: func() Action { return &Up{} }, Short: shortTargets, Usage: "s1-s2, s1, h1 or s1:c0",
		},
		{
			Name: "link", Doc: "change what links do to frames: rate, delay, loss, ...",
			New: func() Action { return &LinkOptions{} }, Short: shortLink, Usage: "s1-s2 delay=20ms bw=5",
		},
		{
			Name: "cut", Doc: "make links drop all frames while their ends stay up",
			New: func() Action { return &Cut{} }, Short: shortLinks, Usage: "s1-s2, or s1->s2",
		},
		{
			Name: "mend", Doc: "undo cut",
			New: func() Action { return &Mend{} }, Short: shortLinks, Usage: "s1-s2, or s1->s2",
		},
		{
			Name: "control", Doc: "delay or limit a control channel",
			New: func() Action { return &Control{} },
		},
		{
			Name: "nf", Doc: "start or stop NFs on a DPDK node, change its chains or flows, or ask an NF",
			New: func() Action { return &Functions{} }, Short: shortFunctions, Usage: "fw1 chain default 1→3→2",
			Quantities: []Quantity{{"output", Text, "what the NF answered (tell)"}},
		},
	}
}

func orderKinds() []Kind {
	connections := []Quantity{{"missing", Number, "control channels that are not connected"}}
	return []Kind{
		{
			Name: "wait", Doc: "let time pass",
			New: func() Action { return &Wait{} }, Short: shortWait, Usage: "2s",
		},
		{
			Name: "connected", Doc: "wait until the switches have their controllers", Check: true,
			New: func() Action { return &Connected{} }, Short: shortConnected, Usage: "10s",
			Quantities: connections, Default: []Expectation{mustExpect(connections, "missing", "0")},
		},
		{
			Name: "parallel", Doc: "carry out steps at the same time, and wait for all",
			New:   func() Action { return &Parallel{} },
			steps: func(a Action) []Step { return a.(*Parallel).Steps },
		},
		{
			Name: "steps", Doc: "carry out steps one after the other: a list within parallel",
			New:   func() Action { return &Sequence{} },
			steps: func(a Action) []Step { return a.(*Sequence).Steps },
		},
		{
			Name: "repeat", Doc: "carry out steps several times",
			New:   func() Action { return &Repeat{} },
			steps: func(a Action) []Step { return a.(*Repeat).Steps },
		},
	}
}
