package network

import (
	"os"
	"syscall"
	"time"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// dialPatience is how long a program of the guest may take to accept a connection.
const dialPatience = 10 * time.Second

// Dial connects the host's stream to a program that listens on a port of the guest: on its own
// address, or, because programs are often started so, on loopback, unless it is another sandbox
// that connects.
func (g *Gate) Dial(s *mux.Stream, m *wire.Dial) mux.Handler {
	r := newRelay()
	r.stream = s
	go g.guarded(func() {
		var last error = syscall.ECONNREFUSED
		if m.Port < 1 || m.Port > 65535 {
			last = syscall.EINVAL
		} else {
			targets := []syscall.Sockaddr{
				&syscall.SockaddrInet4{Addr: address4.Addr().As4(), Port: int(m.Port)},
				&syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(m.Port)},
				&syscall.SockaddrInet6{Addr: [16]byte{15: 1}, Port: int(m.Port)},
			}
			if m.Flags&wire.DialOwn != 0 {
				targets = targets[:1]
			}
			for _, target := range targets {
				fd, err := dial(target)
				if err == nil {
					s.Send(&wire.OK{}, false)
					r.join(fd)
					return
				}
				last = err
			}
		}
		errno, _ := last.(syscall.Errno)
		s.Send(&wire.Failed{Code: "connect", Text: last.Error(), Errno: uint64(errno)}, true)
	})
	return r
}

// dial connects and returns the socket.
func dial(target syscall.Sockaddr) (int, error) {
	family := syscall.AF_INET
	if _, six := target.(*syscall.SockaddrInet6); six {
		family = syscall.AF_INET6
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err = syscall.Connect(fd, target); err == syscall.EINPROGRESS {
		err = connected(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	syscall.SetsockoptInt(fd, syscall.SOL_TCP, syscall.TCP_NODELAY, 1)
	return fd, nil
}

// connected waits until a connection stands or has failed.
func connected(fd int) error {
	copied, err := syscall.Dup(fd) // the file below closes what it is given
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(copied), "connecting")
	defer file.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	file.SetWriteDeadline(time.Now().Add(dialPatience))
	fault := syscall.Errno(0)
	err = raw.Write(func(fd uintptr) bool {
		value, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		if fault = syscall.Errno(value); err != nil {
			fault = syscall.EIO
		}
		_, err = syscall.Getpeername(int(fd))
		return fault != 0 || err == nil
	})
	if err != nil {
		return syscall.ETIMEDOUT
	}
	if fault != 0 {
		return fault
	}
	return nil
}
