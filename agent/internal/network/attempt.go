package network

import (
	"syscall"
	"time"

	"sandlot/agent/internal/wire"
)

// attempt is a connection that waits for the host's answer, and then for its socket.
type attempt struct {
	gate  *Gate
	ends  ends
	first packet
	relay *relay

	allowed bool // under the gate's lock
	answer  []byte
	done    bool // the host has answered; only used by the reading goroutine
}

// Data takes the host's answer, and passes on what follows it.
func (a *attempt) Data(p []byte) {
	if a.done {
		a.relay.Data(p)
		return
	}
	a.answer = append(a.answer, p...)
	message, size, err := wire.TakeMessage(a.answer)
	if err != nil {
		a.relay.stream.Reset()
		a.fail(syscall.EHOSTUNREACH)
		return
	}
	if message == nil {
		return
	}
	a.done = true
	rest := a.answer[size:]
	a.answer = nil
	switch m := message.(type) {
	case *wire.OK:
		a.allow()
		if len(rest) > 0 {
			a.relay.Data(rest)
		}
	case *wire.Failed:
		a.fail(syscall.Errno(m.Errno))
	default:
		a.relay.stream.Reset()
		a.fail(syscall.EHOSTUNREACH)
	}
}

// allow sends the first packet back into the guest, where the listener answers it.
func (a *attempt) allow() {
	g := a.gate
	g.mu.Lock()
	a.allowed = true
	g.mu.Unlock()
	g.tun.Write(a.first.whole)
	time.AfterFunc(taken, func() {
		if g.forget(a) {
			a.relay.stream.Reset() // the program gave up
			a.relay.Reset(false)
		}
	})
}

// fail tells the program why there is no connection. A destination that gives no answer at all
// is told by silence, as on any network: the program's own patience decides.
func (a *attempt) fail(errno syscall.Errno) {
	if !a.gate.forget(a) {
		return
	}
	switch errno {
	case syscall.ETIMEDOUT:
	case syscall.ECONNREFUSED:
		a.gate.tun.Write(a.first.refusal())
	default:
		a.gate.tun.Write(a.first.unreachable(router(&a.first), errno))
	}
}

// Fin is the end of what the host sends.
func (a *attempt) Fin() {
	if a.done {
		a.relay.Fin()
	} else {
		a.fail(syscall.EHOSTUNREACH)
	}
}

// Reset ends the connection. With the session the host's side is lost too.
func (a *attempt) Reset(lost bool) {
	if !a.done {
		a.fail(syscall.EHOSTUNREACH)
		return
	}
	a.gate.forget(a)
	a.relay.Reset(lost)
}
