package wire

import (
	"errors"
	"fmt"

	"weft/internal/device"
	"weft/link"
)

// newTAP makes an end that is a TAP device.
func (e *Engine) newTAP(at link.End, mtu int) (*end, error) {
	t := &end{End: at, tap: true, fd: -1}
	build := func() error { return t.makeTAP(e.tun, mtu) }
	var err error
	if at.Net != nil {
		err = at.Net.Do(build)
	} else {
		err = build()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make TAP device %s: %w", at.Device, err), t.close())
	}
	return t, nil
}

func (e *end) makeTAP(tun string, mtu int) error {
	fd, err := device.OpenTAP(device.TAP{File: tun, Name: e.Device, MAC: e.MAC, MTU: mtu})
	if err != nil {
		return err
	}
	e.fd = fd
	if e.Net == nil {
		if err := device.Up(e.Device); err != nil {
			return err
		}
	}
	// To remove a device takes the kernel 10 ms and more, a thousand of them with their namespaces
	// little longer. So a device stays when the engine ends, with its namespace.
	if err := device.Persist(fd, true); err != nil {
		return fmt.Errorf("persist: %w", err)
	}
	e.remove = func() error { return device.Persist(e.fd, false) }
	return nil
}
