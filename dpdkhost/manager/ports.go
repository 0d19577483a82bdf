package manager

import (
	"cmp"
	"fmt"

	"golang.org/x/sys/unix"
)

// A NewPort is a port for AddPorts.
type NewPort struct {
	Number uint16 // from 1 to MaxPort
	Name   string
	Port   Port
}

// AddPort gives the manager a port with a number from 1.
func (m *Manager) AddPort(number uint16, name string, p Port) error {
	return m.AddPorts(NewPort{number, name, p})
}

// AddPorts gives the manager ports, all before a packet comes by one of them. With an error it
// has those before the one that the error names.
func (m *Manager) AddPorts(list ...NewPort) error {
	var failed error
	err := m.Do(func() {
		for _, p := range list {
			if failed = m.addPort(p); failed != nil {
				failed = fmt.Errorf("port %s: %w", p.Name, failed)
				return
			}
		}
	})
	return cmp.Or(err, failed)
}

func (m *Manager) addPort(p NewPort) error {
	if p.Number == 0 || p.Number > MaxPort {
		return fmt.Errorf("number %d: write one from 1 to %d", p.Number, MaxPort)
	}
	if int(p.Number) < len(m.ports) && m.ports[p.Number] != nil {
		return fmt.Errorf("there is a port %d already", p.Number)
	}
	if fd := p.Port.FD(); fd >= 0 {
		if err := unix.EpollCtl(m.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	for int(p.Number) >= len(m.ports) {
		m.ports = append(m.ports, nil)
	}
	sleeper, _ := p.Port.(Sleeper)
	m.ports[p.Number] = &entry{port: p.Port, sleeper: sleeper, number: p.Number, name: p.Name}
	return nil
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
		m.drops.NoPort += uint64(len(p.out))
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
