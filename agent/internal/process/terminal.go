package process

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// openTerminal makes a pseudo-terminal: the agent's side, and the process's.
func openTerminal(rows, columns uint64) (*os.File, int, error) {
	fd, err := syscall.Open("/dev/pts/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	var unlocked, number int32
	err = ioctl(fd, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	if err == nil {
		err = ioctl(fd, syscall.TIOCGPTN, unsafe.Pointer(&number))
	}
	child := -1
	if err == nil {
		child, err = syscall.Open("/dev/pts/"+strconv.Itoa(int(number)), syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	}
	if err == nil {
		resize(fd, rows, columns)
		return os.NewFile(uintptr(fd), "terminal"), child, nil
	}
	syscall.Close(fd)
	return nil, 0, err
}

func resize(fd int, rows, columns uint64) error {
	size := [4]uint16{uint16(min(rows, 65535)), uint16(min(columns, 65535))}
	return ioctl(fd, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
}

func ioctl(fd int, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}
