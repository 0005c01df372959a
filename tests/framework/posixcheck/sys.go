package main

import (
	"syscall"
	"unsafe"
)

// What the standard library has no function for.

const (
	atFdcwd         = -0x64
	atSymlinkFollow = 0x400
	atNoFollow      = 0x100
	atEmptyPath     = 0x1000

	renameNoReplace = 1
	renameExchange  = 2
	renameWhiteout  = 4

	fallocKeepSize  = 0x01
	fallocPunchHole = 0x02
	fallocCollapse  = 0x08
	fallocZeroRange = 0x10
	fallocInsert    = 0x20

	seekData = 3
	seekHole = 4

	oTmpfile = 0x400000 | syscall.O_DIRECTORY
	oPath    = 0x200000

	ofdGetlk = 36
	ofdSetlk = 37

	utimeNow  = 0x3fffffff
	utimeOmit = 0x3ffffffe

	xattrCreate  = 1
	xattrReplace = 2
)

func result(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// Conversions to uintptr stand in the argument lists: there they keep what they point at alive.
func text(from string) unsafe.Pointer {
	raw := append([]byte(from), 0)
	return unsafe.Pointer(&raw[0])
}

func at(fd int) uintptr { return uintptr(fd) }

func renameat2(from, to string, flags int) error {
	_, _, errno := syscall.Syscall6(sysRenameat2, at(atFdcwd), uintptr(text(from)), at(atFdcwd), uintptr(text(to)),
		uintptr(flags), 0)
	return result(errno)
}

func linkat(from int, old, new string, flags int) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_LINKAT, at(from), uintptr(text(old)), at(atFdcwd), uintptr(text(new)),
		uintptr(flags), 0)
	return result(errno)
}

// utimens sets both times, in nanoseconds, by path or (path "") by descriptor.
func utimens(fd int, path string, times *[2]syscall.Timespec, flags int) error {
	var name unsafe.Pointer
	if path != "" {
		name = text(path)
	}
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, at(fd), uintptr(name),
		uintptr(unsafe.Pointer(times)), uintptr(flags), 0, 0)
	return result(errno)
}

func utimes(path string, atime, mtime syscall.Timespec) error {
	return utimens(atFdcwd, path, &[2]syscall.Timespec{atime, mtime}, 0)
}

func copyFileRange(in int, inAt *int64, out int, outAt *int64, size int) (int, error) {
	n, _, errno := syscall.Syscall6(sysCopyFileRange, uintptr(in), uintptr(unsafe.Pointer(inAt)),
		uintptr(out), uintptr(unsafe.Pointer(outAt)), uintptr(size), 0)
	return int(n), result(errno)
}

func fgetxattr(fd int, name string, value []byte) (int, error) {
	n, _, errno := syscall.Syscall6(syscall.SYS_FGETXATTR, uintptr(fd), uintptr(text(name)), uintptr(slice(value)),
		uintptr(len(value)), 0, 0)
	return int(n), result(errno)
}

func fsetxattr(fd int, name string, value []byte) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_FSETXATTR, uintptr(fd), uintptr(text(name)), uintptr(slice(value)),
		uintptr(len(value)), 0, 0)
	return result(errno)
}

func lsetxattr(path, name string, value []byte) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_LSETXATTR, uintptr(text(path)), uintptr(text(name)), uintptr(slice(value)),
		uintptr(len(value)), 0, 0)
	return result(errno)
}

func lgetxattr(path, name string, value []byte) (int, error) {
	n, _, errno := syscall.Syscall6(syscall.SYS_LGETXATTR, uintptr(text(path)), uintptr(text(name)), uintptr(slice(value)),
		uintptr(len(value)), 0, 0)
	return int(n), result(errno)
}

func slice(value []byte) unsafe.Pointer {
	if len(value) == 0 {
		return nil
	}
	return unsafe.Pointer(&value[0])
}

func fcntl(fd, command, argument int) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), uintptr(command), uintptr(argument))
	return int(n), result(errno)
}

func msync(memory []byte) error {
	const sync = 4
	_, _, errno := syscall.Syscall(syscall.SYS_MSYNC, uintptr(slice(memory)), uintptr(len(memory)), sync)
	return result(errno)
}

func syncfs(fd int) error {
	_, _, errno := syscall.Syscall(sysSyncfs, uintptr(fd), 0, 0)
	return result(errno)
}

// faults says whether touching this memory ends in a bus error; the goroutine must have asked for
// panics (alone does).
func faults(touch func()) (faulted bool) {
	defer func() {
		if caught := recover(); caught != nil {
			if _, own := caught.(failure); own {
				panic(caught)
			}
			faulted = true
		}
	}()
	touch()
	return false
}
