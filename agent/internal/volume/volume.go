// Package volume mounts file systems that the host serves. The kernel's FUSE requests go to the
// host over a stream as they are, and its answers come back; nothing is understood here but where
// a message ends.
package volume

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

const (
	// maxRequest is the largest message of the kernel: 255 pages and what stands before them.
	maxRequest    = 256 * 4096
	requestHeader = 40
	replyHeader   = 16
	// inline is the size below which a payload comes through the port rather than in the window.
	inline = 4096
	// hostCredit is how much of answers the host may have under way.
	hostCredit = 8 << 20
	// drainPatience is how long a machine that is saved waits for answers that are under way.
	drainPatience = 2 * time.Second
	readahead     = "1020"
	// dirtyShare is how much of what all file systems may keep back one volume may, in hundredths: in
	// a machine of 512 MB about 8 MB, which a machine that is saved writes at once.
	dirtyShare = "10"
	oPath      = 0x200000

	opForget, opOpen, opRelease, opFlush, opReleasedir = 2, 14, 18, 25, 29
	opSetlk, opSetlkw, opCreate                        = 32, 33, 35
	opInterrupt, opIoctl, opBatchForget, opLseek       = 36, 39, 42, 46
	// lockFlags is where a lock's request says whether it is one of flock(2).
	lockFlags, lockFlock = requestHeader + 40, 1
	// mostLocked is how many nodes with locks are told apart.
	mostLocked = 4096
)

// ErrBusy says that there is a volume of this name.
var ErrBusy = errors.New("a volume of this name is mounted")

// ErrNone says that there is no volume of this name.
var ErrNone = errors.New("no volume of this name is mounted")

// Volumes are those that are mounted.
type Volumes struct {
	log func(string)

	mu   sync.Mutex
	all  map[string]*volume
	held bool
	goOn *sync.Cond

	disks []string // where disks are mounted, the last one first

	nudges chan func() // for the thread that nudges
	nudger int
}

// New returns an empty set.
func New(log func(string)) *Volumes {
	v := &Volumes{log: log, all: map[string]*volume{}}
	v.goOn = sync.NewCond(&v.mu)
	return v
}

type volume struct {
	owner     *Volumes
	path      string
	device    int
	file      *os.File // the same, to wait on
	writeback bool
	readonly  bool
	root      int // the mount below the read-only one, or -1

	laid   *mux.Stream         // where requests were laid that are to be sent; only pump knows
	locked map[uint64]struct{} // nodes on which POSIX's locks were asked for; only pump knows

	sending  sync.Mutex // a request is sent whole before the next
	mappable nodes      // nodes that were opened for reading and writing

	notices sync.Mutex
	noted   [][]byte // notifications that the kernel has not got yet
	noting  bool

	// Under owner.mu:
	noFlush bool                // closing a descriptor ends its locks and does nothing else
	stream  *mux.Stream         // nil while no host serves it
	pending map[uint64]struct{} // requests that were sent and not answered
	closed  bool
}

// Mount mounts a volume that the host serves on s, or goes on with one of a machine that was
// saved. The handler takes the host's answers. Mounting may need answers of other volumes, so it
// does not hold up who carries them.
func (v *Volumes) Mount(s *mux.Stream, m *wire.Mount, failed func(error)) mux.Handler {
	a := &answers{owner: v, stream: s}
	go v.guarded(func() {
		if err := v.begin(a, m); err != nil {
			failed(err)
		}
	})
	return a
}

func (v *Volumes) begin(a *answers, m *wire.Mount) error {
	v.mu.Lock()
	found := v.all[m.Volume]
	v.mu.Unlock()
	if m.Flags&wire.MountAgain != 0 {
		if found == nil {
			return ErrNone
		}
		a.volume = found
		found.again(a.stream, m.Flags&wire.MountNoFlush != 0)
		return nil
	}
	if found != nil {
		return ErrBusy
	}
	one, err := v.mount(m)
	if err != nil {
		return err
	}
	one.stream, one.noFlush = a.stream, m.Flags&wire.MountNoFlush != 0
	a.volume, a.first = one, true
	v.mu.Lock()
	v.all[m.Volume] = one
	v.mu.Unlock()
	a.stream.Send(&wire.OK{}, false)
	a.stream.Grant(hostCredit)
	go v.guarded(one.pump)
	return nil
}

