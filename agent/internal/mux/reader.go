package mux

import (
	"errors"
	"syscall"
	"time"

	"sandlot/agent/internal/wire"
)

const readSize = 256 << 10

// readLoop reads, looks for a resync, and takes frames apart.
func (c *Conn) readLoop() {
	buffer := make([]byte, readSize)
	start, end := 0, 0
	nonce := false // the mark was found: TokenSize bytes more make the resync whole
	for {
		seen := end
		end += c.fill(buffer[end:])
		for {
			if nonce {
				if end-start < wire.TokenSize {
					break
				}
				c.resync(buffer[start : start+wire.TokenSize])
				start += wire.TokenSize
				seen, nonce = start, false
			}
			at := c.scanner.Find(buffer[seen:end])
			if at < 0 {
				break
			}
			start, nonce = seen+at, true
		}
		if !nonce {
			start += c.frames(buffer[start:end])
		}
		end = copy(buffer, buffer[start:end])
		start = 0
	}
}

// fill reads at least one byte. A port whose host side is closed reads as end of file, and not
// every kernel has an event for its opening: it is looked at from time to time.
func (c *Conn) fill(into []byte) int {
	for {
		n, err := c.port.read(into)
		if n > 0 {
			return n
		}
		if err != nil && err != syscall.EINTR {
			c.log("channel: read: " + err.Error())
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// frames handles every whole frame in data and says how many bytes those were.
func (c *Conn) frames(data []byte) int {
	done := 0
	for done < len(data) {
		if c.broken {
			return len(data)
		}
		f, size, err := wire.Parse(data[done:])
		if err == wire.ErrShort {
			break
		}
		if err == nil {
			err = c.frame(f)
		}
		if err != nil {
			c.breach(err.Error())
			return len(data)
		}
		done += size
	}
	c.settle()
	return done
}

// settle tells the host what was copied out of the window, unless it is too little to be worth
// a write of its own: then it goes along with the next one.
func (c *Conn) settle() {
	c.mu.Lock()
	if c.owed >= wire.MaxOwed/2 {
		c.free()
	}
	c.mu.Unlock()
}

func (c *Conn) free() {
	owed := c.owed
	c.owed = 0
	c.queue(wire.Frame{Type: wire.SharedFree, Length: uint32(owed)})
}

func (c *Conn) frame(f wire.Frame) error {
	switch f.Type {
	case wire.Ping:
		if f.Flags&wire.Syn != 0 {
			c.mu.Lock()
			c.queue(wire.Frame{Type: wire.Ping, Flags: wire.Ack, Length: f.Length})
			c.mu.Unlock()
		}
		return nil
	case wire.GoAway:
		return nil
	case wire.SharedFree:
		c.mu.Lock()
		defer c.mu.Unlock()
		if f.Stream != 0 {
			return errors.New("SHARED_FREE on a stream")
		}
		err := c.ring.Free(int(f.Length))
		c.release()
		return err
	}
	if f.Type == wire.Shared {
		if uint64(f.Offset)+uint64(f.Length) > uint64(len(c.read)) {
			return errors.New("a payload lies outside the window")
		}
		f.Payload = c.read[f.Offset : f.Offset+f.Length : f.Offset+f.Length]
		defer c.copied(int(f.Length))
	}
	s, err := c.find(f)
	if s == nil || err != nil {
		return err
	}
	return s.receive(f)
}

// copied notes a SHARED payload that nobody needs any longer.
func (c *Conn) copied(length int) {
	c.mu.Lock()
	c.owed += length
	if c.owed >= wire.MaxOwed {
		c.free()
	}
	c.mu.Unlock()
}

// find returns the frame's stream, opening it at SYN; nil for one that is dead.
func (c *Conn) find(f wire.Frame) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.Flags&wire.Syn == 0 {
		s := c.streams[f.Stream]
		latest := c.highest
		if f.Stream%2 == 0 {
			latest = c.opened
		}
		if s == nil && (f.Stream == 0 || f.Stream > latest) {
			return nil, errors.New("a frame for a stream that was never opened")
		}
		return s, nil
	}
	switch {
	case f.Stream%2 == 0 || f.Stream <= c.highest:
		return nil, errors.New("a stream is opened with a wrong number")
	case len(c.streams) >= wire.MaxStreams:
		return nil, errors.New("too many streams")
	}
	s := &Stream{
		conn: c, id: f.Stream, credit: wire.InitialCredit, granted: wire.InitialCredit,
		Ready: make(chan struct{}, 1),
	}
	c.highest = f.Stream
	c.streams[f.Stream] = s
	s.handler = c.accept(s)
	return s, nil
}
