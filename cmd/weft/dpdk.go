package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"weft/dpdkhost/nic"
	"weft/session"
)

// dpdkCommand is weft dpdk.
func (p *program) dpdkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dpdk [status|bind|unbind|hugepages]",
		Short: "Say what there is for DPDK on this machine, give NICs to it and take them back",
		Long: "Actions:\n" +
			"  status                     NICs, who uses them, hugepages, drivers, and what is in the way\n" +
			"  bind NIC...                give NICs to a driver for DPDK; a NIC is a PCI address or an interface\n" +
			"  unbind NIC...              give them back to their kernel drivers\n" +
			"  hugepages NUMBER           change how many hugepages there are\n\n" +
			"What is changed is written down in " + string(nic.MachineJournal) + " first; weft clean puts it back.\n",
		Example: "weft dpdk\n" +
			"sudo weft dpdk bind 0000:03:00.0 0000:03:00.1\n" +
			"sudo weft dpdk hugepages 512 --node 0",
	}
	f := cmd.Flags()
	asJSON := jsonFlag(cmd)
	driver := f.String("driver", "", "`DRIVER` bind: which driver (vfio-pci; without an IOMMU, what there is)")
	force := f.Bool("force", false, "bind: take NICs that are in use too")
	node := f.Int("node", -1, "`N` hugepages: of this NUMA node (all)")
	size := f.String("size", "", "`SIZE` hugepages: of this size, 2MB or 1GB (the kernel's default)")
	flagsOf := map[string][]string{"bind": {"driver", "force"}, "hugepages": {"node", "size"}}
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return completeDPDK(args), cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := noEmptyValues(f); err != nil {
			return err
		}
		action := "status"
		if len(args) > 0 {
			action, args = args[0], args[1:]
		}
		for _, name := range []string{"driver", "force", "node", "size"} {
			if f.Changed(name) && !slices.Contains(flagsOf[action], name) {
				return &session.UsageError{Err: fmt.Errorf("weft dpdk %s has no option --%s", action, name)}
			}
		}
		ctx := cmd.Context()
		switch action {
		case "status":
			if len(args) > 0 {
				return &session.UsageError{Err: fmt.Errorf("unexpected argument %q (see weft dpdk --help)", args[0])}
			}
			return p.dpdkStatus(*asJSON)
		case "bind":
			return p.dpdkBind(ctx, args, nic.Binding{Driver: *driver, Force: *force}, *asJSON)
		case "unbind":
			return p.dpdkUnbind(ctx, args, *asJSON)
		case "hugepages":
			return p.dpdkHugepages(ctx, args, *node, *size, *asJSON)
		}
		return &session.UsageError{Err: fmt.Errorf("there is no action %q; write status, bind, unbind or hugepages", action)}
	}
	return cmd
}

// completeDPDK lists what may come after words.
func completeDPDK(words []string) (list []string) {
	if len(words) == 0 {
		return []string{"status", "bind", "unbind", "hugepages"}
	}
	if words[0] != "bind" && words[0] != "unbind" {
		return nil
	}
	nics, err := nic.Root("/").List()
	if err != nil {
		return nil
	}
	for _, n := range nics {
		if n.Bus == "pci" && n.Taken() == (words[0] == "unbind") {
			list = append(list, n.Address)
		}
	}
	return list
}

func (p *program) dpdkStatus(asJSON bool) error {
	stack, err := nic.ReadStack()
	if err != nil {
		return err
	}
	s, err := nic.Root("/").Status(stack, nic.MachineJournal)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(p.out, s)
	}
	return s.Write(p.out)
}

// byHand is for whom the journal says a change is.
const byHand = "weft dpdk"

// needRoot says that a change of the machine takes root.
func needRoot(action string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("this changes the machine and needs root: sudo weft dpdk %s", action)
	}
	return nil
}

