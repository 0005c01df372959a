package process

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// inputCredit bounds what one process that does not read can make the agent hold.
const inputCredit = 1 << 20

// holdIdle is how long an input that stands still keeps its buffer.
const holdIdle = 200 * time.Millisecond

// input is the host's bytes on their way to a process. They are copied out of the channel at
// once, so that a process that does not read holds up nobody else.
type input struct {
	file     *os.File
	terminal bool

	mu      sync.Mutex
	stream  *mux.Stream
	buffer  wire.Buffer
	fin     bool
	closed  bool
	changed chan struct{}
}

func newInput(file *os.File, terminal bool) *input {
	i := &input{file: file, terminal: terminal, buffer: wire.NewBuffer(inputCredit), changed: make(chan struct{}, 1)}
	i.buffer.Hold = true
	return i
}

// attach makes s the stream whose bytes go to the process. It is called by the reading goroutine.
func (i *input) attach(s *mux.Stream) {
	i.mu.Lock()
	before, closed := i.stream, i.closed
	i.stream = s
	room := inputCredit - i.buffer.Len() - wire.InitialCredit
	i.mu.Unlock()
	if before != nil {
		before.Reset()
	}
	if closed {
		s.Reset()
	} else if room > 0 {
		s.Grant(room)
	}
}

// state says whether somebody holds the input, and whether it is closed or about to be.
func (i *input) state() (held, closed bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.stream != nil && !i.stream.Dead(), i.closed || i.fin
}

func (i *input) detach(s *mux.Stream) {
	i.mu.Lock()
	if i.stream == s {
		i.stream = nil
	}
	i.mu.Unlock()
}

// put takes bytes from s. With an older stream's bytes still in the buffer a newer one's may find
// it full: the rest is more than anybody was allowed to send, and the stream is reset.
func (i *input) put(s *mux.Stream, p []byte) {
	i.mu.Lock()
	full := false
	if i.stream == s && !i.closed && !i.fin {
		full = i.buffer.Put(p) < len(p)
	}
	i.mu.Unlock()
	if full {
		s.Reset()
	}
	i.wake()
}

// end closes the input when all of it was written.
func (i *input) end(s *mux.Stream) {
	i.mu.Lock()
	if i.stream == s {
		i.fin = true
	}
	i.mu.Unlock()
	i.wake()
}

// close ends the goroutine: the process is gone.
func (i *input) close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.file.SetWriteDeadline(time.Unix(1, 0))
	i.wake()
}

// discard ends the input of a process that never ran.
func (i *input) discard() {
	i.mu.Lock()
	s := i.stream
	i.stream, i.closed = nil, true
	i.mu.Unlock()
	i.file.Close()
	if s != nil {
		s.Reset()
	}
}

func (i *input) wake() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// run is the input's goroutine.
func (i *input) run() {
	raw, err := i.file.SyscallConn()
	for err == nil {
		i.mu.Lock()
		front, fin, closed, s := i.buffer.Front(), i.fin, i.closed, i.stream
		i.mu.Unlock()
		switch {
		case closed:
			err = os.ErrClosed
		case len(front) > 0:
			var n int
			if n, err = i.write(raw, front); n > 0 {
				i.mu.Lock()
				i.buffer.Drop(n)
				i.mu.Unlock()
				if s != nil {
					s.Grant(n)
				}
			}
		case fin:
			i.finish(raw)
			if !i.terminal {
				return
			}
		default:
			i.idle()
		}
	}
	i.mu.Lock()
	i.closed = true
	s := i.stream
	i.buffer.Hold = false
	i.buffer.Drop(i.buffer.Len())
	i.mu.Unlock()
	i.file.Close()
	if s != nil {
		s.Reset()
	}
}

// idle waits until there is something to do. An input that flows will need its buffer again at
// once; one that stands still gives the memory back.
func (i *input) idle() {
	i.mu.Lock()
	small := i.buffer.Small()
	i.mu.Unlock()
	if small {
		<-i.changed
		return
	}
	timer := time.NewTimer(holdIdle)
	defer timer.Stop()
	select {
	case <-i.changed:
	case <-timer.C:
		i.mu.Lock()
		i.buffer.Release()
		i.mu.Unlock()
	}
}

// finish does what the host's FIN asks for. A terminal goes on: another stream may attach.
func (i *input) finish(raw syscall.RawConn) {
	i.mu.Lock()
	s := i.stream
	i.fin, i.stream = false, nil
	i.closed = !i.terminal
	i.mu.Unlock()
	if i.terminal {
		i.write(raw, []byte{endOfFile(raw)})
	} else {
		i.file.Close()
	}
	if s != nil {
		s.Fin()
	}
}

// write writes once, waiting until there is room. It works on the buffer's own bytes: only this
// goroutine takes any away.
func (i *input) write(raw syscall.RawConn, p []byte) (n int, err error) {
	var fault error
	err = raw.Write(func(fd uintptr) bool {
		n, fault = syscall.Write(int(fd), p)
		if fault == syscall.EAGAIN && len(p) > pipeSize/16 && !i.terminal {
			const setPipeSize, getPipeSize = 1031, 1032
			if size, _, _ := syscall.RawSyscall(syscall.SYS_FCNTL, fd, getPipeSize, 0); size < pipeSize {
				syscall.RawSyscall(syscall.SYS_FCNTL, fd, setPipeSize, pipeSize)
				n, fault = syscall.Write(int(fd), p)
			}
		}
		return fault != syscall.EAGAIN
	})
	if fault == syscall.EINTR {
		fault = nil
	}
	return max(n, 0), errors.Join(err, fault)
}

// endOfFile is the character that ends a terminal's input.
func endOfFile(raw syscall.RawConn) byte {
	end := byte(4)
	raw.Control(func(fd uintptr) {
		var t syscall.Termios
		if _, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, fd, syscall.TCGETS, uintptr(unsafe.Pointer(&t))); errno == 0 {
			end = t.Cc[syscall.VEOF]
		}
	})
	return end
}
