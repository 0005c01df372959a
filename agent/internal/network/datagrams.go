package network

import (
	"net/netip"
	"syscall"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// send hands a datagram to the host. Without room for it, it is lost, as datagrams are.
func (g *Gate) send(p *packet) {
	g.mu.Lock()
	stream := g.datagrams
	g.mu.Unlock()
	data := p.payload[headerUDP:]
	if stream == nil || len(data) > maxDatagram {
		g.tun.Write(p.unreachable(router(p), syscall.ENETUNREACH))
		return
	}
	stream.Send(&wire.Datagram{
		Port: uint64(p.source.Port()), Remote: p.target.Addr().AsSlice(),
		RemotePort: uint64(p.target.Port()), Data: data,
	}, false)
}

// Network is the host's stream for datagrams; a later one replaces it.
func (g *Gate) Network(s *mux.Stream) mux.Handler {
	g.mu.Lock()
	before := g.datagrams
	g.datagrams = s
	g.mu.Unlock()
	if before != nil {
		before.Reset()
	}
	return &datagramStream{gate: g, stream: s}
}

// datagramStream takes datagrams of the host.
type datagramStream struct {
	gate   *Gate
	stream *mux.Stream
	buffer []byte
}

// Data gathers messages and sends what they carry into the guest.
func (d *datagramStream) Data(p []byte) {
	d.stream.Grant(len(p))
	d.buffer = append(d.buffer, p...)
	rest := d.buffer
	for {
		message, size, err := wire.TakeMessage(rest)
		if err != nil {
			d.stream.Reset()
			d.Reset(false)
			return
		}
		if message == nil {
			break
		}
		rest = rest[size:]
		d.deliver(message)
	}
	d.buffer = append(d.buffer[:0], rest...)
}

func (d *datagramStream) deliver(message wire.Message) {
	switch m := message.(type) {
	case *wire.Datagram:
		if guest, remote, ok := between(m.Port, m.Remote, m.RemotePort); ok && len(m.Data) <= maxDatagram {
			d.gate.tun.Write(datagram(remote, guest, m.Data))
		}
	case *wire.Unreachable:
		if guest, remote, ok := between(m.Port, m.Remote, m.RemotePort); ok {
			sent, _ := parse(datagram(guest, remote, nil))
			d.gate.tun.Write(sent.unreachable(router(&sent), syscall.Errno(m.Errno)))
		}
	}
}

// between puts the two ends of a datagram together.
func between(port uint64, remote []byte, remotePort uint64) (guest, there netip.AddrPort, ok bool) {
	address, ok := netip.AddrFromSlice(remote)
	if !ok || port > 65535 || remotePort > 65535 {
		return guest, there, false
	}
	own := address4.Addr()
	if address.Is6() {
		own = address6.Addr()
	}
	return netip.AddrPortFrom(own, uint16(port)), netip.AddrPortFrom(address, uint16(remotePort)), true
}

// Fin ends it.
func (d *datagramStream) Fin() { d.Reset(false) }

// Reset ends it.
func (d *datagramStream) Reset(bool) {
	d.gate.mu.Lock()
	if d.gate.datagrams == d.stream {
		d.gate.datagrams = nil
	}
	d.gate.mu.Unlock()
}
