package mux

import (
	"os"
	"syscall"
	"unsafe"
)

// A port is the descriptor that everything goes through. The runtime does not wait for it itself:
// it would be woken for each write that the host has taken, as often as for what comes. It waits
// for sets of descriptors with this one in it, one to be read and, while a write waits, one to be
// written to.
type port struct {
	fd      int
	in, out *os.File
	outSet  int
}

func newPort(fd int) (*port, error) {
	p := &port{fd: fd}
	inSet, in, err := newSet()
	if err != nil {
		return nil, err
	}
	if p.outSet, p.out, err = newSet(); err != nil {
		return nil, err
	}
	p.in = in
	return p, p.watch(inSet, syscall.EPOLL_CTL_ADD, syscall.EPOLLIN)
}

func newSet() (int, *os.File, error) {
	set, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return 0, nil, err
	}
	if err := syscall.SetNonblock(set, true); err != nil { // else the runtime does not wait for it
		return 0, nil, err
	}
	return set, os.NewFile(uintptr(set), "epoll"), nil
}

func (p *port) watch(set, how int, events uint32) error {
	return syscall.EpollCtl(set, how, p.fd, &syscall.EpollEvent{Events: events, Fd: int32(p.fd)})
}

// read waits until there is something, and reads it.
func (p *port) read(into []byte) (n int, err error) {
	raw, err := p.in.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fault error
	err = raw.Read(func(uintptr) bool {
		n, fault = read(p.fd, into)
		return fault != syscall.EAGAIN
	})
	if err == nil {
		err = fault
	}
	return n, err
}

// write writes some of what is given, and waits while nothing can be written.
func (p *port) write(from []byte) (int, error) {
	n, err := write(p.fd, from)
	if err != syscall.EAGAIN {
		return n, err
	}
	if err := p.watch(p.outSet, syscall.EPOLL_CTL_ADD, syscall.EPOLLOUT); err != nil {
		return 0, err
	}
	defer p.watch(p.outSet, syscall.EPOLL_CTL_DEL, 0)
	raw, err := p.out.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fault error
	err = raw.Read(func(uintptr) bool {
		n, fault = write(p.fd, from)
		return fault != syscall.EAGAIN
	})
	if err == nil {
		err = fault
	}
	return n, err
}

// read is read(2) on a descriptor that does not block: the scheduler need not hear of it.
func read(fd int, into []byte) (int, error) {
	return transfer(syscall.SYS_READ, fd, into)
}

// write is write(2), likewise.
func write(fd int, from []byte) (int, error) {
	return transfer(syscall.SYS_WRITE, fd, from)
}

func transfer(call uintptr, fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