// Unmount takes a volume away.
func (v *Volumes) Unmount(m *wire.Unmount) error {
	v.mu.Lock()
	one := v.all[m.Volume]
	v.mu.Unlock()
	if one == nil {
		return ErrNone
	}
	flags := 0
	if m.Flags&wire.UnmountDetach != 0 {
		flags = syscall.MNT_DETACH
	}
	if err := one.unmount(flags); err != nil {
		return fail("unmount", one.path, err)
	}
	v.mu.Lock()
	delete(v.all, m.Volume)
	one.closed = true
	v.goOn.Broadcast()
	v.mu.Unlock()
	return nil
}

// Close unmounts all of them, so that what the kernel keeps is written.
func (v *Volumes) Close(patience time.Duration) {
	v.mu.Lock()
	var all []*volume
	for _, one := range v.all {
		all = append(all, one)
	}
	v.mu.Unlock()
	v.closeDisks()
	done := make(chan struct{}, len(all))
	for _, one := range all {
		go func() {
			if one.unmount(0) != nil {
				one.sync()
				one.unmount(syscall.MNT_DETACH)
			}
			done <- struct{}{}
		}()
	}
	over := time.After(patience)
	for range all {
		select {
		case <-done:
		case <-over:
			return
		}
	}
}

// Hold stops sending requests, when those that are under way are answered. Before that the kernel
// writes what it keeps: a machine that is restored must not write it again. No program runs then.
func (v *Volumes) Hold() {
	var waits sync.WaitGroup
	v.mu.Lock()
	for _, one := range v.all {
		if one.writeback && one.stream != nil {
			waits.Add(1)
			go func() {
				defer waits.Done()
				one.sync()
			}()
		}
	}
	v.mu.Unlock()
	synced := make(chan struct{})
	go func() {
		waits.Wait()
		close(synced)
	}()
	over := time.Now().Add(drainPatience)
	select {
	case <-synced:
	case <-time.After(drainPatience):
	}
	v.mu.Lock()
	v.held = true
	var streams []*mux.Stream
	for _, one := range v.all {
		if one.stream != nil {
			streams = append(streams, one.stream)
		}
	}
	v.mu.Unlock()
	for _, stream := range streams {
		stream.Flush(false)
	}
	v.mu.Lock()
	for !v.quiet() && time.Now().Before(over) {
		v.mu.Unlock()
		time.Sleep(200 * time.Microsecond)
		v.mu.Lock()
	}
	v.mu.Unlock()
}

func (v *Volumes) quiet() bool {
	for _, one := range v.all {
		if one.stream != nil && len(one.pending) > 0 {
			return false
		}
	}
	return true
}

// GoOn sends requests again.
func (v *Volumes) GoOn() {
	v.mu.Lock()
	v.held = false
	v.goOn.Broadcast()
	v.mu.Unlock()
}

func (v *Volumes) guarded(f func()) {
	defer func() {
		if fault := recover(); fault != nil {
			v.log("a fault in a volume\n" + string(debug.Stack()))
		}
	}()
	f()
}

// sync has the kernel write what it keeps of a volume.
func (one *volume) sync() {
	fd, err := syscall.Open(one.path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	syscall.Syscall(sysSyncfs, uintptr(fd), 0, 0)
	syscall.Close(fd)
}

// pump carries requests to the host until the volume is unmounted.
func (one *volume) pump() {
	v := one.owner
	buffer := make([]byte, maxRequest)
	wait, err := one.file.SyscallConn()
	for err == nil {
		n := 0
		var errno syscall.Errno
		// A goroutine that waited in the system call would keep the others from running.
		err = wait.Read(func(fd uintptr) bool {
			if n, errno = read(fd, buffer); errno == syscall.EAGAIN {
				one.flush() // what was there, in one write
			}
			return errno != syscall.EAGAIN
		})
		if errno == syscall.ENODEV {
			break // it is unmounted
		}
		if errno == 0 && n >= requestHeader {
			one.send(buffer[:n])
		} // else EINTR, or a request that is no more
	}
	v.mu.Lock()
	one.closed = true
	stream := one.stream
	one.stream = nil
	v.mu.Unlock()
	one.file.Close()
	if stream != nil {
		stream.Fin()
	}
}

// flush sends the requests that pump has laid.
func (one *volume) flush() {
	if one.laid != nil {
		one.laid.Flush(false)
		one.laid = nil
	}
}

// read is read(2) on a descriptor that does not block: the scheduler need not hear of it.
func read(fd uintptr, into []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&into[0])), uintptr(len(into)))
	return int(n), errno
}

// write is write(2) of an answer, which does not wait either.
func write(fd int, from []byte) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&from[0])), uintptr(len(from)))
	return errno
}

