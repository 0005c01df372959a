package mux

import (
	"errors"

	"sandlot/agent/internal/bulk"
	"sandlot/agent/internal/wire"
)

// inline is the size up to which payload goes through the port: below it, the window saves
// nothing, since its frame must be written all the same.
const inline = 4096

// smallWindow is the size below which a half may stay full of what the host need not free yet.
const smallWindow = 1 << 20

// Wait is returned by Offer and ReadFrom when the stream has no credit, or the channel no room:
// Ready says when to try again.
var Wait = errors.New("no credit or no room")

// ErrDead says that the stream is no more.
var ErrDead = errors.New("the stream has ended")

// Stream is one stream that the host opened.
type Stream struct {
	conn    *Conn
	id      uint32
	handler Handler // only used by the reading goroutine
	// Ready gets a token when there may be credit or room again, and when the stream dies.
	Ready chan struct{}

	// Under conn.mu:
	credit   int // what the agent may still send
	granted  int // what the host may still send
	returned int // consumed, but not yet granted again
	finSent  bool
	finSeen  bool
	dead     bool
	waits    bool
}

// Open opens a stream of our own that begins with m; nil when there is no session.
func (c *Conn) Open(m wire.Message, h Handler) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken || len(c.streams) >= wire.MaxStreams {
		return nil
	}
	c.opened += 2
	data := wire.Encode(m)
	s := &Stream{
		conn: c, id: c.opened, credit: wire.InitialCredit - len(data), granted: wire.InitialCredit,
		Ready: make(chan struct{}, 1), handler: h,
	}
	c.streams[s.id] = s
	c.queue(wire.Frame{
		Type: wire.Data, Flags: wire.Syn, Stream: s.id, Length: uint32(len(data)), Payload: data,
	})
	return s
}

// SetHandler passes the stream on; only a Handler may call it.
func (s *Stream) SetHandler(h Handler) { s.handler = h }

func (s *Stream) signal() {
	select {
	case s.Ready <- struct{}{}:
	default:
	}
}

func (s *Stream) kill() {
	s.dead = true
	s.signal()
}

// end forgets the stream when both sides have finished. The lock is held.
func (s *Stream) end() {
	if s.finSent && s.finSeen {
		s.kill()
		delete(s.conn.streams, s.id)
	}
}

func (s *Stream) receive(f wire.Frame) error {
	c := s.conn
	if f.Flags&wire.Rst != 0 {
		c.mu.Lock()
		s.kill()
		delete(c.streams, s.id)
		c.mu.Unlock()
		s.handler.Reset(false)
		return nil
	}
	c.mu.Lock()
	if f.Type == wire.Credit {
		s.credit += int(f.Length)
		if s.credit > wire.MaxCredit {
			c.mu.Unlock()
			return errors.New("too much credit")
		}
		s.signal()
	} else {
		if s.finSeen && f.Length > 0 {
			c.mu.Unlock()
			return errors.New("payload after FIN")
		}
		if s.granted -= int(f.Length); s.granted < 0 {
			c.mu.Unlock()
			return errors.New("payload beyond the credit")
		}
	}
	fin := f.Flags&wire.Fin != 0 && !s.finSeen
	c.mu.Unlock()
	if len(f.Payload) > 0 {
		s.handler.Data(f.Payload)
	}
	if fin {
		s.handler.Fin()
		c.mu.Lock()
		s.finSeen = true
		s.end()
		c.mu.Unlock()
	}
	return nil
}

// Grant allows the host n bytes more. Small sums wait until they are worth a frame.
func (s *Stream) Grant(n int) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.returned += n; s.returned < wire.InitialCredit/2 || s.dead || s.finSeen {
		return
	}
	s.granted += s.returned
	c.queue(wire.Frame{Type: wire.Credit, Stream: s.id, Length: uint32(s.returned)})
	s.returned = 0
}

