// Package lend lets programs of the guest reach the runtime that the sandbox's owner lends it: a
// socket, each connection of which is one stream to the host (protocol/README.md, section 13).
package lend

import (
	"os"
	"sync"
	"syscall"
	"time"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/network"
	"sandlot/agent/internal/wire"
)

const (
	// Socket is where programs connect.
	Socket = "/run/sandlot/runtime.sock"
	// folder holds what the guest is offered: the command, and what the host writes there.
	folder  = "/run/sandlot/runtime"
	command = folder + "/sandlot"
	backlog = 128
)

// Lending is what LEND acts upon.
type Lending struct {
	Conn *mux.Conn
	Log  func(string)

	mu       sync.Mutex
	listener *os.File
}

// Open begins to listen, also again: a machine that was saved may have listened before.
func (l *Lending) Open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := offerCommand(); err != nil {
		return err
	}
	if l.listener != nil {
		if found, err := os.Lstat(Socket); err == nil && found.Mode()&os.ModeSocket != 0 {
			return nil
		}
		l.listener.Close()
		l.listener = nil
	}
	fd, err := listen()
	if err != nil {
		return err
	}
	l.listener = os.NewFile(uintptr(fd), Socket)
	go l.accept(l.listener)
	return nil
}

// offerCommand gives this program a second name, under which it is `sandlot` (package borrow).
func offerCommand() error {
	if found, err := os.Stat(command); err == nil && found.Size() > 0 {
		return nil
	}
	fd, err := syscall.Open(command, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o755)
	if err != nil {
		return &os.PathError{Op: "create", Path: command, Err: err}
	}
	syscall.Close(fd)
	if err := syscall.Mount("/proc/self/exe", command, "", syscall.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount", Path: command, Err: err}
	}
	return nil
}

func listen() (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	os.Remove(Socket)
	if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: Socket}); err == nil {
		// The guest's users are one to the host: it grants to the sandbox, not to one of them.
		if err = syscall.Chmod(Socket, 0o666); err == nil {
			err = syscall.Listen(fd, backlog)
		}
	}
	if err != nil {
		syscall.Close(fd)
		return -1, &os.PathError{Op: "listen", Path: Socket, Err: err}
	}
	return fd, nil
}

func (l *Lending) accept(listener *os.File) {
	raw, err := listener.SyscallConn()
	for err == nil {
		fd, fault := -1, error(nil)
		err = raw.Read(func(listening uintptr) bool {
			fd, _, fault = syscall.Accept4(int(listening), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			return fault != syscall.EAGAIN
		})
		if err != nil {
			return
		}
		if fault != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		m := &wire.Borrow{}
		if who, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			m.Pid, m.Uid = uint64(who.Pid), uint64(who.Uid)
		}
		network.Carry(l.Conn, m, fd)
	}
}
