package network

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

const (
	// relayBuffer bounds what one connection whose program does not read makes the agent hold.
	relayBuffer = 1 << 20
	scratchSize = 64 << 10
)

var scratches = sync.Pool{New: func() any { return new([scratchSize]byte) }}

// relay joins a stream of the host and a connected socket of the guest. It is the stream's
// handler from its first byte; the socket comes with join.
type relay struct {
	stream *mux.Stream

	mu      sync.Mutex
	file    *os.File
	buffer  wire.Buffer
	fin     bool // the host sends no more
	dead    bool
	used    bool // since the last look, idle.go
	flowing int  // directions that still go on
	changed chan struct{}
}

func newRelay() *relay {
	return &relay{buffer: wire.NewBuffer(relayBuffer), changed: make(chan struct{}, 1)}
}

// Carry opens a stream that begins with m and joins it to a connected socket, which is its own from
// then on. It says whether there was a session.
func Carry(conn *mux.Conn, m wire.Message, fd int) bool {
	r := newRelay()
	if r.stream = conn.Open(m, r); r.stream == nil {
		syscall.Close(fd)
		return false
	}
	r.join(fd)
	return true
}

// Data takes the host's bytes.
func (r *relay) Data(p []byte) {
	r.mu.Lock()
	r.used = true
	full := !r.dead && r.buffer.Put(p) < len(p)
	r.mu.Unlock()
	if full {
		r.stream.Reset()
		r.Reset(false)
	}
	r.wake()
}

// Fin is the end of what the host sends.
func (r *relay) Fin() {
	r.mu.Lock()
	r.fin = true
	r.mu.Unlock()
	r.wake()
}

// Reset ends the connection both ways; the program sees a reset too.
func (r *relay) Reset(bool) {
	r.mu.Lock()
	r.dead = true
	file := r.file
	r.mu.Unlock()
	if file != nil {
		file.SetDeadline(time.Unix(1, 0))
	}
	r.wake()
}

func (r *relay) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// join begins to move bytes between the stream and the socket, which it owns from now on.
func (r *relay) join(fd int) {
	file := os.NewFile(uintptr(fd), "connection")
	r.mu.Lock()
	r.file, r.flowing = file, 2
	dead := r.dead
	r.mu.Unlock()
	if dead {
		r.close(file)
		return
	}
	connections.add(r)
	r.stream.Grant(relayBuffer - wire.InitialCredit)
	go r.run(r.toGuest)
	go r.run(r.toHost)
}

// run runs one direction; what goes wrong in one ends both.
func (r *relay) run(direction func(syscall.RawConn) error) {
	raw, err := r.file.SyscallConn()
	if err == nil {
		err = direction(raw)
	}
	if err != nil {
		r.stream.Reset()
		r.Reset(false)
	}
	r.mu.Lock()
	r.flowing--
	last := r.flowing == 0
	r.mu.Unlock()
	if last {
		r.close(r.file)
	}
}

// close closes the socket, with a reset when the connection did not end in order.
func (r *relay) close(file *os.File) {
	connections.remove(r)
	r.mu.Lock()
	dead := r.dead
	r.dead = true
	r.buffer.Drop(r.buffer.Len())
	r.mu.Unlock()
	if dead {
		if raw, err := file.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
			})
		}
	}
	file.Close()
}

func (r *relay) toGuest(raw syscall.RawConn) error {
	for {
		r.mu.Lock()
		front, fin, dead := r.buffer.Front(), r.fin, r.dead
		r.mu.Unlock()
		switch {
		case dead:
			return mux.ErrDead
		case len(front) > 0:
			n, err := write(raw, front)
			if err != nil {
				return err
			}
			r.mu.Lock()
			r.buffer.Drop(n)
			r.mu.Unlock()
			r.stream.Grant(n)
		case fin:
			raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) })
			return nil
		default:
			<-r.changed
		}
	}
}

func write(raw syscall.RawConn, p []byte) (n int, err error) {
	var fault error
	err = raw.Write(func(fd uintptr) bool {
		n, fault = syscall.Write(int(fd), p)
		return fault != syscall.EAGAIN
	})
	if err == nil && fault != syscall.EINTR {
		err = fault
	}
	return max(n, 0), err
}

func (r *relay) toHost(raw syscall.RawConn) error {
	for {
		var n int
		var fault error
		err := raw.Read(func(fd uintptr) bool {
			scratch := scratches.Get().(*[scratchSize]byte)
			n, fault = r.stream.ReadFrom(int(fd), max(available(int(fd)), 1), scratch[:])
			scratches.Put(scratch)
			return fault != syscall.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case fault == mux.Wait:
			<-r.stream.Ready
		case fault == syscall.EINTR:
		case fault != nil:
			return fault
		case n == 0:
			r.stream.Fin()
			return nil
		}
	}
}

func available(fd int) int {
	const fionread = 0x541b
	var n int32
	syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), fionread, uintptr(unsafe.Pointer(&n)))
	return int(n)
}