// Send sends a message, at once: messages are few and small, and do not wait for credit that
// they could only lack on a host's fault.
func (s *Stream) Send(m wire.Message, fin bool) {
	c := s.conn
	data := wire.Encode(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.dead || s.finSent || len(data) > s.credit {
		return
	}
	s.credit -= len(data)
	s.put(data)
	if fin {
		s.fin()
	}
}

// Fin says that the agent sends no more.
func (s *Stream) Fin() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.fin()
}

func (s *Stream) fin() {
	if s.dead || s.finSent {
		return
	}
	s.finSent = true
	s.conn.queue(wire.Frame{Type: wire.Data, Flags: wire.Fin, Stream: s.id})
	s.end()
}

// Reset ends the stream both ways.
func (s *Stream) Reset() {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.dead {
		return
	}
	s.kill()
	delete(c.streams, s.id)
	c.queue(wire.Frame{Type: wire.Credit, Flags: wire.Rst, Stream: s.id})
}

// Dead says whether the stream is no more.
func (s *Stream) Dead() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.dead
}

// room is how many bytes may be sent now; 0 puts the stream among those that wait. The lock is
// held.
func (s *Stream) room(want int) (int, error) {
	c := s.conn
	if s.dead {
		return 0, ErrDead
	}
	want = min(want, s.credit)
	if room := c.ring.Room(); want > inline && len(c.write) >= smallWindow {
		// Rather wait for room than send much through the port: it is ten times slower.
		if want = min(want, room, wire.MaxShared); want <= inline {
			want = 0
		}
	} else if want = min(want, wire.MaxPayload); len(c.out) > outLimit {
		want = 0
	}
	if want > 0 {
		return want, nil
	}
	if s.credit > 0 && !s.waits {
		s.waits = true
		c.waiting = append(c.waiting, s)
	}
	return 0, Wait
}

func (s *Stream) put(p []byte) {
	s.conn.queue(wire.Frame{Type: wire.Data, Stream: s.id, Length: uint32(len(p)), Payload: p})
}

// Offer sends as much of p as there is credit and room for.
func (s *Stream) Offer(p []byte) (int, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.offer(p)
}

// Lay is Offer without waking the writer: it goes along with what is sent next, or at a Flush.
func (s *Stream) Lay(p []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.laying = true
	defer func() { c.laying = false }()
	return s.offer(p)
}

// Flush sends what was laid, at once or, if late, within a while.
func (s *Stream) Flush(late bool) {
	if late {
		s.conn.FlushLate()
	} else {
		s.conn.Flush()
	}
}

func (s *Stream) offer(p []byte) (int, error) {
	c := s.conn
	n, err := s.room(len(p))
	if err != nil {
		return 0, err
	}
	s.credit -= n
	if n > inline {
		if offset, ok := c.ring.Allocate(n); ok {
			bulk.Copy(c.write[offset:], p[:n])
			s.shared(offset, n)
			return n, nil
		}
		n = min(n, wire.MaxPayload)
	}
	s.put(p[:n])
	return n, nil
}

func (s *Stream) shared(offset, n int) {
	s.conn.queue(wire.Frame{Type: wire.Shared, Stream: s.id, Offset: uint32(offset), Length: uint32(n)})
}

// ReadFrom reads once from a non-blocking descriptor and sends what it read, straight into the
// window when it is much. large is a guess at how much there is.
func (s *Stream) ReadFrom(fd int, large int, scratch []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	want, err := s.room(large)
	if err != nil {
		return 0, err
	}
	if want > inline {
		if offset, ok := c.ring.Allocate(want); ok {
			n, err := read(fd, c.write[offset:offset+want])
			c.ring.Shrink(max(n, 0))
			if n > 0 {
				s.credit -= n
				s.shared(offset, n)
			}
			return n, err
		}
	}
	n, err := read(fd, scratch[:min(want, len(scratch))])
	if n > 0 {
		s.credit -= n
		s.put(scratch[:n])
	}
	return n, err
}
