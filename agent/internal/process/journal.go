package process

import (
	"sync"
	"sync/atomic"
	"time"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

const (
	// journalLimit is how much output of one job is kept, and journalFloor when all journals
	// together have more than their pool allows.
	journalLimit = 1 << 20
	journalFloor = 64 << 10
	// pieceLimit keeps a message well below what the host takes from a guest.
	pieceLimit = 32 << 10
	chunkSize  = 4096
	// patience is how long a job waits for a watcher that takes nothing, before it leaves it behind.
	patience = 5 * time.Second
)

// pool counts the memory of all journals.
type pool struct {
	used atomic.Int64
	most int64
}

// journal is the output of a job: both descriptors in one order, the newest bytes of it, and who
// watches. An offset counts the bytes since the start, of both.
type journal struct {
	pool *pool

	mu       sync.Mutex
	chunks   []chunk
	start    uint64 // the offset of the oldest byte that is kept
	end      uint64
	held     int64 // what the chunks cost
	watchers map[*watcher]struct{}
	moved    chan struct{} // closed when a watcher has taken something
	exited   *wire.Exited  // set when the job has ended and all of its output is here
}

type chunk struct {
	descriptor byte
	data       []byte
	cost       int64
}

// watcher is one WATCH stream. It is the handler of what the host says on it.
type watcher struct {
	process *Process
	stream  *mux.Stream
	wake    chan struct{}

	// Under journal.mu:
	at     uint64
	last   time.Time // when it took something
	behind bool      // the job does not wait for it
	gone   bool
}

func newJournal(p *pool) *journal {
	return &journal{pool: p, watchers: map[*watcher]struct{}{}, moved: make(chan struct{})}
}

// append adds output. It waits for watchers that would lose some of theirs, but not for long.
func (j *journal) append(descriptor byte, p []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.end+uint64(len(p))-j.start > uint64(j.limit()) {
		slow := j.slowest(j.end + uint64(len(p)) - uint64(j.limit()))
		if slow == nil {
			break
		}
		left := time.Until(slow.last.Add(patience))
		if left <= 0 {
			slow.behind = true
			continue
		}
		moved := j.moved
		j.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-moved:
		case <-timer.C:
		}
		timer.Stop()
		j.mu.Lock()
	}
	j.add(descriptor, p)
	j.trim(uint64(j.limit()))
	j.wakeAll()
}

func (j *journal) limit() int {
	if j.pool.used.Load() > j.pool.most {
		return journalFloor
	}
	return journalLimit
}

// slowest is a watcher that would lose what lies before the offset keep.
func (j *journal) slowest(keep uint64) *watcher {
	for w := range j.watchers {
		if !w.behind && !w.gone && w.at < keep && w.at < j.end {
			return w
		}
	}
	return nil
}

func (j *journal) add(descriptor byte, p []byte) {
	j.end += uint64(len(p))
	if n := len(j.chunks); n > 0 {
		last := &j.chunks[n-1]
		if last.descriptor == descriptor && len(last.data)+len(p) <= cap(last.data) {
			last.data = append(last.data, p...)
			return
		}
	}
	data := append(make([]byte, 0, max(chunkSize, len(p))), p...)
	j.chunks = append(j.chunks, chunk{descriptor, data, int64(cap(data))})
	j.hold(int64(cap(data)))
}

func (j *journal) hold(n int64) {
	j.held += n
	j.pool.used.Add(n)
}

// trim drops whole chunks from the front, and then a part of one. Small chunks cost more than
// their bytes: that counts too.
func (j *journal) trim(limit uint64) {
	for len(j.chunks) > 0 && (j.end-j.start > limit || j.held > 2*int64(limit)+chunkSize) {
		first := j.chunks[0]
		over := j.end - j.start - min(limit, j.end-j.start)
		if over < uint64(len(first.data)) && over > 0 {
			j.chunks[0].data = first.data[over:]
			j.start += over
			return
		}
		j.hold(-first.cost)
		j.start += uint64(len(first.data))
		j.chunks[0].data = nil
		j.chunks = j.chunks[1:]
	}
}

// forget drops all output: the job ended long ago.
func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.chunks, j.start = nil, j.end
	j.hold(-j.held)
}

// finish says that the job has ended, and all of its output has been added.
func (j *journal) finish(end *wire.Exited) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.exited = end
	j.wakeAll()
}

func (j *journal) wakeAll() {
	for w := range j.watchers {
		w.poke()
	}
}

func (w *watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// piece is the next output for w, if there is any. The lock is held.
func (j *journal) piece(w *watcher) *wire.Output {
	if w.at >= j.end {
		return nil
	}
	w.at = max(w.at, j.start)
	at := j.start
	for _, c := range j.chunks {
		next := at + uint64(len(c.data))
		if w.at < next {
			data := c.data[w.at-at:]
			data = data[:min(len(data), pieceLimit)]
			return &wire.Output{
				Offset: w.at, Descriptor: uint64(c.descriptor), Data: append([]byte(nil), data...),
			}
		}
		at = next
	}
	return nil
}

// watch serves one watcher until the job has ended, or the watcher goes.
func (j *journal) watch(w *watcher, flags uint64) {
	defer func() {
		j.mu.Lock()
		delete(j.watchers, w)
		j.progress()
		j.mu.Unlock()
	}()
	for {
		j.mu.Lock()
		out, exited, gone := j.piece(w), j.exited, w.gone
		j.mu.Unlock()
		switch {
		case gone:
			return
		case out != nil:
			if !w.send(out) {
				return
			}
			j.mu.Lock()
			w.at += uint64(len(out.Data))
			w.last, w.behind = time.Now(), false
			j.progress()
			j.mu.Unlock()
		case exited != nil:
			if w.send(exited) {
				w.stream.Fin()
			}
			return
		case flags&wire.WatchKept != 0:
			w.stream.Fin()
			return
		default:
			<-w.wake
		}
	}
}

// progress lets a job that waits look again. The lock is held.
func (j *journal) progress() {
	close(j.moved)
	j.moved = make(chan struct{})
}

// send sends a whole message, waiting for credit.
func (w *watcher) send(m wire.Message) bool {
	for data := wire.Encode(m); len(data) > 0; {
		n, err := w.stream.Offer(data)
		data = data[n:]
		if err == mux.ErrDead {
			return false
		}
		if err != nil {
			<-w.stream.Ready
		}
	}
	return true
}

// Message handles what the host says on a WATCH stream.
func (w *watcher) Message(m wire.Message) bool { return w.process.Message(m) }

// Reset is the end of the WATCH stream: nobody watches any more, the job goes on.
func (w *watcher) Reset(bool) {
	j := w.process.journal
	j.mu.Lock()
	w.gone = true
	j.progress()
	j.mu.Unlock()
	w.poke()
}
