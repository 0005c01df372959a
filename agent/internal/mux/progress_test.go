package mux

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sandlot/agent/internal/wire"
)

// patience is how long nothing at all may move before it is called a stall.
const patience = 60 * time.Second

// A guestEnd takes what comes on one stream, at moments of its own, and sends as much back.
type guestEnd struct {
	stream *Stream
	random *rand.Rand
	total  *atomic.Int64

	mu   sync.Mutex
	came int
	fin  bool
	wake chan struct{}
}

func (g *guestEnd) Data(p []byte) { g.note(len(p), false) }
func (g *guestEnd) Fin()          { g.note(0, true) }
func (g *guestEnd) Reset(bool)    {}

func (g *guestEnd) note(n int, fin bool) {
	g.mu.Lock()
	g.came += n
	g.fin = g.fin || fin
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run sends back every byte that came, and ends when the host has.
func (g *guestEnd) run() {
	piece := make([]byte, 1<<20)
	for {
		g.mu.Lock()
		n, fin := g.came, g.fin
		g.came = 0
		g.mu.Unlock()
		if n == 0 && fin {
			g.stream.Fin()
			return
		}
		if n == 0 {
			<-g.wake
			continue
		}
		g.stream.Grant(n)
		for n > 0 {
			sent, err := g.stream.Offer(piece[:min(n, 1+g.random.IntN(len(piece)))])
			if err == Wait {
				<-g.stream.Ready
				continue
			}
			if err != nil {
				return
			}
			n -= sent
			g.total.Add(int64(sent))
		}
	}
}

// A hostStream is what the host does on one stream: it sends bytes, and takes as many.
type hostStream struct {
	left, credit int // to be sent, and allowed
	kept, want   int // come and not taken, and still to come
	returned     int
	finished     bool
	ended        bool
}

// A hostEnd is the other end of a Conn, in one goroutine that does one thing after the other.
type hostEnd struct {
	port        *os.File
	write, read []byte
	ring        wire.Ring
	owed        int
	full        bool
	streams     map[uint32]*hostStream
	out, in     []byte
	random      *rand.Rand
}

func (h *hostEnd) frame(f wire.Frame) error {
	switch f.Type {
	case wire.SharedFree:
		h.full = false
		return h.ring.Free(int(f.Length))
	case wire.Credit:
		h.streams[f.Stream].credit += int(f.Length)
	case wire.Shared:
		if int(f.Offset+f.Length) > len(h.read) {
			return fmt.Errorf("a payload at %d lies outside", f.Offset)
		}
		if h.owed += int(f.Length); h.owed >= 128<<10 {
			h.out = wire.AppendFrame(h.out, wire.Frame{Type: wire.SharedFree, Length: uint32(h.owed)})
			h.owed = 0
		}
		h.streams[f.Stream].kept += int(f.Length)
	case wire.Data:
		h.streams[f.Stream].kept += int(f.Length)
		h.streams[f.Stream].ended = f.Flags&wire.Fin != 0
	default:
		return fmt.Errorf("a frame of type %d", f.Type)
	}
	return nil
}

func (h *hostEnd) receive(data []byte) error {
	h.in = append(h.in, data...)
	for {
		f, size, err := wire.Parse(h.in)
		if err == wire.ErrShort {
			return nil
		}
		if err == nil {
			err = h.frame(f)
		}
		if err != nil {
			return err
		}
		h.in = h.in[size:]
	}
}

// send puts some of what a stream has left into a frame, in the window where there is room.
func (h *hostEnd) send(number uint32, s *hostStream) {
	n := min(s.left, s.credit, 1+h.random.IntN(wire.MaxShared))
	if n > 0 {
		f := wire.Frame{Type: wire.Shared, Stream: number}
		if at, ok := h.ring.Allocate(n); ok {
			f.Offset = uint32(at)
		} else if len(h.write) >= smallWindow {
			h.full = true // it waits until the guest has told what it took
			return
		} else {
			n = min(n, wire.MaxPayload)
			f.Type, f.Payload = wire.Data, make([]byte, n)
		}
		f.Length = uint32(n)
		h.out = wire.AppendFrame(h.out, f)
		s.left -= n
		s.credit -= n
	}
	if s.left == 0 && !s.finished {
		s.finished = true
		h.out = wire.AppendFrame(h.out, wire.Frame{Type: wire.Data, Flags: wire.Fin, Stream: number})
	}
}

// take lets the program of a stream have some of what came.
func (h *hostEnd) take(number uint32, s *hostStream) {
	n := min(s.kept, 1+h.random.IntN(300<<10))
	s.kept -= n
	s.want -= n
	if s.returned += n; s.returned >= wire.InitialCredit/2 {
		h.out = wire.AppendFrame(h.out, wire.Frame{Type: wire.Credit, Stream: number, Length: uint32(s.returned)})
		s.returned = 0
	}
}

// Whatever the sizes of window and streams, and whenever either end takes what is there: the two
// never wait for each other.
func TestNoScheduleEndsInEverybodyWaiting(t *testing.T) {
	for round, window := range []int{0, 16 << 10, 128 << 10, 600 << 10, 2 << 20, 16 << 20, 600 << 10, 16 << 20} {
		t.Run(fmt.Sprintf("%d-%d", round, window), func(t *testing.T) { exchange(t, uint64(round), window) })
	}
}

func exchange(t *testing.T, seed uint64, window int) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, window)
	var total atomic.Int64
	var logged atomic.Value
	conn, err := New(fds[0], memory, func(s *Stream) Handler {
		g := &guestEnd{
			stream: s, random: rand.New(rand.NewPCG(seed, uint64(s.id))), total: &total,
			wake: make(chan struct{}, 1),
		}
		go g.run()
		return g
	}, func(text string) { logged.Store(text) })
	if err != nil {
		t.Fatal(err)
	}
	go conn.Serve()
	h := &hostEnd{
		port: os.NewFile(uintptr(fds[1]), "host"), write: memory[:window/2], read: memory[window/2:],
		ring: wire.NewRing(window / 2), streams: map[uint32]*hostStream{},
		random: rand.New(rand.NewPCG(seed, 0)),
	}
	nonce := []byte("0123456789abcdef")
	answer := make([]byte, len(wire.Magic)+wire.TokenSize)
	h.port.Write(append(append([]byte(wire.Magic), make([]byte, wire.TokenSize)...), nonce...))
	for at := 0; at < len(answer); {
		n, err := h.port.Read(answer[at:])
		if err != nil {
			t.Fatal(err)
		}
		at += n
	}
	numbers := []uint32{1, 3, 5}
	left := 0
	for _, number := range numbers {
		size := h.random.IntN(12 << 20)
		left += size
		h.streams[number] = &hostStream{left: size, want: size, credit: wire.InitialCredit}
		h.out = wire.AppendFrame(h.out, wire.Frame{Type: wire.Credit, Flags: wire.Syn, Stream: number})
	}
	if err := h.run(numbers); err != nil {
		t.Fatalf("%v; %d of %d bytes came back; the guest's end has %d bytes to write, owes %d, %d streams wait; it says %v",
			err, total.Load(), left, len(conn.out), conn.owed, len(conn.waiting), logged.Load())
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if len(conn.streams) != 0 {
		t.Errorf("%d streams are left", len(conn.streams))
	}
}

