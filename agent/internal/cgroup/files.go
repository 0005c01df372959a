package cgroup

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

func mkdir(at int, name string) error {
	if err := syscall.Mkdirat(at, name, 0o755); err != nil && err != syscall.EEXIST {
		return err
	}
	return nil
}

func rmdir(at int, name string) error {
	path, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	const removeDir = 0x200
	_, _, errno := syscall.Syscall(syscall.SYS_UNLINKAT, uintptr(at), uintptr(unsafe.Pointer(path)), removeDir)
	if errno != 0 {
		return errno
	}
	return nil
}

func openDir(at int, name string) (int, error) {
	return syscall.Openat(at, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
}

// open opens a file to be read again and again; -1 if there is none.
func open(at int, name string) int {
	fd, err := syscall.Openat(at, name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// again reads a small file that is open from its start.
func again(fd int) []byte {
	var buffer [512]byte
	n, err := syscall.Pread(fd, buffer[:], 0)
	if err != nil || n <= 0 {
		return nil
	}
	return buffer[:n]
}

func number(text []byte) uint64 {
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
	return n
}

func write(at int, name, value string) error {
	fd, err := syscall.Openat(at, name, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(value))
	return err
}

func read(at int, name string) []byte {
	fd, err := syscall.Openat(at, name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	buffer := make([]byte, 0, 512)
	for len(buffer) < 1<<20 {
		if cap(buffer)-len(buffer) < 256 {
			buffer = append(make([]byte, 0, 2*cap(buffer)), buffer...)
		}
		n, err := syscall.Read(fd, buffer[len(buffer):cap(buffer)])
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		buffer = buffer[:len(buffer)+n]
	}
	return buffer
}

// MemoryTotal is the memory of the machine in bytes; 0 if the kernel does not tell.
func MemoryTotal() uint64 {
	text, _ := os.ReadFile("/proc/meminfo")
	_, after, _ := bytes.Cut(text, []byte("MemTotal:"))
	fields := bytes.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseUint(string(fields[0]), 10, 64)
	return kib << 10
}

func threadsMax() int {
	text, _ := os.ReadFile("/proc/sys/kernel/threads-max")
	n, _ := strconv.Atoi(string(bytes.TrimSpace(text)))
	return n
}
