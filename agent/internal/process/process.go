package process

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sandlot/agent/internal/cgroup"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// Process is one process that the host started. It is the handler of its EXEC stream.
type Process struct {
	table    *Table
	number   uint64
	stream   *mux.Stream
	detached bool
	terminal bool

	pid    int  // under table.forking
	reaped bool // under table.forking
	gone   bool // under table.mu

	// Made before the process is in the table, and never changed.
	input   *input
	outputs [2]*output
	journal *journal // of a detached process, a job
	argv    [][]byte
	user    string
	cwd     []byte

	mu     sync.Mutex
	group  *cgroup.Group // nil until the process runs
	killed bool          // reset before it ran

	started time.Time
	timer   *time.Timer
	timeout atomic.Bool
	left    atomic.Int32 // outputs, and the process itself
	end     wire.Exited
}

// attach hands s to a descriptor of the process.
func (p *Process) attach(s *mux.Stream, m *wire.Stdio) mux.Handler {
	descriptor := m.Descriptor
	switch {
	case descriptor == 0 && m.Flags&wire.StdioAsk != 0:
		if f := p.ask(m.Flags); f != nil {
			s.Send(f, true)
			return nil
		}
		s.Send(&wire.OK{}, false)
		p.input.attach(s)
	case descriptor == 0 && p.input != nil:
		p.input.attach(s)
	case (descriptor == 1 || descriptor == 2) && p.outputs[descriptor-1] != nil && p.journal == nil:
		p.outputs[descriptor-1].attach(s)
	default:
		return nil
	}
	return &stdio{process: p, stream: s, descriptor: descriptor}
}

// ask says why nobody may become the owner of the input, if so.
func (p *Process) ask(flags uint64) *wire.Failed {
	if p.input == nil {
		return &wire.Failed{Code: "no-input", Text: "it was started without an input"}
	}
	held, closed := p.input.state()
	if closed {
		return &wire.Failed{Code: "closed", Text: "its input was closed"}
	}
	if held && flags&wire.StdioTake == 0 {
		return &wire.Failed{Code: "busy", Text: "its input is held by another"}
	}
	return nil
}

// running says that the process runs in g.
func (p *Process) running(g *cgroup.Group) {
	p.mu.Lock()
	p.group = g
	killed := p.killed
	p.mu.Unlock()
	if killed {
		g.Kill()
	}
}

// failed answers for a process that could not be started.
func (p *Process) failed(f *failure) {
	p.table.remove(p, false)
	p.discard()
	p.stream.Send(&wire.Failed{Code: f.code, Text: f.text, Errno: uint64(f.errno)}, true)
}

// discard ends the streams of a process that never ran.
func (p *Process) discard() {
	for _, o := range p.outputs {
		if o != nil {
			o.discard()
		}
	}
	if p.input != nil {
		p.input.discard()
	}
}

// exited is called when the process itself has been reaped.
func (p *Process) exited(status syscall.WaitStatus, usage *syscall.Rusage) {
	p.end.WallUs = uint64(time.Since(p.started).Microseconds())
	if status.Signaled() {
		p.end.Signal = uint64(status.Signal())
	} else {
		p.end.Code = uint64(status.ExitStatus())
	}
	p.end.UserUs = uint64(usage.Utime.Sec)*1e6 + uint64(usage.Utime.Usec)
	p.end.SystemUs = uint64(usage.Stime.Sec)*1e6 + uint64(usage.Stime.Usec)
	if p.end.PeakBytes = p.group.Peak(); p.end.PeakBytes == 0 {
		p.end.PeakBytes = uint64(usage.Maxrss) << 10
	}
	if p.end.Signal == uint64(syscall.SIGKILL) && p.group.KilledForMemory() {
		p.end.Flags |= wire.ExitedOOM
	}
	if p.timer != nil && !p.timer.Stop() && p.timeout.Load() {
		p.end.Flags |= wire.ExitedTimedOut
	}
	// Not after the output: who waits for the end need not read what is left.
	p.stream.Send(&p.end, true)
	for _, o := range p.outputs {
		if o != nil {
			o.end()
		}
	}
	p.part()
}

// part counts what must have ended before the process may be forgotten.
func (p *Process) part() {
	if p.left.Add(-1) > 0 {
		return
	}
	if p.journal != nil {
		p.journal.finish(&p.end)
	}
	p.table.remove(p, true)
	if p.input != nil {
		p.input.close()
	}
	p.mu.Lock()
	group := p.group
	p.group = nil
	p.mu.Unlock()
	group.Remove()
	p.table.Tidy()
}

// signal sends a signal, unless the process is no more.
func (p *Process) signal(m *wire.Signal) {
	number := syscall.Signal(m.Number)
	if m.Number > 64 || m.Number == 0 {
		return
	}
	if m.Scope == wire.ScopeAll {
		p.signalAll(number)
		return
	}
	p.table.forking.Lock()
	defer p.table.forking.Unlock()
	if p.reaped || p.pid == 0 {
		return
	}
	if m.Scope == wire.ScopeGroup {
		syscall.Kill(-p.pid, number)
	} else {
		syscall.Kill(p.pid, number)
	}
}

func (p *Process) signalAll(number syscall.Signal) {
	if number == syscall.SIGKILL {
		p.kill()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.group == nil {
		return
	}
	for _, pid := range p.group.Processes() {
		syscall.Kill(pid, number)
	}
}

// Message handles what the host says on the EXEC stream.
func (p *Process) Message(m wire.Message) bool {
	switch m := m.(type) {
	case *wire.Signal:
		p.signal(m)
	case *wire.Resize:
		if p.terminal && p.input != nil {
			if raw, err := p.input.file.SyscallConn(); err == nil {
				raw.Control(func(fd uintptr) { resize(int(fd), m.Rows, m.Columns) })
			}
		}
	default:
		return false
	}
	return true
}

// Reset is the end of the EXEC stream. Losing it with its session means nothing to the process.
func (p *Process) Reset(lost bool) {
	if lost || p.detached {
		return
	}
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.kill()
}

// kill kills everything that the process started. Once its group was given back it is another's.
func (p *Process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.group != nil {
		p.group.Kill()
	}
}
