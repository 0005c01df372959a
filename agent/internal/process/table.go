// Package process starts processes, carries their input and output, and tells how they ended
// (protocol/README.md, section 7).
package process

import (
	"sync"
	"syscall"
	"time"

	"sandlot/agent/internal/cgroup"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// keptEnded is how many ended processes are remembered, for streams that attach late.
const keptEnded = 64

// Table holds all processes.
type Table struct {
	groups *cgroup.Tree
	null   int
	log    func(string)

	// forking is held while children are reaped: no process id is signalled after its reuse.
	forking  sync.Mutex
	pids     map[int]*Process
	hooks    map[int]chan syscall.WaitStatus
	starting int         // programs that are being started: whose children are not in the table yet
	strays   map[int]end // children that ended meanwhile and are not in the table, by their ids
	ends     int         // how many those ever were

	gate sync.RWMutex // held while the machine is frozen: nothing is started then

	mu      sync.Mutex
	mounted bool
	closing bool
	numbers map[uint64]*Process
	ended   []*Process
	jobs    []*Process // ended ones
	pool    pool
	tidy    chan struct{}
}

// NewTable returns an empty table. null is an open /dev/null.
func NewTable(groups *cgroup.Tree, null int, log func(string)) *Table {
	t := &Table{
		groups: groups, null: null, log: log,
		strays: map[int]end{},
		pids:   map[int]*Process{}, hooks: map[int]chan syscall.WaitStatus{}, numbers: map[uint64]*Process{}, tidy: make(chan struct{}, 1),
	}
	t.pool.most = max(4<<20, int64(cgroup.MemoryTotal()/32))
	return t
}

// SetMounted allows processes to be started.
func (t *Table) SetMounted() {
	t.mu.Lock()
	t.mounted = true
	t.mu.Unlock()
}

// Close allows no more processes: the machine shuts down.
func (t *Table) Close() {
	t.mu.Lock()
	t.closing = true
	t.mu.Unlock()
}

// add claims a number for a process that is about to start.
func (t *Table) add(p *Process) (code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mounted || t.closing {
		return "no-root"
	}
	if p.number == 0 {
		return "failed"
	}
	if old := t.numbers[p.number]; old != nil && !old.gone {
		return "busy"
	}
	t.numbers[p.number] = p
	return ""
}

// remove frees a number. An ended process stays to be found until its number is used again, or
// so many others have ended: a stream for its output may still be on its way.
func (t *Table) remove(p *Process, remember bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.gone = true
	if !remember {
		if t.numbers[p.number] == p {
			delete(t.numbers, p.number)
		}
		return
	}
	if p.journal != nil {
		t.retire(p)
		return
	}
	t.ended = append(t.ended, p)
	if len(t.ended) > keptEnded {
		oldest := t.ended[0]
		t.ended = append(t.ended[:0], t.ended[1:]...)
		if t.numbers[oldest.number] == oldest {
			delete(t.numbers, oldest.number)
		}
	}
}

// Attach gives a stream to a descriptor; nil if there is no such.
func (t *Table) Attach(s *mux.Stream, m *wire.Stdio) mux.Handler {
	t.mu.Lock()
	p := t.numbers[m.Process]
	t.mu.Unlock()
	if p == nil {
		if m.Flags&wire.StdioAsk != 0 {
			s.Send(&wire.Failed{Code: "no-job", Text: "there is no such job"}, true)
		}
		return nil
	}
	return p.attach(s, m)
}

// end is how a child ended.
type end struct {
	number int
	status syscall.WaitStatus
	usage  syscall.Rusage
}

// expect says that a child is about to be born. That may take its time, and children may end
// meanwhile, this one too.
func (t *Table) expect() (birth int) {
	t.forking.Lock()
	defer t.forking.Unlock()
	t.starting++
	return t.ends
}

// born says that a child was born since then, or was not. It returns its end if it has one already,
// and not that of an earlier process of the same id. The lock is held.
func (t *Table) born(birth, pid int) *end {
	found, ended := t.strays[pid]
	delete(t.strays, pid)
	if t.starting--; t.starting == 0 {
		clear(t.strays)
	}
	if pid > 0 && ended && found.number > birth {
		return &found
	}
	return nil
}

// Reap takes the ends of all children, those of others too: process 1 inherits every orphan.
func (t *Table) Reap() {
	for {
		var status syscall.WaitStatus
		var usage syscall.Rusage
		t.forking.Lock()
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, &usage)
		p := t.pids[pid]
		if pid > 0 && p != nil && (status.Exited() || status.Signaled()) {
			delete(t.pids, pid)
			p.reaped = true
		}
		hook := t.hooks[pid]
		if pid > 0 && hook != nil && (status.Exited() || status.Signaled()) {
			delete(t.hooks, pid)
			hook <- status
		}
		if pid > 0 && p == nil && hook == nil && t.starting > 0 {
			t.ends++
			t.strays[pid] = end{t.ends, status, usage}
		}
		t.forking.Unlock()
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			break
		}
		if p != nil && p.reaped {
			p.exited(status, &usage)
		}
	}
	if t.groups.Lingering() {
		t.Tidy()
	}
}

// TidyLoop makes and removes control groups after the ends of processes. It waits a little, so
// that a quick sequence of commands is not held up by it.
func (t *Table) TidyLoop() {
	for range t.tidy {
		time.Sleep(5 * time.Millisecond)
		t.groups.Prepare()
	}
}

// Tidy has the control groups made and removed, when nothing else is to be done.
func (t *Table) Tidy() {
	select {
	case t.tidy <- struct{}{}:
	default:
	}
}
