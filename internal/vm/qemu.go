package vm

import (
	"fmt"
	"strings"
)

// File descriptors that qemu inherits.
const (
	fdInitrd = 3 + iota
	fdConsole
	fdOut
	fdErr
	fdReport
)

// Names of the guest's virtio ports.
const (
	portOut    = "out"
	portErr    = "err"
	portReport = "report"
)

// tagRoot names the host's file system to the guest; tagWritable(i) a directory of it.
const tagRoot = "root"

func tagWritable(i int) string { return fmt.Sprintf("writable%d", i) }

// qemuArgs are the arguments of qemu 7.2, as of qemu-system-x86_64(1).
func (m Machine) qemuArgs(c *Cache) []string {
	accel := "tcg,thread=multi,tb-size=1024" // MiB of translated code
	switch {
	case m.KVM:
		accel = "kvm"
	case m.Steady:
		accel = "tcg,thread=single,tb-size=1024"
	}
	args := []string{
		"-accel", accel, "-cpu", "max,la57=off", "-smp", fmt.Sprint(m.CPUs), "-m", fmt.Sprint(m.Memory), "-machine", "q35",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", c.kernel(), "-initrd", fmt.Sprintf("/proc/self/fd/%d", fdInitrd), "-append", strings.Join(m.kernelArgs(), " "),
		"-device", "virtio-serial-pci",
	}
	if m.Steady {
		// Two nanoseconds an instruction; no time passes while there is nothing to do.
		args = append(args, "-icount", "shift=1,sleep=off")
	}
	for _, p := range []struct {
		fd   int
		name string
	}{{fdConsole, "console"}, {fdOut, portOut}, {fdErr, portErr}, {fdReport, portReport}} {
		args = append(args, "-add-fd", fmt.Sprintf("fd=%d,set=%[1]d", p.fd),
			"-chardev", fmt.Sprintf("file,id=%s,path=/dev/fdset/%d,append=on", p.name, p.fd))
		if p.fd == fdConsole {
			args = append(args, "-serial", "chardev:"+p.name)
		} else {
			args = append(args, "-device", fmt.Sprintf("virtserialport,chardev=%s,name=%[1]s", p.name))
		}
	}
	share := func(dir, tag, options string) {
		args = append(args, "-fsdev", fmt.Sprintf("local,id=%s,path=%s,security_model=none%s", tag, dir, options),
			"-device", fmt.Sprintf("virtio-9p-pci,fsdev=%s,mount_tag=%[1]s", tag))
	}
	share("/", tagRoot, ",readonly=on,multidevs=remap")
	for i, dir := range m.Writable {
		share(dir, tagWritable(i), "")
	}
	options := ""
	if m.iommu() {
		args = append(args, "-device", "intel-iommu,intremap=on")
		if strings.HasPrefix(m.NICModel, "virtio") {
			options = ",disable-legacy=on,iommu_platform=on"
		}
	}
	for i := range m.NICs {
		args = append(args, "-netdev", fmt.Sprintf("hubport,id=net%d,hubid=%d", i, i/2),
			"-device", fmt.Sprintf("%s,netdev=net%d,addr=0x%x,mac=52:54:00:00:00:%02x%s", m.NICModel, i, 0x10+i, i+1, options))
	}
	return append(args, m.QEMUArgs...)
}

func (m Machine) iommu() bool { return m.NICs > 0 && !m.NoIOMMU }

// kernelArgs are the kernel's arguments: what makes a kernel under emulation quick to
// start and its clock steady.
func (m Machine) kernelArgs() []string {
	args := strings.Fields("console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable clocksource=tsc no_timer_check " +
		"nohz=off apparmor=0 selinux=0 audit=0 init_on_alloc=0 random.trust_cpu=on cryptomgr.notests nowatchdog " +
		"8250.nr_uarts=1 i8042.noaux")
	if m.CPUs == 1 {
		args = append(args, "rcupdate.rcu_expedited=1")
	}
	if m.iommu() {
		args = append(args, "intel_iommu=on", "iommu=pt")
	}
	if m.Hugepages > 0 {
		args = append(args, "hugepagesz=2M", fmt.Sprintf("hugepages=%d", m.Hugepages))
	}
	return append(args, m.KernelArgs...)
}
