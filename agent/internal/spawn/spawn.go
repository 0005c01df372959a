// Package spawn starts programs.
//
// The standard library's fork keeps the Go processor that the calling thread has until the child
// runs its program. On the way there the kernel may have to ask a file system for something: the
// program itself, the working directory, or whether a file may be closed. A volume is answered by
// this process; with one processor it never would be. So the caller is in a system call meanwhile.
package spawn

import (
	"errors"
	"runtime"
	"syscall"
	"unsafe"
)

// Program is what a child becomes.
type Program struct {
	Path  string // of the file
	Argv  []string
	Env   []string
	Dir   string // its working directory
	Files [3]int // its descriptors 0, 1 and 2, which close when other programs start

	Terminal bool  // descriptor 0 is its session's terminal
	Group    int   // a descriptor of its control group, or -1 for this process's
	User     *User // nil for this process's
	Limits   []Limit
}

// User is who a program runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Limit is one of setrlimit(2).
type Limit struct {
	Resource   int
	Soft, Hard uint64
}

const (
	openFiles = 7 // RLIMIT_NOFILE
	// someFiles is how many files a program may have open if nothing else is said: as many as the
	// kernel gives process 1. The runtime raised that for itself.
	someFiles = 1024

	clone3         = 435
	vm             = 0x100
	vforks         = 0x4000
	intoGroup      = 0x200000000
	clearHandlers  = 0x100000000
	setMask        = 2
	dupAbove       = 1030 // F_DUPFD_CLOEXEC
	failed         = 253  // the exit status of a child that did not come to its program
	signalSetBytes = 8
)

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// child is a Program as the kernel takes it. It is on the heap, where parent and child both see it.
type child struct {
	args   cloneArgs
	path   *byte
	argv   []*byte
	env    []*byte
	dir    *byte
	files  [3]uintptr
	limits []Limit
	user   *User

	terminal bool
	all      uint64 // every signal
	none     uint64
	before   uint64 // the caller's signal mask

	pid   uintptr
	errno syscall.Errno // of clone3(2), or of what the child could not do
}

// Start starts a program, and returns when it runs, or why it does not.
func Start(p *Program) (pid int, err error) {
	if len(p.Argv) == 0 {
		return 0, syscall.EINVAL
	}
	c := &child{
		limits: append(usual(), p.Limits...), user: p.User, terminal: p.Terminal, all: ^uint64(0),
	}
	c.args = cloneArgs{flags: vm | vforks | clearHandlers, exitSignal: uint64(syscall.SIGCHLD)}
	if p.Group >= 0 {
		c.args.flags |= intoGroup
		c.args.cgroup = uint64(p.Group)
	}
	for i, fd := range p.Files {
		c.files[i] = uintptr(fd)
	}
	var path, argv, env, dir error
	c.path, path = syscall.BytePtrFromString(p.Path)
	c.argv, argv = syscall.SlicePtrFromStrings(p.Argv)
	c.env, env = syscall.SlicePtrFromStrings(p.Env)
	c.dir, dir = syscall.BytePtrFromString(p.Dir)
	if err := errors.Join(path, argv, env, dir); err != nil {
		return 0, syscall.EINVAL
	}
	c.start()
	runtime.KeepAlive(p)
	if c.errno == 0 {
		return int(c.pid), nil
	}
	if c.pid != 0 {
		var status syscall.WaitStatus
		for {
			// ECHILD: whoever waits for all children was quicker.
			if _, err := syscall.Wait4(int(c.pid), &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
	}
	return 0, c.errno
}

// usual are the limits of a program for which nothing else is said.
func usual() []Limit {
	var now syscall.Rlimit
	if syscall.Getrlimit(openFiles, &now) != nil {
		return nil
	}
	return []Limit{{openFiles, min(someFiles, now.Max), now.Max}}
}

// start forks. What it calls until it has left the system call cannot grow its stack, and allocates
// nothing.
//
//go:noinline
func (c *child) start() {
	entersyscall()
	c.fork()
	exitsyscall()
	runtime.KeepAlive(c)
}

// fork blocks signals, so that none is handled in the child on the parent's behalf.
//
//go:noinline
//go:nosplit
func (c *child) fork() {
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&c.all)), uintptr(unsafe.Pointer(&c.before)), signalSetBytes, 0, 0)
	pid, errno := c.become()
	c.pid = pid
	if errno != 0 {
		c.errno = errno
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&c.before)), 0, signalSetBytes, 0, 0)
}

// become is what the child does, on its parent's stack: in a frame that the parent has left before
// it goes on. It returns in the parent only.
//
//go:noinline
//go:nosplit
func (c *child) become() (pid uintptr, errno syscall.Errno) {
	pid, errno = vfork(clone3, uintptr(unsafe.Pointer(&c.args)), unsafe.Sizeof(c.args))
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	c.errno = c.prepare()
	if c.errno == 0 {
		_, _, c.errno = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)), uintptr(unsafe.Pointer(&c.argv[0])), uintptr(unsafe.Pointer(&c.env[0])))
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, failed, 0, 0)
	}
}

// prepare makes of the child what its program expects.
//
//go:nosplit
func (c *child) prepare() syscall.Errno {
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0); e != 0 {
		return e
	}
	for i := range c.files {
		if c.files[i] < 3 {
			fd, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, c.files[i], dupAbove, 3)
			if e != 0 {
				return e
			}
			c.files[i] = fd
		}
	}
	for i := range c.files {
		if _, _, e := syscall.RawSyscall(syscall.SYS_DUP3, c.files[i], uintptr(i), 0); e != 0 {
			return e
		}
	}
	if c.terminal {
		if _, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 1); e != 0 {
			return e
		}
	}
	for i := range c.limits {
		l := &c.limits[i]
		if _, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(l.Resource), uintptr(unsafe.Pointer(&l.Soft)), 0, 0, 0); e != 0 {
			return e
		}
	}
	if c.user != nil {
		if e := c.user.become(); e != 0 {
			return e
		}
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&c.none)), 0, signalSetBytes, 0, 0)
	return e
}

//go:nosplit
func (u *User) become() syscall.Errno {
	first := uintptr(0)
	if len(u.Groups) > 0 {
		first = uintptr(unsafe.Pointer(&u.Groups[0]))
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(u.Groups)), first, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETGID, uintptr(u.GID), 0, 0); e != 0 {
		return e
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_SETUID, uintptr(u.UID), 0, 0)
	return e
}
