// Package mux carries streams over the port and the window (protocol/README.md, sections 1 to 4).
package mux

import (
	"errors"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"sandlot/agent/internal/wire"
)

// Handler takes what the host sends on one stream. It is called by the reading goroutine, in
// order, and must not wait. Data must copy what it wants to keep.
type Handler interface {
	Data(p []byte)
	Fin()
	// Reset says that the stream is gone: by the host's RST, or lost with its session.
	Reset(lost bool)
}

// outLimit is how much may be queued for the port before writers of payload wait.
const outLimit = 256 << 10

// lateness is how long may wait what nobody waits for.
const lateness = 4 * time.Millisecond

// Conn is the agent's end of the channel.
type Conn struct {
	port    *port
	read    []byte // the half that the host writes
	write   []byte // the half that the agent writes
	accept  func(*Stream) Handler
	log     func(string)
	scanner *wire.Scanner

	mu      sync.Mutex
	streams map[uint32]*Stream
	highest uint32 // of the host's streams
	opened  uint32 // of our own
	broken  bool   // no session: waiting for a resync
	ring    wire.Ring
	owed    int
	out     []byte
	spare   []byte        // what was sent last, for its memory
	sending bool          // somebody writes: what is queued meanwhile is written too
	laying  bool          // what is queued now wakes nobody
	laid    bool          // such is queued
	late    *time.Timer   // when what was laid is sent at the latest; nil while nothing is to be
	wake    chan struct{} // the writer has something to do
	waiting []*Stream     // for room in the ring or the queue
}

// New returns a connection that serves nothing before the first resync. The port does not block;
// window may be empty.
func New(fd int, window []byte, accept func(*Stream) Handler, log func(string)) (*Conn, error) {
	port, err := newPort(fd)
	if err != nil {
		return nil, err
	}
	half := len(window) / 2
	return &Conn{
		port: port, read: window[:half], write: window[half:], accept: accept, log: log,
		scanner: wire.NewScanner(),
		streams: map[uint32]*Stream{},
		broken:  true,
		ring:    wire.NewRing(len(window) - half),
		wake:    make(chan struct{}, 1),
	}, nil
}

// Serve reads from the port forever.
func (c *Conn) Serve() {
	go c.guarded(c.writeLoop)
	for {
		c.guarded(c.readLoop)
	}
}

// guarded keeps a fault in one goroutine from ending process 1, and with it the machine.
func (c *Conn) guarded(f func()) {
	defer func() {
		if fault := recover(); fault != nil {
			c.log("channel: " + faultText(fault) + "\n" + string(debug.Stack()))
		}
	}()
	f()
}

func faultText(fault any) string {
	switch v := fault.(type) {
	case error:
		return v.Error()
	case string:
		return v
	}
	return "unknown fault"
}

// resync begins a new session.
func (c *Conn) resync(nonce []byte) {
	c.mu.Lock()
	lost := c.streams
	c.streams = map[uint32]*Stream{}
	c.highest, c.opened, c.broken, c.owed = 0, 0, false, 0
	c.ring.Reset()
	c.waiting = nil
	c.out = append(append(c.out[:0], wire.Magic...), nonce...)
	for _, s := range lost {
		s.kill()
	}
	c.mu.Unlock()
	c.scanner.SetToken(nonce)
	for _, s := range lost {
		s.handler.Reset(true)
	}
	c.poke()
}

// breach ends the session: nothing more is believed before the next resync.
func (c *Conn) breach(why string) {
	c.log("channel: " + why)
	c.mu.Lock()
	c.broken = true
	lost := c.streams
	c.streams = map[uint32]*Stream{}
	for _, s := range lost {
		s.kill()
	}
	c.queue(wire.Frame{Type: wire.GoAway, Length: 1})
	c.mu.Unlock()
	for _, s := range lost {
		s.handler.Reset(true)
	}
}

// queue adds a frame to what is sent. The lock is held.
func (c *Conn) queue(f wire.Frame) {
	first := len(c.out) == 0
	c.out = wire.AppendFrame(c.out, f)
	if c.laying {
		c.laid = true
	} else if first || c.laid {
		c.laid = false
		c.poke()
	}
}

func (c *Conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeLoop writes what was queued by those who do not write themselves.
func (c *Conn) writeLoop() {
	for range c.wake {
		c.Flush()
	}
}

// Flush puts everything that has gathered into one write: each costs an exit to the host. Where
// somebody is writing, that one does it.
func (c *Conn) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sending {
		return
	}
	c.sending = true
	for len(c.out) > 0 {
		if c.owed > 0 && !c.broken {
			c.out = wire.AppendFrame(c.out, wire.Frame{Type: wire.SharedFree, Length: uint32(c.owed)})
			c.owed = 0
		}
		sending := c.out
		c.out = c.spare[:0]
		c.laid = false
		c.release()
		c.mu.Unlock()
		c.writeAll(sending)
		c.mu.Lock()
		if c.spare = sending; cap(c.spare) > 4*outLimit {
			c.spare = nil
		}
	}
	c.sending = false
}

// FlushLate sends within a while what was laid, if nothing else takes it along.
func (c *Conn) FlushLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late != nil {
		return
	}
	c.late = time.AfterFunc(lateness, func() {
		c.mu.Lock()
		c.late = nil
		c.mu.Unlock()
		c.Flush()
	})
}

// writeAll writes to the port. The kernel copies what is written, and may have no memory for that
// at the moment: a frame that were dropped for it would let both sides wait for ever.
func (c *Conn) writeAll(p []byte) {
	for len(p) > 0 {
		n, err := c.port.write(p)
		if p = p[n:]; err == nil {
			continue
		}
		c.log("channel: write: " + err.Error())
		if !errors.Is(err, syscall.ENOMEM) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// release wakes the streams that wait for room. The lock is held.
func (c *Conn) release() {
	for _, s := range c.waiting {
		s.waits = false
		s.signal()
	}
	c.waiting = c.waiting[:0]
}
