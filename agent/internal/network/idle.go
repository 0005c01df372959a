package network

import (
	"runtime/debug"
	"sync"
	"time"
)

// rest is how long a connection is idle before the memory of its buffer is given back.
const rest = 5 * time.Second

// enough is how much has to be given back for the kernel to get it at once.
const enough = 1 << 20

// standing are the connections that stand. While there are any, they are looked at now and then:
// one that was not used since the last time gives its memory back.
type standing struct {
	mu      sync.Mutex
	relays  map[*relay]struct{}
	looking bool
}

var connections = &standing{relays: map[*relay]struct{}{}}

func (s *standing) add(r *relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relays[r] = struct{}{}
	if !s.looking {
		s.looking = true
		time.AfterFunc(rest, s.look)
	}
}

func (s *standing) remove(r *relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.relays, r)
}

func (s *standing) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	freed := 0
	for r := range s.relays {
		freed += r.rest()
	}
	if freed >= enough {
		go debug.FreeOSMemory() // the collector would keep it until much more is garbage
	}
	if s.looking = len(s.relays) > 0; s.looking {
		time.AfterFunc(rest, s.look)
	}
}

// rest gives the memory of a buffer back that nothing has gone through since the last time, and
// says how much that was.
func (r *relay) rest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.buffer.Cap()
	if !r.used {
		r.buffer.Free()
	}
	r.used = false
	return before - r.buffer.Cap()
}
