package link

import (
	"fmt"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gatherTime is how long a device that Gather has set waits for more, after a frame has come.
const gatherTime = 40 * time.Microsecond

// Gather makes a device of a veth pair take what comes in close succession together, and join the
// segments of a stream (GRO), in the calling thread's network namespace. Of a program that sends
// frame by frame on the other side (AF_XDP, AF_PACKET), each would otherwise go all the way up to the
// socket within the system call that sends it: a third of what TCP through such a program costs. A
// frame that comes alone does not wait.
func Gather(device string) error {
	if err := ethtool(device, unsafe.Pointer(&ethtoolValue{cmd: unix.ETHTOOL_SGRO, data: 1})); err != nil {
		return fmt.Errorf("receive offload (gro) of %s: %w", device, err)
	}
	// "When napi_defer_hard_irqs is set, the device stays quiet, and a timer polls it"
	// (Documentation/networking/napi.rst, software IRQ coalescing): once after each time that
	// there was something.
	for _, a := range []struct {
		name  string
		value int
	}{{"gro_flush_timeout", int(gatherTime)}, {"napi_defer_hard_irqs", 1}} {
		if err := setAttribute(device, a.name, strconv.Itoa(a.value)); err != nil {
			return fmt.Errorf("%s of %s: %w", a.name, device, err)
		}
	}
	return nil
}

// setAttribute writes to /sys/class/net/DEVICE/NAME of the calling thread's network namespace, whose
// /sys need not be mounted anywhere.
func setAttribute(device, name, value string) error {
	sys, err := mountSysfs()
	if err != nil {
		return err
	}
	defer unix.Close(sys)
	fd, err := unix.Openat(sys, "class/net/"+device+"/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// mountSysfs returns a directory: the sysfs(5) of the calling thread's network namespace.
func mountSysfs() (fd int, err error) {
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("sysfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("sysfs: %w", err)
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("sysfs: %w", err)
	}
	return fd, nil
}
