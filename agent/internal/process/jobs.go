package process

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

const (
	// keptJobs is how many ended jobs are remembered: their output as far as the pool allows.
	keptJobs = 256
	// shownArguments bounds what a listing says of a command.
	shownArguments = 4096
)

// Watch gives a stream to a job.
func (t *Table) Watch(s *mux.Stream, m *wire.Watch) Control {
	t.mu.Lock()
	p := t.numbers[m.Process]
	t.mu.Unlock()
	t.forking.Lock() // what a start writes is seen after it
	there := p != nil && p.journal != nil && p.pid != 0
	t.forking.Unlock()
	if !there {
		s.Send(&wire.Failed{Code: "no-job", Text: "there is no such job"}, true)
		return nil
	}
	j := p.journal
	w := &watcher{process: p, stream: s, wake: make(chan struct{}, 1), at: m.Offset, last: time.Now()}
	j.mu.Lock()
	s.Send(p.describe(), false)
	w.at = min(w.at, j.end)
	if m.Flags&wire.WatchNow != 0 {
		w.at = j.end
	}
	if m.Flags&wire.WatchStatus != 0 {
		w.at = 1<<64 - 1
	}
	j.watchers[w] = struct{}{}
	j.mu.Unlock()
	go j.watch(w, m.Flags)
	return w
}

// Control is what the messages on a stream go to.
type Control interface {
	Message(m wire.Message) bool
	Reset(lost bool)
}

// Jobs lists all jobs, the oldest first.
func (t *Table) Jobs() []*wire.Job {
	t.forking.Lock()
	defer t.forking.Unlock()
	t.mu.Lock()
	var found []*Process
	for _, p := range t.numbers {
		if p.journal != nil && p.pid != 0 {
			found = append(found, p)
		}
	}
	t.mu.Unlock()
	jobs := make([]*wire.Job, 0, len(found))
	for _, p := range found {
		p.journal.mu.Lock()
		jobs = append(jobs, p.describe())
		p.journal.mu.Unlock()
	}
	slices.SortFunc(jobs, func(a, b *wire.Job) int { return int(int64(a.StartedNs) - int64(b.StartedNs)) })
	return jobs
}

// describe says what a job is and how it fares. The journal's lock is held.
func (p *Process) describe() *wire.Job {
	j := p.journal
	job := &wire.Job{
		Process: p.number, Argv: p.argv, Pid: uint64(p.pid), StartedNs: uint64(p.started.UnixNano()),
		User: p.user, Cwd: p.cwd, Oldest: j.start, Newest: j.end,
	}
	if p.terminal {
		job.Flags |= wire.JobTTY
	}
	if p.input != nil {
		job.Flags |= wire.JobStdin
	}
	if j.exited == nil {
		job.Flags |= wire.JobRunning
		return job
	}
	job.Code, job.Signal, job.Ended = j.exited.Code, j.exited.Signal, j.exited.Flags
	job.UserUs, job.SystemUs = j.exited.UserUs, j.exited.SystemUs
	job.PeakBytes, job.WallUs = j.exited.PeakBytes, j.exited.WallUs
	return job
}

// EndWith sends signal to a job, and SIGTERM to everything else; false if there is no such job.
func (t *Table) EndWith(job, signal uint64) bool {
	t.mu.Lock()
	p := t.numbers[job]
	there := p != nil && !p.gone && signal > 0 && signal <= 64
	t.mu.Unlock()
	if !there {
		return false
	}
	p.mu.Lock()
	group := p.group
	p.mu.Unlock()
	if group == nil {
		return false
	}
	own := group.Processes()
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid > 1 && !slices.Contains(own, pid) {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	p.signal(&wire.Signal{Number: signal, Scope: wire.ScopeProcess})
	return true
}

// Settle waits until the ends of all jobs are on their way.
func (t *Table) Settle(most time.Duration) {
	t.Reap()
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(time.Millisecond) {
		t.mu.Lock()
		left := 0
		for _, p := range t.numbers {
			if p.journal != nil && !p.gone {
				left++
			}
		}
		t.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// shortened is argv for a listing.
func shortened(argv [][]byte) [][]byte {
	var short [][]byte
	room := shownArguments
	for _, a := range argv {
		if len(a)+8 > room {
			return append(short, []byte("..."))
		}
		room -= len(a) + 8
		short = append(short, bytes.Clone(a))
	}
	return short
}

// retire remembers an ended job, and makes room by forgetting older ones. The lock is held.
func (t *Table) retire(p *Process) {
	t.jobs = append(t.jobs, p)
	for len(t.jobs) > keptJobs {
		oldest := t.jobs[0]
		t.jobs = append(t.jobs[:0], t.jobs[1:]...)
		oldest.journal.forget()
		if t.numbers[oldest.number] == oldest {
			delete(t.numbers, oldest.number)
		}
	}
	for _, old := range t.jobs[:len(t.jobs)-1] {
		if t.pool.used.Load() <= t.pool.most/2 {
			return
		}
		old.journal.forget()
	}
}
