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

const (
	keptLimit   = 1 << 20
	scratchSize = 64 << 10
	smallRead   = 4096
	pipeSize    = 1 << 20
	gather      = 2 * time.Millisecond
)

// scratches are shared by all outputs: a read of one hardly ever overlaps with another's.
var scratches = sync.Pool{New: func() any { return new([scratchSize]byte) }}

// output is one descriptor on its way from a process to the host. One goroutine reads it: into
// the attached stream, or without one into a buffer of the newest bytes.
type output struct {
	file       *os.File
	terminal   bool
	journal    *journal // of a job: it takes what nobody else does
	descriptor byte
	done       func() // everything that the process wrote is on its way

	mu      sync.Mutex
	stream  *mux.Stream
	kept    wire.Buffer
	ended   bool // the process has ended: what is not yet in the pipe is not its own
	drained bool
	flowing bool          // the last read found much; only used by the goroutine
	changed chan struct{} // stream or ended changed
}

func newOutput(file *os.File, terminal bool, done func()) *output {
	return &output{
		file: file, terminal: terminal, done: done,
		kept: wire.NewBuffer(keptLimit), changed: make(chan struct{}, 1),
	}
}

// attach makes s the stream of this output; false says that it has nothing more to give.
func (o *output) attach(s *mux.Stream) {
	o.mu.Lock()
	before := o.stream
	o.stream = s
	if o.drained {
		// The goroutine is gone, or only drops: what was kept is sent by one of its own.
		o.mu.Unlock()
		go o.flush(s)
	} else {
		o.mu.Unlock()
		o.kick()
	}
	if before != nil && before != s {
		before.Reset()
	}
}

// detach forgets s, if it is still attached.
func (o *output) detach(s *mux.Stream) {
	o.mu.Lock()
	if o.stream == s {
		o.stream = nil
	}
	o.mu.Unlock()
	o.kick()
}

// end says that the process has ended.
func (o *output) end() {
	o.mu.Lock()
	o.ended = true
	drained := o.drained
	o.mu.Unlock()
	if !drained {
		o.kick()
	}
}

// discard ends the output of a process that never ran.
func (o *output) discard() {
	o.mu.Lock()
	s := o.stream
	o.stream, o.drained = nil, true
	o.mu.Unlock()
	o.file.Close()
	if s != nil {
		s.Reset()
	}
}

// kick makes the goroutine look again, wherever it waits.
func (o *output) kick() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
	o.file.SetReadDeadline(time.Unix(1, 0))
}

func (o *output) state() (s *mux.Stream, kept int, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stream != nil && o.stream.Dead() {
		o.stream = nil
	}
	return o.stream, o.kept.Len(), o.ended
}

var errDrained = errors.New("nothing is left in the pipe")

// run is the output's goroutine.
func (o *output) run() {
	raw, err := o.file.SyscallConn()
	if err != nil {
		o.finish()
		return
	}
	for {
		s, kept, ended := o.state()
		var err error
		if o.flowing && !ended && !o.terminal {
			// Let the pipe fill: moving much at once costs hardly more than moving little.
			raw.Control(o.enlarge)
			time.Sleep(gather)
		}
		switch {
		case s != nil && kept > 0:
			err = o.sendKept(s)
		default:
			err = o.read(raw, s, ended)
		}
		switch {
		case err == nil || err == mux.ErrDead:
		case err == mux.Wait:
			select {
			case <-s.Ready:
			case <-o.changed:
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.file.SetReadDeadline(time.Time{})
		case err == errDrained:
			o.finish()
			o.drop(raw)
			o.file.Close()
			return
		default: // end of file; for a terminal EIO
			o.finish()
			o.file.Close()
			return
		}
	}
}

func (o *output) sendKept(s *mux.Stream) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := s.Offer(o.kept.Front())
	o.kept.Drop(n)
	return err
}

var errEOF = errors.New("end of file")

// read reads once, waiting until there is something.
func (o *output) read(raw syscall.RawConn, s *mux.Stream, ended bool) error {
	var n int
	var fault error
	var fresh []byte
	err := raw.Read(func(fd uintptr) bool {
		there := smallRead
		if !o.terminal {
			there = max(available(int(fd)), 1)
		}
		buffer := scratches.Get().(*[scratchSize]byte)
		defer scratches.Put(buffer)
		if s != nil {
			n, fault = s.ReadFrom(int(fd), there, buffer[:])
		} else if n, fault = syscall.Read(int(fd), buffer[:]); n > 0 && o.journal != nil {
			fresh = append(fresh, buffer[:n]...)
		} else if n > 0 {
			o.mu.Lock()
			o.kept.Keep(buffer[:n])
			o.mu.Unlock()
		}
		if fault == syscall.EAGAIN && ended {
			fault = errDrained
		}
		return fault != syscall.EAGAIN
	})
	if len(fresh) > 0 {
		o.journal.append(o.descriptor, fresh) // outside: it may wait for who watches
	}
	if err != nil {
		return err
	}
	o.flowing = n >= smallRead
	if fault == nil && n == 0 {
		return errEOF
	}
	if fault == syscall.EINTR {
		return nil
	}
	return fault
}

// enlarge makes the pipe large once it has been seen half full: most never are.
func (o *output) enlarge(fd uintptr) {
	if o.terminal {
		return
	}
	const setPipeSize, getPipeSize = 1031, 1032
	if size, _, _ := syscall.RawSyscall(syscall.SYS_FCNTL, fd, getPipeSize, 0); size < pipeSize {
		syscall.RawSyscall(syscall.SYS_FCNTL, fd, setPipeSize, pipeSize)
	}
}

func available(fd int) int {
	const fionread = 0x541b
	var n int32
	syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), fionread, uintptr(unsafe.Pointer(&n)))
	return int(n)
}

// finish says that all is sent, or kept for whoever comes.
func (o *output) finish() {
	o.mu.Lock()
	o.drained = true
	s, kept := o.stream, o.kept.Len()
	o.mu.Unlock()
	if s != nil {
		if kept > 0 {
			o.flush(s)
		} else {
			s.Fin()
		}
	}
	o.done()
}

// flush sends what is kept, then FIN.
func (o *output) flush(s *mux.Stream) {
	for {
		o.mu.Lock()
		if o.stream != s {
			o.mu.Unlock()
			return
		}
		if o.kept.Len() == 0 {
			o.mu.Unlock()
			s.Fin()
			return
		}
		n, err := s.Offer(o.kept.Front())
		o.kept.Drop(n)
		o.mu.Unlock()
		if err == mux.ErrDead {
			return
		}
		if err != nil {
			<-s.Ready
		}
	}
}

// drop reads away what the children of an ended process still write.
func (o *output) drop(raw syscall.RawConn) {
	o.file.SetReadDeadline(time.Time{})
	buffer := make([]byte, smallRead)
	for {
		var n int
		var fault error
		err := raw.Read(func(fd uintptr) bool {
			n, fault = syscall.Read(int(fd), buffer)
			return fault != syscall.EAGAIN
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.file.SetReadDeadline(time.Time{})
			continue
		}
		if err != nil || n <= 0 && fault != syscall.EINTR {
			return
		}
	}
}
