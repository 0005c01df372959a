package process

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sandlot/agent/internal/cgroup"
	"sandlot/agent/internal/identity"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/spawn"
	"sandlot/agent/internal/wire"
)

// failure is why a process could not be started, in the words of FAILED.
type failure struct {
	code, text string
	errno      syscall.Errno
}

func fail(code, text string, err error) *failure {
	errno, _ := err.(syscall.Errno)
	if err != nil {
		text += ": " + err.Error()
	}
	return &failure{code, text, errno}
}

// Start starts a process. It is called by the reading goroutine: the pipes are made at once, so
// that the STDIO streams that follow find them, and the rest is done by a goroutine, since looking
// for the program may take the disk's time.
func (t *Table) Start(s *mux.Stream, m *wire.Exec) *Process {
	p := &Process{
		table: t, number: m.Process, stream: s,
		detached: m.Flags&wire.ExecDetached != 0,
		terminal: m.Flags&wire.ExecTTY != 0,
	}
	if p.detached {
		p.journal = newJournal(&t.pool)
		p.argv, p.user, p.cwd = shortened(m.Argv), m.User, m.Cwd[:min(len(m.Cwd), shownArguments)]
	}
	if code := t.add(p); code != "" {
		s.Send(&wire.Failed{Code: code}, true)
		return p
	}
	child, f := p.open(m)
	if f != nil {
		p.failed(f)
		return p
	}
	go func() {
		defer func() {
			if fault := recover(); fault != nil {
				t.log("a fault while a process starts\n" + string(debug.Stack()))
			}
		}()
		f := p.start(m, child)
		for _, fd := range child {
			if fd != t.null {
				syscall.Close(fd)
			}
			if p.terminal {
				break
			}
		}
		if f != nil {
			p.failed(f)
		}
	}()
	return p
}

// open makes the pipes, or the terminal, and returns the child's descriptors 0, 1 and 2.
func (p *Process) open(m *wire.Exec) (child [3]int, f *failure) {
	if p.terminal {
		file, fd, err := openTerminal(m.Rows, m.Columns)
		if err != nil {
			return child, fail("resources", "no terminal", err)
		}
		// Reading and writing end at different times: each has a descriptor of its own.
		again, err := duplicate(file)
		if err != nil {
			file.Close()
			syscall.Close(fd)
			return child, fail("resources", "no terminal", err)
		}
		p.outputs[0] = newOutput(file, true, p.part)
		p.outputs[0].journal, p.outputs[0].descriptor = p.journal, 1
		p.input = newInput(again, true)
		p.left.Store(2)
		return [3]int{fd, fd, fd}, nil
	}
	child = [3]int{p.table.null, -1, -1}
	var err error
	if m.Flags&wire.ExecStdin != 0 {
		var file *os.File
		if child[0], file, err = pipe(false); err == nil {
			p.input = newInput(file, false)
		}
	}
	for i := range p.outputs {
		if err == nil {
			var file *os.File
			if child[i+1], file, err = pipe(true); err == nil {
				p.outputs[i] = newOutput(file, false, p.part)
				p.outputs[i].journal, p.outputs[i].descriptor = p.journal, byte(i+1)
			}
		}
	}
	p.left.Store(3)
	if err != nil {
		for _, fd := range child {
			if fd >= 0 && fd != p.table.null {
				syscall.Close(fd)
			}
		}
		return child, fail("resources", "no pipe", err)
	}
	return child, nil
}

// pipe returns the child's end, and the agent's, which does not block.
func pipe(reads bool) (int, *os.File, error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return -1, nil, err
	}
	ours, child := ends[0], ends[1]
	if !reads {
		ours, child = child, ours
	}
	syscall.SetNonblock(ours, true)
	return child, os.NewFile(uintptr(ours), "pipe"), nil
}

func duplicate(file *os.File) (*os.File, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd uintptr
	var errno syscall.Errno
	raw.Control(func(old uintptr) {
		fd, _, errno = syscall.RawSyscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, file.Name()), nil
}

// start looks everything up and forks.
func (p *Process) start(m *wire.Exec, child [3]int) *failure {
	limits, ok := parseLimits(m.Limits)
	if !ok {
		return fail("bad-limit", "a limit is wrong", nil)
	}
	user, err := identity.Lookup(m.User)
	if err != nil {
		return fail("no-user", m.User, err)
	}
	cwd := string(m.Cwd)
	if cwd == "" {
		cwd = "/"
	}
	if f := checkDirectory(cwd); f != nil {
		return f
	}
	env := environment(m.Env, user, p.terminal)
	path, f := findProgram(m.Argv, env, cwd)
	if f != nil {
		return f
	}
	argv := make([]string, len(m.Argv))
	for i, a := range m.Argv {
		argv[i] = string(a)
	}
	if user.UID != 0 {
		// So that /dev/stdout can be opened, as with a terminal.
		for _, fd := range child {
			if fd != p.table.null {
				syscall.Fchown(fd, int(user.UID), -1)
			}
		}
	}
	group, err := p.table.groups.Take()
	if err != nil {
		return fail("resources", "no control group", err)
	}
	program := &spawn.Program{
		Path: path, Argv: argv, Env: env, Dir: cwd, Files: child, Terminal: p.terminal, Group: group.Fd(),
		User: &spawn.User{UID: user.UID, GID: user.GID, Groups: user.Groups}, Limits: limits,
	}
	if f := p.fork(program, group, m.TimeoutMs); f != nil {
		group.Remove()
		return f
	}
	for _, o := range p.outputs {
		if o != nil {
			go o.run()
		}
	}
	if p.input != nil {
		go p.input.run()
	}
	return nil
}

// fork starts the program, and has the process in the table before its end is told.
func (p *Process) fork(program *spawn.Program, group *cgroup.Group, timeoutMs uint64) *failure {
	t := p.table
	t.gate.RLock()
	defer t.gate.RUnlock()
	p.started = time.Now()
	birth := t.expect()
	pid, err := spawn.Start(program)
	t.forking.Lock()
	end := t.born(birth, pid)
	if err != nil {
		t.forking.Unlock()
		if err == syscall.EAGAIN {
			if running, most, _ := t.groups.Counts(); running >= most {
				return fail("resources", "its limit pids="+strconv.FormatUint(most, 10)+" is reached", err)
			}
		}
		return startError(program.Path, err)
	}
	p.pid = pid
	if p.reaped = end != nil; !p.reaped {
		t.pids[pid] = p
	}
	// Before the reaper can tell of the end: STARTED comes first.
	p.stream.Send(&wire.Started{Pid: uint64(pid)}, false)
	if timeoutMs > 0 {
		p.timer = time.AfterFunc(time.Duration(min(timeoutMs, 1<<40))*time.Millisecond, func() {
			p.timeout.Store(true)
			p.kill()
		})
	}
	p.running(group)
	t.forking.Unlock()
	if end != nil {
		p.exited(end.status, &end.usage)
	}
	return nil
}

func startError(path string, err error) *failure {
	code := "failed"
	switch err {
	case syscall.ENOENT, syscall.ENOTDIR:
		return fail("not-found", path+" or its interpreter", err)
	case syscall.EACCES, syscall.ENOEXEC, syscall.EPERM, syscall.EISDIR, syscall.ELIBBAD, syscall.ELOOP:
		code = "not-executable"
	case syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
		code = "resources"
	}
	return fail(code, strings.ToValidUTF8(path, "\uFFFD"), err)
}
