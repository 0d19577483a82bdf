package manager

import (
	"cmp"
	"fmt"

	"golang.org/x/sys/unix"
)

// AddPort gives the manager a port with a number from 1.
func (m *Manager) AddPort(number uint16, name string, p Port) error {
	var failed error
	err := m.Do(func() {
		if number == 0 || int(number) < len(m.ports) && m.ports[number] != nil {
			failed = fmt.Errorf("port %s: there is a port %d already, or it is 0", name, number)
			return
		}
		if fd := p.FD(); fd >= 0 {
			if err := unix.EpollCtl(m.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}); err != nil {
				failed = fmt.Errorf("port %s: epoll: %w", name, err)
				return
			}
		}
		for int(number) >= len(m.ports) {
			m.ports = append(m.ports, nil)
		}
		sleeper, _ := p.(Sleeper)
		m.ports[number] = &entry{port: p, sleeper: sleeper, number: number, name: name}
	})
	return cmp.Or(err, failed)
}

// RemovePort takes a port away and closes it. Its frames come back.
func (m *Manager) RemovePort(number uint16) error {
	var failed error
	err := m.Do(func() {
		if int(number) >= len(m.ports) || m.ports[number] == nil {
			failed = fmt.Errorf("there is no port %d", number)
			return
		}
		p := m.ports[number]
		m.ports[number] = nil
		for _, d := range p.out {
			m.pool.Free(d.Frame)
		}
		if fd := p.port.FD(); fd >= 0 {
			unix.EpollCtl(m.poll, unix.EPOLL_CTL_DEL, fd, nil)
		}
		failed = p.port.Close()
	})
	return cmp.Or(err, failed)
}
