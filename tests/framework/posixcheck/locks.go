package main

import (
	"fmt"
	"syscall"
)

const (
	shared, exclusive, unlock = syscall.LOCK_SH, syscall.LOCK_EX, syscall.LOCK_UN
	readLock, writeLock, free = syscall.F_RDLCK, syscall.F_WRLCK, syscall.F_UNLCK
)

// twoFlocks: two descriptors of a file, of this process and of another one, and what the second is told.
func twoFlocks(name string, first, second int, want string) check {
	return check{name, ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		t.must("flock", syscall.Flock(t.open("f", rdwr, 0), first))
		t.equal("the other", p.says("flock %d", second|syscall.LOCK_NB), want)
		return nil
	}}
}

var flockChecks = []check{
	twoFlocks("shared with shared", shared, shared, "success"),
	twoFlocks("shared with exclusive", shared, exclusive, "EAGAIN"),
	twoFlocks("exclusive with shared", exclusive, shared, "EAGAIN"),
	twoFlocks("exclusive with exclusive", exclusive, exclusive, "EAGAIN"),
	{"two descriptors of a process", is(syscall.EAGAIN), func(t *T) error {
		t.file("f", "")
		t.must("flock", syscall.Flock(t.open("f", rdwr, 0), exclusive))
		return syscall.Flock(t.open("f", rdwr, 0), exclusive|syscall.LOCK_NB)
	}},
	{"through a descriptor for reading", ok, func(t *T) error {
		t.file("f", "")
		return syscall.Flock(t.open("f", rdonly, 0), exclusive)
	}},
	{"a folder", is(syscall.EAGAIN), func(t *T) error {
		t.must("flock", syscall.Flock(t.here(), exclusive))
		return syscall.Flock(t.here(), exclusive|syscall.LOCK_NB)
	}},
	{"unlocked", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		t.must("flock", syscall.Flock(fd, exclusive))
		t.must("unlock", syscall.Flock(fd, unlock))
		t.equal("the other", p.says("flock %d", exclusive|syscall.LOCK_NB), "success")
		return nil
	}},
	{"released by close", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		t.must("flock", syscall.Flock(fd, exclusive))
		t.close(fd)
		t.equal("the other", p.says("flock %d", exclusive|syscall.LOCK_NB), "success")
		return nil
	}},
	{"kept by a duplicate", is(syscall.EAGAIN), func(t *T) error {
		t.file("f", "")
		fd := t.open("f", rdwr, 0)
		two, err := syscall.Dup(fd)
		t.must("dup", err)
		t.fds = append(t.fds, two)
		t.must("flock", syscall.Flock(fd, exclusive))
		t.close(fd)
		return syscall.Flock(t.open("f", rdwr, 0), exclusive|syscall.LOCK_NB)
	}},
	{"kept when another descriptor is closed", is(syscall.EAGAIN), func(t *T) error {
		t.file("f", "")
		t.must("flock", syscall.Flock(t.open("f", rdwr, 0), exclusive))
		t.close(t.open("f", rdwr, 0))
		return syscall.Flock(t.open("f", rdwr, 0), exclusive|syscall.LOCK_NB)
	}},
	{"shared becomes exclusive", is(syscall.EAGAIN), func(t *T) error {
		t.file("f", "")
		fd := t.open("f", rdwr, 0)
		t.must("flock", syscall.Flock(fd, shared))
		t.must("flock", syscall.Flock(fd, exclusive))
		return syscall.Flock(t.open("f", rdwr, 0), shared|syscall.LOCK_NB)
	}},
	{"exclusive becomes shared", ok, func(t *T) error {
		t.file("f", "")
		fd := t.open("f", rdwr, 0)
		t.must("flock", syscall.Flock(fd, exclusive))
		t.must("flock", syscall.Flock(fd, shared))
		return syscall.Flock(t.open("f", rdwr, 0), shared|syscall.LOCK_NB)
	}},
	{"released by the death of a process", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		t.equal("flock", p.says("flock %d", exclusive), "success")
		p.kill()
		return syscall.Flock(t.open("f", rdwr, 0), exclusive|syscall.LOCK_NB)
	}},
	{"waited for", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		t.must("flock", syscall.Flock(fd, exclusive))
		p.begin("flock %d", exclusive)
		t.pwrite(fd, "before", 0)
		t.must("unlock", syscall.Flock(fd, unlock))
		t.equal("the other", p.answer(), "success")
		t.equal("what it sees", p.says("contents"), "before")
		t.refused("flock", syscall.Flock(fd, exclusive|syscall.LOCK_NB), syscall.EAGAIN)
		return nil
	}},
	{"nothing to do with fcntl's locks", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		t.must("flock", syscall.Flock(t.open("f", rdwr, 0), exclusive))
		t.equal("the other", p.says("lock %d %d 0 0", syscall.F_SETLK, writeLock), "success")
		return nil
	}},
	{"unlinked files", is(syscall.EAGAIN), func(t *T) error {
		t.file("f", "")
		one, two := t.open("f", rdwr, 0), t.open("f", rdwr, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.must("flock", syscall.Flock(one, exclusive))
		return syscall.Flock(two, exclusive|syscall.LOCK_NB)
	}},
}

