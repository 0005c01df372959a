package files

import (
	"errors"
	"io"
	"sync"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// inboxLimit is how much the host may have under way to one request; a power of two.
const inboxLimit = 4 << 20

var (
	errUnknown = errors.New("not a file request")
	errCut     = errors.New("the stream ended early")
)

// inbox is what the host sends on a request's stream, on its way to the request's goroutine.
type inbox struct {
	stream *mux.Stream

	mu      sync.Mutex
	buffer  wire.Buffer
	fin     bool
	dead    bool
	changed chan struct{}
}

func newInbox(s *mux.Stream) *inbox {
	b := &inbox{stream: s, buffer: wire.NewBuffer(inboxLimit), changed: make(chan struct{}, 1)}
	b.buffer.Hold = true
	return b
}

// Data takes the host's bytes. The credit has seen to it that there is room.
func (b *inbox) Data(p []byte) {
	b.mu.Lock()
	full := !b.dead && b.buffer.Put(p) < len(p)
	b.mu.Unlock()
	if full {
		b.stream.Reset()
		b.close()
	}
	b.wake()
}

// Fin is the end of what the host sends.
func (b *inbox) Fin() {
	b.mu.Lock()
	b.fin = true
	b.mu.Unlock()
	b.wake()
}

// Reset ends the request: nobody waits for it any more.
func (b *inbox) Reset(bool) { b.close() }

func (b *inbox) close() {
	b.mu.Lock()
	b.dead = true
	b.mu.Unlock()
	b.wake()
}

func (b *inbox) wake() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (b *inbox) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fin
}

// open lets the host send almost a full inbox: what came with the first message is granted twice.
func (b *inbox) open() { b.stream.Grant(inboxLimit - 2*wire.InitialCredit) }

// next waits for at least least bytes, or the end of them, and returns the oldest ones; io.EOF at
// the end, mux.ErrDead when the stream was reset.
func (b *inbox) next(least int) ([]byte, error) {
	for {
		b.mu.Lock()
		front, there, fin, dead := b.buffer.Front(), b.buffer.Len(), b.fin, b.dead
		b.mu.Unlock()
		switch {
		case dead:
			return nil, mux.ErrDead
		case there >= least && there > 0, fin && there > 0:
			return front, nil
		case fin:
			return nil, io.EOF
		}
		<-b.changed
	}
}

// drop gives n bytes' room back to the host.
func (b *inbox) drop(n int) {
	b.mu.Lock()
	b.buffer.Drop(n)
	b.mu.Unlock()
	b.stream.Grant(n)
}

// Read makes the inbox an io.Reader.
func (b *inbox) Read(p []byte) (int, error) {
	front, err := b.next(1)
	if err != nil {
		return 0, err
	}
	n := copy(p, front)
	b.drop(n)
	return n, nil
}