// cards returns the NICs that words name, by PCI address or interface.
func cards(words []string) ([]nic.NIC, error) {
	if len(words) == 0 {
		return nil, &session.UsageError{Err: errors.New("write which NICs: PCI addresses or interfaces, as weft dpdk status lists them")}
	}
	stack, err := nic.ReadStack()
	if err != nil {
		return nil, err
	}
	all, err := nic.Root("/").Known(stack, nic.MachineJournal)
	if err != nil {
		return nil, err
	}
	var list []nic.NIC
	var errs []error
	for _, w := range words {
		n, err := nic.Find(all, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !slices.ContainsFunc(list, func(o nic.NIC) bool { return o.Address == n.Address }) {
			list = append(list, n)
		}
	}
	return list, errors.Join(errs...)
}

// A moved says which driver a NIC has got.
type moved struct {
	Address string `json:"address"`
	From    string `json:"from"`
	To      string `json:"to"`
}

func (p *program) dpdkBind(ctx context.Context, words []string, b nic.Binding, asJSON bool) error {
	list, err := cards(words)
	if err != nil {
		return err
	}
	if err := needRoot("bind " + strings.Join(words, " ")); err != nil {
		return err
	}
	for _, n := range list {
		b.With = append(b.With, n.Address)
	}
	var done []*nic.Record
	changes := []moved{}
	for _, n := range list {
		r, err := nic.MachineJournal.Bind(ctx, "/", n, b, byHand)
		if err != nil {
			for _, r := range slices.Backward(done) { // all or none
				err = errors.Join(err, r.Undo(context.WithoutCancel(ctx), "/"))
			}
			return err
		}
		if r != nil {
			done = append(done, r)
			changes = append(changes, moved{n.Address, n.Driver, r.Bound.To})
		} else if !asJSON {
			fmt.Fprintf(p.out, "%s has the driver %s already\n", n.Address, n.Driver)
		}
	}
	for _, r := range done {
		err = errors.Join(err, r.Release())
	}
	if asJSON {
		return errors.Join(err, printJSON(p.out, changes))
	}
	for _, c := range changes {
		fmt.Fprintf(p.out, "%s: %s → %s; weft dpdk unbind %[1]s gives it back\n", c.Address, cmp.Or(c.From, "no driver"), c.To)
	}
	return err
}

func (p *program) dpdkUnbind(ctx context.Context, words []string, asJSON bool) error {
	list, err := cards(words)
	if err != nil {
		return err
	}
	if err := needRoot("unbind " + strings.Join(words, " ")); err != nil {
		return err
	}
	changes := []moved{}
	var errs []error
	for _, n := range list {
		if err := nic.MachineJournal.Unbind(ctx, "/", n); err != nil {
			errs = append(errs, err)
			continue
		}
		now, err := nic.Root("/").Card(n.Address)
		errs = append(errs, err)
		changes = append(changes, moved{n.Address, n.Driver, now.Driver})
	}
	if asJSON {
		return errors.Join(append(errs, printJSON(p.out, changes))...)
	}
	for _, c := range changes {
		fmt.Fprintf(p.out, "%s: %s → %s\n", c.Address, cmp.Or(c.From, "no driver"), cmp.Or(c.To, "no driver"))
	}
	return errors.Join(errs...)
}

func (p *program) dpdkHugepages(ctx context.Context, words []string, node int, size string, asJSON bool) error {
	want := nic.Pages{Node: node, Total: -1}
	if len(words) == 1 {
		if n, err := strconv.Atoi(words[0]); err == nil {
			want.Total = n
		}
	}
	if want.Total < 0 {
		return &session.UsageError{Err: errors.New("write how many hugepages there are to be: weft dpdk hugepages 512")}
	}
	var err error
	if want.Size, err = nic.ParsePageSize(size); err != nil {
		return &session.UsageError{Err: err}
	}
	if err := needRoot("hugepages " + words[0]); err != nil {
		return err
	}
	r, err := nic.MachineJournal.SetPages(ctx, "/", want, byHand)
	if err != nil {
		return err
	}
	if r != nil {
		err = r.Release()
	}
	now := nic.Root("/").Machine().Hugepages
	if asJSON {
		return errors.Join(err, printJSON(p.out, now))
	}
	for _, h := range now {
		fmt.Fprintln(p.out, h)
	}
	return err
}