func lock(fd, command int, kind int16, start, length int64) error {
	return syscall.FcntlFlock(uintptr(fd), command, &syscall.Flock_t{Type: kind, Start: start, Len: length})
}

// ranges: this process locks one range, another one asks for another.
func rangesRow(name string, command int, kind int16, start, length int64, other int16, itsStart, itsLength int64, want string) check {
	return check{name, ok, func(t *T) error {
		t.file("f", "0123456789")
		p := t.peer()
		p.open("f")
		t.must("lock", lock(t.open("f", rdwr, 0), command, kind, start, length))
		t.equal("the other", p.says("lock %d %d %d %d", command, other, itsStart, itsLength), want)
		return nil
	}}
}

func lockRows(command int) []check {
	row := func(name string, kind int16, start, length int64, other int16, itsStart, itsLength int64, want string) check {
		return rangesRow(name, command, kind, start, length, other, itsStart, itsLength, want)
	}
	return []check{
		row("read with read", readLock, 0, 10, readLock, 0, 10, "success"),
		row("read with write", readLock, 0, 10, writeLock, 0, 10, "EAGAIN"),
		row("write with read", writeLock, 0, 10, readLock, 0, 10, "EAGAIN"),
		row("write with write", writeLock, 0, 10, writeLock, 0, 10, "EAGAIN"),
		row("the range before", writeLock, 10, 10, writeLock, 0, 10, "success"),
		row("the range behind", writeLock, 10, 10, writeLock, 20, 10, "success"),
		row("one byte in common", writeLock, 10, 10, writeLock, 19, 10, "EAGAIN"),
		row("a range inside", writeLock, 10, 10, writeLock, 15, 1, "EAGAIN"),
		row("to the end, and far behind it", writeLock, 5, 0, writeLock, 1<<40, 1, "EAGAIN"),
		row("to the end, and before it", writeLock, 5, 0, writeLock, 0, 5, "success"),
		row("the whole file", writeLock, 0, 0, readLock, 3, 1, "EAGAIN"),
	}
}

