package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"weft/api"
	"weft/internal/doctor"
	"weft/internal/sandbox"
	"weft/network"
	"weft/session"
	"weft/topo"
)

func (p *program) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine can do for a network, and what mends what is missing",
		Long: "With --links it also builds a network of four hosts and measures for about 4 s what links can do here:\n" +
			"how exact a delay is, the highest rate, and how many small frames pass in a second.\n",
		Example: "weft doctor\nweft doctor --links",
	}
	asJSON := jsonFlag(cmd)
	links := cmd.Flags().Bool("links", false, "measure what links can do here")
	probe := cmd.Flags().Bool("probe", false, "try out kernel features; weft doctor starts this in namespaces of its own")
	if err := cmd.Flags().MarkHidden("probe"); err != nil {
		panic(err) // defined above
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if *probe {
			return nil
		}
		return noArgs(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *probe {
			return doctor.Probe(args, p.out)
		}
		r := doctor.Examine(cmd.Context(), doctor.Options{Probe: []string{"/proc/self/exe", "doctor", "--probe"}})
		if *links && r.Usable() {
			checks, err := measureLinks(cmd.Context())
			if err != nil {
				return fmt.Errorf("measure links: %w", err)
			}
			r.Checks = append(r.Checks, checks...)
		}
		if *asJSON {
			if err := printJSON(p.out, r); err != nil {
				return err
			}
		} else {
			r.Text(p.out)
		}
		if !r.Usable() {
			return session.ErrFailed
		}
		return nil
	}
	return cmd
}

// The links that are measured: one with a delay, and one that only carries.
const (
	measuredDelay = 10 * time.Millisecond
	measureTime   = time.Second
	measureLimit  = 30 * time.Second
)

// measureLinks builds a network and says what its links of the driver wire can do.
func measureLinks(ctx context.Context) (checks []doctor.Check, err error) {
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	var s topo.Spec
	for i, delay := range []time.Duration{measuredDelay, 0} {
		l := topo.Link{}
		if err := l.Set("driver=wire", "delay="+delay.String()); err != nil {
			return nil, err
		}
		for k, end := range []*topo.LinkEnd{&l.A, &l.B} {
			h := topo.Host{Name: fmt.Sprintf("h%d", 2*i+k+1)}
			h.IP = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(k + 1)}), 24)
			s.Hosts = append(s.Hosts, h)
			end.Node = h.Name
		}
		s.Links = append(s.Links, l)
	}
	plan, err := s.Plan()
	if err != nil {
		return nil, err
	}
	box, err := sandbox.Start(ctx, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	client := api.Dial(box.Socket)
	plan.Name = box.Name
	if err := client.Up(ctx, plan, nil); err != nil {
		return nil, err
	}
	if err := client.Start(ctx, nil); err != nil {
		return nil, err
	}
	train, err := client.Train(ctx, network.TrainRequest{Src: "h1", Dst: "h2", Count: 400, Interval: 2 * time.Millisecond, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	bulk, err := client.Iperf(ctx, network.IperfRequest{Client: "h3", Server: "h4", Duration: measureTime})
	if err != nil {
		return nil, err
	}
	const small = 24 // bytes of payload, the least that iperf takes: frames of 66 bytes
	frames, err := client.Iperf(ctx, network.IperfRequest{Client: "h3", Server: "h4", Duration: measureTime, UDP: true, Rate: uint64(topo.MaxRate), Length: small})
	if err != nil {
		return nil, err
	}
	return []doctor.Check{delayCheck(train.Echoes), {
		ID: "link-rate", Title: "Link rate", Status: doctor.OK,
		Detail: fmt.Sprintf("a TCP flow over a link of the driver wire gets %.1f Gbit/s; limits above that are not reached", bulk.ServerBps/1e9),
	}, {
		ID: "link-frames", Title: "Link frames", Status: doctor.OK,
		Detail: fmt.Sprintf("%.0f frames of 66 bytes a second arrive over one link of the driver wire", frames.ServerBps/8/small),
	}}, client.Down(ctx, nil)
}

// The errors of a delay that make it doubtful: those that tests of delays of a millisecond
// would notice.
const (
	goodMedian = 100 * time.Microsecond
	goodTail   = time.Millisecond
)

// delayCheck judges echoes over a link with measuredDelay each way.
func delayCheck(echoes []network.Echo) doctor.Check {
	c := doctor.Check{ID: "link-delay", Title: "Link delay", Status: doctor.OK}
	var late []time.Duration
	for _, e := range echoes {
		if e.RTT > 0 {
			late = append(late, (e.RTT-2*measuredDelay)/2)
		}
	}
	if len(late) == 0 {
		c.Status, c.Detail = doctor.Warn, "no echo came back over a link"
		return c
	}
	slices.Sort(late)
	median, tail := late[len(late)/2], late[len(late)*99/100]
	c.Detail = fmt.Sprintf("a delay is exceeded by %d µs in the median, and by %d µs in one of a hundred packets", median.Microseconds(), tail.Microseconds())
	if median > goodMedian || tail > goodTail {
		c.Status, c.Effect = doctor.Warn, "the machine is busy, or its timers are late: do not trust delays to less than that"
	}
	return c
}