// run does one thing after the other, at random, until all is sent and all has come back.
func (h *hostEnd) run(numbers []uint32) error {
	came := make(chan []byte) // nothing is read while the host is busy
	go func() {
		for {
			data := make([]byte, 100<<10)
			n, err := h.port.Read(data)
			if err != nil {
				close(came)
				return
			}
			came <- data[:n]
		}
	}()
	for {
		done := true
		idle := len(h.out) == 0
		for _, s := range h.streams {
			done = done && s.finished && s.ended && s.want == 0
			idle = idle && (s.left == 0 || s.credit == 0 || h.full) && (s.finished || s.left > 0) && s.kept == 0
		}
		if done {
			return h.port.Close()
		}
		if idle { // only the guest can go on
			select {
			case data := <-came:
				if err := h.receive(data); err != nil {
					return err
				}
			case <-time.After(patience):
				return fmt.Errorf("a stall: %+v", *h.streams[1])
			}
			continue
		}
		number := numbers[h.random.IntN(len(numbers))]
		switch h.random.IntN(4) {
		case 0:
			h.send(number, h.streams[number])
		case 1:
			h.take(number, h.streams[number])
		case 2:
			h.port.SetWriteDeadline(time.Now().Add(patience))
			n, err := h.port.Write(h.out)
			if err != nil {
				return fmt.Errorf("a stall: the guest's end does not read: %w", err)
			}
			h.out = h.out[:copy(h.out, h.out[n:])]
		case 3:
			select {
			case data := <-came:
				if err := h.receive(data); err != nil {
					return err
				}
			default:
			}
		}
	}
}
