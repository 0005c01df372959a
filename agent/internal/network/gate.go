// Package network joins the guest's network to streams of the channel.
//
// The only device is a TUN that leads to the gate below. The first packet of a TCP connection
// waits there until the host has connected to its destination, or says why it does not: so the
// program's connect(2) ends with the truth. A packet that is let through goes back into the
// guest, where a listener of the gate takes it over (docs/design/0016-network-without-a-card.md). Datagrams go
// to the host one by one.
package network

import (
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

const (
	maxPacket   = 65535
	maxDatagram = 65000
	// maxWaiting bounds connections that nobody has answered or taken over yet.
	maxWaiting = 4096
	// taken is how long a connection that was let through may take to arrive.
	taken = 10 * time.Second
)

// ends are a connection's two ends: the guest's and the other.
type ends struct{ guest, remote netip.AddrPort }

// Gate is the guest's side of the network.
type Gate struct {
	tun  *os.File
	conn *mux.Conn
	log  func(string)
	who  *owners

	mu        sync.Mutex
	waiting   map[ends]*attempt
	datagrams *mux.Stream // the host's NETWORK stream
}

// Open sets up the network; group is the cgroup that all programs are in.
func Open(group int, log func(string)) (*Gate, error) {
	tun, index, err := openDevice()
	if err != nil {
		return nil, err
	}
	g := &Gate{tun: tun, log: log, waiting: map[ends]*attempt{}}
	if err := configure(index); err != nil {
		return nil, wrap("routes", err)
	}
	listeners := [2]int{-1, -1}
	for i, family := range []int{syscall.AF_INET, syscall.AF_INET6} {
		fd, err := listen(family)
		if err != nil {
			log("network: " + err.Error())
			continue
		}
		listeners[i] = fd
		go g.guarded(func() { g.accept(os.NewFile(uintptr(fd), "listener")) })
	}
	if g.who, err = openOwners(); err == nil {
		err = g.who.attach(group)
	}
	if err == nil {
		if err = steer(listeners, index, group, g.who.notePort()); err == nil {
			return g, nil
		}
	}
	// Who connects is not known then; all else works.
	log("network: " + err.Error())
	g.who = nil
	return g, steer(listeners, index, group, nil)
}

// Serve begins to carry what the guest sends over conn.
func (g *Gate) Serve(conn *mux.Conn) {
	g.conn = conn
	go g.guarded(g.read)
}

// guarded keeps a fault from ending process 1, and goes on after it.
func (g *Gate) guarded(f func()) {
	for ended := false; !ended; {
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					g.log("a fault in the network\n" + string(debug.Stack()))
				}
			}()
			f()
			ended = true
		}()
	}
}

// read takes every packet that the guest sends.
func (g *Gate) read() {
	buffer := make([]byte, maxPacket)
	for {
		n, err := g.tun.Read(buffer)
		if err != nil {
			g.log("network: " + err.Error())
			return
		}
		if p, ok := parse(buffer[:n]); ok && !p.target.Addr().IsMulticast() {
			g.packet(&p)
		}
	}
}

func (g *Gate) packet(p *packet) {
	switch {
	case p.opens():
		g.connect(p)
	case p.protocol == protocolTCP:
		// Of a connection that was let through and is not routed past us: it finds its socket.
		g.tun.Write(p.whole)
	case p.protocol == protocolUDP:
		g.send(p)
	case p.protocol != protocolICMPv6 || len(p.payload) > 0 && p.payload[0] == 128:
		g.tun.Write(p.unreachable(router(p), syscall.EACCES))
	}
}

// router is the address that an error about a packet comes from.
func router(p *packet) netip.Addr {
	if p.source.Addr().Is4() {
		return Router
	}
	return router6
}

// connect asks the host to connect, once for all packets that repeat the first.
func (g *Gate) connect(p *packet) {
	key := ends{p.source, p.target}
	kept := *p
	kept.whole = append([]byte(nil), p.whole...)
	kept.payload = kept.whole[len(p.whole)-len(p.payload):]
	a := &attempt{gate: g, ends: key, first: kept, relay: newRelay()}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting[key] != nil || len(g.waiting) >= maxWaiting {
		return
	}
	pid, name := g.who.of(p.source, p.target)
	a.relay.stream = g.conn.Open(&wire.Connect{
		Source: p.source.Addr().AsSlice(), SourcePort: uint64(p.source.Port()),
		Target: p.target.Addr().AsSlice(), TargetPort: uint64(p.target.Port()),
		Pid: pid, Process: name,
	}, a)
	if a.relay.stream != nil {
		g.waiting[key] = a
	}
}

// forget takes an attempt out of those that wait; false if it was out already.
func (g *Gate) forget(a *attempt) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting[a.ends] != a {
		return false
	}
	delete(g.waiting, a.ends)
	return true
}

// accept takes over the connections that were let through.
func (g *Gate) accept(listener *os.File) {
	raw, err := listener.SyscallConn()
	for err == nil {
		fd, fault := -1, error(nil)
		err = raw.Read(func(listening uintptr) bool {
			fd, _, fault = syscall.Accept4(int(listening), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			return fault != syscall.EAGAIN
		})
		if fault != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		g.take(fd)
	}
	g.log("network: " + err.Error())
}

func (g *Gate) take(fd int) {
	guest, err := syscall.Getpeername(fd)
	remote, fault := syscall.Getsockname(fd)
	if err == nil && fault == nil {
		key := ends{addrPort(guest), addrPort(remote)}
		g.mu.Lock()
		a := g.waiting[key]
		if a != nil && a.allowed {
			delete(g.waiting, key)
		} else {
			a = nil
		}
		g.mu.Unlock()
		if a != nil {
			syscall.SetsockoptInt(fd, syscall.SOL_TCP, syscall.TCP_NODELAY, 1)
			a.relay.join(fd)
			return
		}
	}
	syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	syscall.Close(fd)
}

func addrPort(address syscall.Sockaddr) netip.AddrPort {
	switch a := address.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}
