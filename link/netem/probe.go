package netem

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"weft/internal/ns"
	"weft/topo"
)

// Features says what the kernel can do: nil for what it can, or an error that names what is
// missing and wraps errors.ErrUnsupported.
type Features struct {
	// Impair is netem with what every link needs: delay, jitter, loss, duplication, corruption,
	// reordering, slots.
	Impair error
	// Rate is a limited rate with a queue in bytes or frames.
	Rate, RED, CoDel, FQCoDel error
}

// Probe finds out what the kernel can do, by trying in a namespace of its own.
func Probe() Features {
	var f Features
	err := func() error {
		net, err := ns.New(nil)
		if err != nil {
			return err
		}
		defer net.Close()
		r, err := openRTNL(net)
		if err != nil {
			return err
		}
		defer r.close()
		f = r.probe()
		return nil
	}()
	if err != nil {
		f = Features{err, err, err, err, err}
	}
	return f
}

func (r *rtnl) probe() (f Features) {
	const pair, block = 100, 200
	err := r.veth(port{index: pair, name: "probe0", mtu: 1500}, port{index: pair + 1, name: "probe1", mtu: 1500})
	if err == nil {
		err = r.filters(pair)
	}
	if err == nil {
		err = r.redirectTo(&redirect{index: pair, side: filterIngress}, pair+1)
	}
	if err == nil {
		err = r.add(root(pair), netem{limit: 1, rate: noTime, delay: 1, jitter: 1, table: table(topo.Uniform), slot: slot{min: 1, max: 1}})
	}
	f.Impair = missing(err)
	err = r.ifb(port{index: block, name: "probe2", mtu: 1500})
	if err == nil {
		err = r.add(root(block), tbf{rate: 1e6, burst: 2000})
	}
	try := func(q qdisc) error {
		if err != nil {
			return missing(err)
		}
		defer r.do(unix.RTM_DELQDISC, 0, child(block).message())
		return missing(r.add(child(block), q))
	}
	f.Rate = try(fifo{limit: 1000})
	f.RED = try(red{limit: 1000, min: 100, max: 200, probability: 1, rate: 1e6, frame: redSmall})
	f.CoDel = try(codel{limit: 10, target: codelTarget, interval: codelInterval})
	f.FQCoDel = try(codel{fair: true, limit: 10, target: codelTarget, interval: codelInterval, frame: 1500})
	return f
}

// missing makes an error of trying one of what is not supported.
func missing(err error) error {
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return unsupported("%w", err)
}

// Supported returns an error that wraps errors.ErrUnsupported if netem or this kernel cannot do
// what an impairment asks for, and says what is missing.
func Supported(i topo.Impairment, f Features) error {
	if _, err := plan(i, 1500); err != nil {
		return err
	}
	errs := []error{f.Impair}
	if i.Rate != 0 {
		errs = append(errs, f.Rate)
		switch i.AQM {
		case topo.RED:
			errs = append(errs, f.RED)
		case topo.CoDel:
			errs = append(errs, f.CoDel)
		case topo.FQCoDel:
			errs = append(errs, f.FQCoDel)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return lineError{err}
	}
	return nil
}

// module is that of a queueing discipline.
func module(kind string) string {
	if strings.HasSuffix(kind, "fifo") {
		return "fifo"
	}
	return kind
}
