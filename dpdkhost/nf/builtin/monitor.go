package builtin

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"weft/dpdkhost/nf"
)

const monitorText = `
Counts packets and bytes, by protocol too, and who sends most of them. A super-frame counts as one
packet. The command "top N" lists the top talkers; with more talkers than it remembers the
smallest give way to new ones, which inherit their count ("space saving", Metwally, Agrawal
and El Abbadi 2005): a count may be too high by what the column "at most" says.`

type monitor struct {
	key    func(nf.Flow) nf.Flow
	limit  int
	index  map[nf.Flow]*talker
	least  talkers // a heap
	counts [kinds]uint64
	bytes  uint64
}

// A talker is a flow, or an address, and what it sent.
type talker struct {
	flow           nf.Flow
	bytes, packets uint64
	inherited      uint64 // bytes that may be another's
	place          int    // in the heap
}

// What packets are counted as.
const (
	kindAll = iota
	kindIPv4
	kindIPv6
	kindARP
	kindTCP
	kindUDP
	kindICMP
	kindOther
	kinds
)

func defineMonitor(flags *pflag.FlagSet) func() (nf.Function, error) {
	by := flags.String("by", "source", "what talkers are: source, destination or flow")
	limit := flags.Int("talkers", 1024, "how many to remember")
	return func() (nf.Function, error) {
		key, err := parseFlowKey(*by)
		if err != nil {
			return nil, fmt.Errorf("--by: %w", err)
		}
		if *limit < 1 || *limit > 1<<20 {
			return nil, fmt.Errorf("--talkers %d: from 1 to %d", *limit, 1<<20)
		}
		return &monitor{key: key, limit: *limit, index: make(map[nf.Flow]*talker, *limit)}, nil
	}
}

// parseFlowKey returns what makes packets belong together.
func parseFlowKey(by string) (func(nf.Flow) nf.Flow, error) {
	switch by {
	case "source":
		return func(f nf.Flow) nf.Flow { return nf.Flow{Src: f.Src, Version: f.Version} }, nil
	case "destination":
		return func(f nf.Flow) nf.Flow { return nf.Flow{Dst: f.Dst, Version: f.Version} }, nil
	case "flow":
		return func(f nf.Flow) nf.Flow { return f }, nil
	case "total":
		return func(nf.Flow) nf.Flow { return nf.Flow{} }, nil
	}
	return nil, fmt.Errorf("%q: write source, destination, flow or total", by)
}

func (m *monitor) Handle(batch []nf.Packet) {
	for i := range batch {
		p := &batch[i]
		p.Next()
		b := p.Data()
		h := nf.ParseHeaders(b)
		m.count(&h, len(b))
		if h.Version != 0 {
			m.talk(m.key(h.Flow(b)), uint64(len(b)))
		}
	}
}

func (m *monitor) count(h *nf.Headers, length int) {
	m.counts[kindAll]++
	m.bytes += uint64(length)
	switch {
	case h.Version == 4:
		m.counts[kindIPv4]++
	case h.Version == 6:
		m.counts[kindIPv6]++
	case h.Type == nf.TypeARP:
		m.counts[kindARP]++
		return
	default:
		m.counts[kindOther]++
		return
	}
	switch h.Protocol {
	case nf.ProtocolTCP:
		m.counts[kindTCP]++
	case nf.ProtocolUDP:
		m.counts[kindUDP]++
	case nf.ProtocolICMP, nf.ProtocolICMPv6:
		m.counts[kindICMP]++
	}
}

func (m *monitor) talk(f nf.Flow, bytes uint64) {
	t := m.index[f]
	switch {
	case t != nil:
	case len(m.least) < m.limit:
		t = &talker{flow: f}
		m.index[f] = t
		heap.Push(&m.least, t)
	default:
		t = m.least[0]
		delete(m.index, t.flow)
		m.index[f] = t
		t.flow, t.inherited, t.packets = f, t.bytes, 0
	}
	t.bytes += bytes
	t.packets++
	heap.Fix(&m.least, t.place)
}

// Counters shows the counts by protocol.
func (m *monitor) Counters(f func(string, uint64)) {
	f("bytes", m.bytes)
	for k, name := range [kinds]string{"packets", "ipv4", "ipv6", "arp", "tcp", "udp", "icmp", "other"} {
		f(name, m.counts[k])
	}
}

// Command knows "top".
func (m *monitor) Command(words []string) (string, error) {
	n := 10
	if len(words) == 0 || words[0] != "top" || len(words) > 2 {
		return "", noCommand(words, "top [N]")
	}
	if len(words) == 2 {
		var err error
		if n, err = strconv.Atoi(words[1]); err != nil || n < 1 {
			return "", fmt.Errorf("top %s: how many?", words[1])
		}
	}
	list := slices.SortedFunc(slices.Values(m.least), func(a, b *talker) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), bytes.Compare(a.flow.Src[:], b.flow.Src[:]), bytes.Compare(a.flow.Dst[:], b.flow.Dst[:]))
	})
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "talker\tpackets\tbytes\tat most")
	for _, t := range list[:min(n, len(list))] {
		fmt.Fprintf(w, "%s\t%d\t%d\t-%d\n", flowName(&t.flow), t.packets, t.bytes, t.inherited)
	}
	w.Flush()
	return out.String(), nil
}

// flowName writes what of a flow is there.
func flowName(f *nf.Flow) string {
	switch {
	case f.Protocol != 0:
		return fmt.Sprintf("%s %s > %s", protocolName(f.Protocol), place(f.Source().String(), f.SrcPort, f.Version), place(f.Destination().String(), f.DstPort, f.Version))
	case f.Src == [16]byte{}:
		return f.Destination().String()
	}
	return f.Source().String()
}

func place(address string, port uint16, version uint8) string {
	switch {
	case port == 0:
		return address
	case version == 6:
		return fmt.Sprintf("[%s]:%d", address, port)
	}
	return fmt.Sprintf("%s:%d", address, port)
}

func protocolName(p uint8) string {
	switch p {
	case nf.ProtocolTCP:
		return "tcp"
	case nf.ProtocolUDP:
		return "udp"
	case nf.ProtocolICMP:
		return "icmp"
	case nf.ProtocolICMPv6:
		return "icmp6"
	case nf.ProtocolSCTP:
		return "sctp"
	case nf.ProtocolESP:
		return "esp"
	}
	return strconv.Itoa(int(p))
}

// talkers is a heap, the smallest first.
type talkers []*talker

func (t talkers) Len() int           { return len(t) }
func (t talkers) Less(i, j int) bool { return t[i].bytes < t[j].bytes }
func (t talkers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}
func (t *talkers) Push(x any) {
	e := x.(*talker)
	e.place = len(*t)
	*t = append(*t, e)
}
func (t *talkers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