var posixLockChecks = append(lockRows(syscall.F_SETLK), []check{
	{"a process does not lock itself out", ok, func(t *T) error {
		t.file("f", "")
		t.must("lock", lock(t.open("f", rdwr, 0), syscall.F_SETLK, writeLock, 0, 0))
		return lock(t.open("f", rdwr, 0), syscall.F_SETLK, writeLock, 0, 0)
	}},
	{"the middle is unlocked", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		t.must("lock", lock(fd, syscall.F_SETLK, writeLock, 0, 30))
		t.must("unlock", lock(fd, syscall.F_SETLK, free, 10, 10))
		t.equal("the middle", p.says("lock %d %d 10 10", syscall.F_SETLK, writeLock), "success")
		t.equal("the front", p.says("lock %d %d 9 1", syscall.F_SETLK, writeLock), "EAGAIN")
		t.equal("the end", p.says("lock %d %d 20 1", syscall.F_SETLK, writeLock), "EAGAIN")
		return nil
	}},
	{"a part becomes a read lock", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		t.must("lock", lock(fd, syscall.F_SETLK, writeLock, 0, 30))
		t.must("lock", lock(fd, syscall.F_SETLK, readLock, 10, 10))
		t.equal("the part", p.says("lock %d %d 10 10", syscall.F_SETLK, readLock), "success")
		t.equal("the rest", p.says("lock %d %d 0 10", syscall.F_SETLK, readLock), "EAGAIN")
		return nil
	}},
	{"who has it", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		t.equal("lock", p.says("lock %d %d 5 10", syscall.F_SETLK, writeLock), "success")
		asked := syscall.Flock_t{Type: readLock, Start: 0, Len: 0}
		t.must("F_GETLK", syscall.FcntlFlock(uintptr(t.open("f", rdwr, 0)), syscall.F_GETLK, &asked))
		t.equal("the lock", locked(asked), fmt.Sprint("write 5 10 ", p.program.Process.Pid))
		return nil
	}},
	{"nobody has it", ok, func(t *T) error {
		t.file("f", "")
		asked := syscall.Flock_t{Type: writeLock, Start: 0, Len: 0}
		t.must("F_GETLK", syscall.FcntlFlock(uintptr(t.open("f", rdwr, 0)), syscall.F_GETLK, &asked))
		t.equal("the lock", locked(asked), "free")
		return nil
	}},
	{"released by close of any descriptor", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		one, two := t.open("f", rdwr, 0), t.open("f", rdonly, 0)
		t.must("lock", lock(one, syscall.F_SETLK, writeLock, 0, 0))
		t.close(two)
		t.equal("the other", p.says("lock %d %d 0 0", syscall.F_SETLK, writeLock), "success")
		return nil
	}},
	{"released by the death of a process", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		t.equal("lock", p.says("lock %d %d 0 0", syscall.F_SETLK, writeLock), "success")
		fd := t.open("f", rdwr, 0)
		t.refused("lock", lock(fd, syscall.F_SETLK, readLock, 0, 0), syscall.EAGAIN, syscall.EACCES)
		p.kill()
		return lock(fd, syscall.F_SETLK, writeLock, 0, 0)
	}},
	{"waited for", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		t.must("lock", lock(fd, syscall.F_SETLK, writeLock, 0, 0))
		p.begin("lock %d %d 0 0", syscall.F_SETLKW, writeLock)
		t.pwrite(fd, "before", 0)
		t.must("unlock", lock(fd, syscall.F_SETLK, free, 0, 0))
		t.equal("the other", p.answer(), "success")
		t.equal("what it sees", p.says("contents"), "before")
		t.refused("lock", lock(fd, syscall.F_SETLK, readLock, 0, 0), syscall.EAGAIN, syscall.EACCES)
		return nil
	}},
	{"two that wait for each other", is(syscall.EDEADLK), func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		t.must("lock", lock(fd, syscall.F_SETLK, writeLock, 0, 1))
		t.equal("the other", p.says("lock %d %d 1 1", syscall.F_SETLK, writeLock), "success")
		p.begin("lock %d %d 0 1", syscall.F_SETLKW, writeLock)
		// Whoever comes second is told. When that is the other one, our own wait ends with success.
		err := lock(fd, syscall.F_SETLKW, writeLock, 1, 1)
		t.must("unlock", lock(fd, syscall.F_SETLK, free, 0, 0))
		if its := p.answer(); (err == nil) == (its == "success") {
			t.fail("%s, and the other: %s", said(err), its)
		}
		return syscall.EDEADLK
	}},
	{"a write lock through a descriptor for reading", is(syscall.EBADF), func(t *T) error {
		t.file("f", "")
		return lock(t.open("f", rdonly, 0), syscall.F_SETLK, writeLock, 0, 0)
	}},
	{"a read lock through a descriptor for writing", is(syscall.EBADF), func(t *T) error {
		t.file("f", "")
		return lock(t.open("f", wronly, 0), syscall.F_SETLK, readLock, 0, 0)
	}},
	{"a range before the front", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "")
		return lock(t.open("f", rdwr, 0), syscall.F_SETLK, writeLock, -5, 2)
	}},
	{"a negative length is the bytes before", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		t.must("lock", lock(t.open("f", rdwr, 0), syscall.F_SETLK, writeLock, 10, -5))
		t.equal("before", p.says("lock %d %d 0 5", syscall.F_SETLK, writeLock), "success")
		t.equal("inside", p.says("lock %d %d 9 1", syscall.F_SETLK, writeLock), "EAGAIN")
		t.equal("behind", p.says("lock %d %d 10 1", syscall.F_SETLK, writeLock), "success")
		return nil
	}},
	{"many ranges", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		fd := t.open("f", rdwr, 0)
		for number := int64(0); number < 100; number++ {
			t.must("lock", lock(fd, syscall.F_SETLK, writeLock, number*10, 5))
		}
		t.equal("a gap", p.says("lock %d %d 555 5", syscall.F_SETLK, writeLock), "success")
		t.equal("a lock", p.says("lock %d %d 554 1", syscall.F_SETLK, writeLock), "EAGAIN")
		return nil
	}},
}...)

var ofdLockChecks = append(lockRows(ofdSetlk), []check{
	{"two descriptors of a process", is(syscall.EAGAIN), func(t *T) error {
		t.file("f", "")
		t.must("lock", lock(t.open("f", rdwr, 0), ofdSetlk, writeLock, 0, 0))
		return lock(t.open("f", rdwr, 0), ofdSetlk, writeLock, 0, 0)
	}},
	{"kept when another descriptor is closed", is(syscall.EAGAIN), func(t *T) error {
		t.file("f", "")
		t.must("lock", lock(t.open("f", rdwr, 0), ofdSetlk, writeLock, 0, 0))
		t.close(t.open("f", rdwr, 0))
		return lock(t.open("f", rdwr, 0), ofdSetlk, readLock, 0, 0)
	}},
	{"released by the last close", ok, func(t *T) error {
		t.file("f", "")
		fd := t.open("f", rdwr, 0)
		t.must("lock", lock(fd, ofdSetlk, writeLock, 0, 0))
		t.close(fd)
		return lock(t.open("f", rdwr, 0), ofdSetlk, writeLock, 0, 0)
	}},
	{"in the way of a process's lock", ok, func(t *T) error {
		t.file("f", "")
		p := t.peer()
		p.open("f")
		t.must("lock", lock(t.open("f", rdwr, 0), ofdSetlk, writeLock, 0, 10))
		t.equal("the other", p.says("lock %d %d 5 1", syscall.F_SETLK, writeLock), "EAGAIN")
		return nil
	}},
	{"who has it", ok, func(t *T) error {
		t.file("f", "")
		t.must("lock", lock(t.open("f", rdwr, 0), ofdSetlk, writeLock, 2, 3))
		asked := syscall.Flock_t{Type: readLock}
		t.must("OFD_GETLK", syscall.FcntlFlock(uintptr(t.open("f", rdwr, 0)), ofdGetlk, &asked))
		t.equal("the lock", locked(asked), "write 2 3 -1")
		return nil
	}},
}...)