// send gives the host a request, whoever that is by then.
func (one *volume) send(request []byte) {
	v := one.owner
	answered := true
	switch binary.LittleEndian.Uint32(request[4:]) {
	case opForget, opInterrupt, opBatchForget:
		answered = false
	}
	unique := binary.LittleEndian.Uint64(request[8:])
	if binary.LittleEndian.Uint32(request[4:]) == opIoctl {
		// No file system has any. Python asks each file that it opens whether it is a terminal.
		one.reply(unique, syscall.ENOSYS)
		return
	}
	flush := one.idleFlush(request)
	if one.seeksPastMappings(request) {
		kept := append([]byte(nil), request...)
		go v.guarded(func() {
			one.writeMapped(binary.LittleEndian.Uint64(kept[16:]))
			if stream := one.carry(kept, unique, answered, flush); stream != nil {
				stream.Flush(false)
			}
		})
		return
	}
	if v.waits(one) {
		one.flush() // others have to be answered before this one is sent
	}
	if stream := one.carry(request, unique, answered, flush); stream == nil {
		return
	} else if quiet(request) {
		stream.Flush(true)
	} else {
		one.laid = stream
	}
}

// waits says whether nothing can be sent now.
func (v *Volumes) waits(one *volume) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.held || one.stream == nil
}

// carry lays a request for the host on a stream, and returns that: nil when it is answered.
func (one *volume) carry(request []byte, unique uint64, answered, flush bool) *mux.Stream {
	v := one.owner
	for {
		v.mu.Lock()
		if flush && one.noFlush {
			v.mu.Unlock()
			one.reply(unique, 0)
			return nil
		}
		for (v.held || one.stream == nil) && !one.closed {
			v.goOn.Wait()
		}
		stream := one.stream
		if stream == nil {
			v.mu.Unlock()
			if answered { // it was unmounted, and is still in use
				one.refuse(unique)
			}
			return nil
		}
		if answered {
			one.pending[unique] = struct{}{}
		}
		v.mu.Unlock()
		one.sending.Lock()
		sent := offer(stream, request)
		one.sending.Unlock()
		if sent {
			return stream
		}
		v.mu.Lock()
		if one.stream == stream { // it is dead: another one may come
			one.stream = nil
		}
		delete(one.pending, unique)
		v.mu.Unlock()
	}
}

// idleFlush notes where locks are taken, and says whether a request is a FLUSH that ends none.
func (one *volume) idleFlush(request []byte) bool {
	node := binary.LittleEndian.Uint64(request[16:])
	switch binary.LittleEndian.Uint32(request[4:]) {
	case opSetlk, opSetlkw:
		if len(request) < lockFlags+4 || binary.LittleEndian.Uint32(request[lockFlags:])&lockFlock == 0 {
			if len(one.locked) < mostLocked {
				one.locked[node] = struct{}{}
			}
		}
	case opFlush:
		_, may := one.locked[node]
		return !may && len(one.locked) < mostLocked
	}
	return false
}

// quiet says of a request that nobody waits for its answer: it goes along with the next.
func quiet(request []byte) bool {
	switch binary.LittleEndian.Uint32(request[4:]) {
	case opForget, opBatchForget, opRelease, opReleasedir:
		return true
	}
	return false
}

// offer lays all of p; false when the stream died first.
func offer(s *mux.Stream, p []byte) bool {
	for len(p) > 0 {
		n, err := s.Lay(p)
		if err == mux.Wait {
			s.Flush(false)
			<-s.Ready
			continue
		}
		if err != nil {
			return false
		}
		p = p[n:]
	}
	return true
}

// again goes on with another host. What the one before has not answered never will be.
func (one *volume) again(s *mux.Stream, noFlush bool) {
	v := one.owner
	s.Send(&wire.OK{}, false)
	s.Grant(hostCredit)
	v.mu.Lock()
	defer v.mu.Unlock()
	for unique := range one.pending {
		one.refuse(unique)
	}
	one.pending = map[uint64]struct{}{}
	one.stream, one.noFlush = s, noFlush
	v.goOn.Broadcast()
}

func fail(verb, what string, err error) error {
	return &os.PathError{Op: verb, Path: what, Err: err}
}

// refuse answers a request with EIO: nobody else will.
func (one *volume) refuse(unique uint64) { one.reply(unique, syscall.EIO) }

// reply answers a request without the host.
func (one *volume) reply(unique uint64, errno syscall.Errno) {
	reply := make([]byte, replyHeader)
	binary.LittleEndian.PutUint32(reply, replyHeader)
	binary.LittleEndian.PutUint32(reply[4:], -uint32(errno))
	binary.LittleEndian.PutUint64(reply[8:], unique)
	write(one.device, reply)
}
