package files

import (
	"bytes"
	"os"
	"syscall"
	"unsafe"
)

// The calls that take a folder's descriptor: package syscall has them only in part.

const (
	atCwd           = -100
	atNoFollow      = 0x100
	atRemoveDir     = 0x200
	atEmptyPath     = 0x1000
	sysOpenat2      = 437
	resolveInRoot   = 0x10
	renameNoReplace = 1
	oPath           = 0x200000
	utimeOmit       = 1<<30 - 2
)

// call makes a system call again while a signal interrupts it: the Go runtime sends itself some.
// What its callers point to must not lie on a stack, which moves when it grows.
//
//go:uintptrescapes
func call(number, a, b, c, d, e uintptr) (uintptr, error) {
	for {
		r, _, errno := syscall.Syscall6(number, a, b, c, d, e, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return r, errno
		}
		return r, nil
	}
}

//go:uintptrescapes
func at1(number uintptr, dir int, name string, b, c, d uintptr) (uintptr, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, syscall.EINVAL
	}
	return call(number, uintptr(dir), uintptr(unsafe.Pointer(p)), b, c, d)
}

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	fd, err := at1(syscall.SYS_OPENAT, dir, name, uintptr(flags|syscall.O_CLOEXEC), uintptr(mode), 0)
	return int(fd), err
}

// openBelow opens a folder below dir; links on the way lead to nowhere outside dir.
func openBelow(dir int, name string, flags int) (int, error) {
	return openResolved(dir, name, flags, resolveInRoot)
}

func openResolved(dir int, name string, flags int, resolve uint64) (int, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return -1, syscall.EINVAL
	}
	how := struct{ flags, mode, resolve uint64 }{uint64(flags | syscall.O_CLOEXEC), 0, resolve}
	for {
		fd, err := call(sysOpenat2, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0)
		if err != syscall.EAGAIN { // somebody renames folders meanwhile
			return int(fd), err
		}
	}
}

func fstatat(dir int, name string, st *syscall.Stat_t, flags int) error {
	_, err := at1(sysFstatat, dir, name, uintptr(unsafe.Pointer(st)), uintptr(flags), 0)
	return err
}

func mkdirat(dir int, name string, mode uint32) error {
	_, err := at1(syscall.SYS_MKDIRAT, dir, name, uintptr(mode), 0, 0)
	return err
}

func mknodat(dir int, name string, mode uint32, device uint64) error {
	_, err := at1(syscall.SYS_MKNODAT, dir, name, uintptr(mode), uintptr(device), 0)
	return err
}

func unlinkat(dir int, name string, flags int) error {
	_, err := at1(syscall.SYS_UNLINKAT, dir, name, uintptr(flags), 0, 0)
	return err
}

func fchownat(dir int, name string, uid, gid, flags int) error {
	_, err := at1(syscall.SYS_FCHOWNAT, dir, name, uintptr(uid), uintptr(gid), uintptr(flags))
	return err
}

func fchmodat(dir int, name string, mode uint32) error {
	_, err := at1(syscall.SYS_FCHMODAT, dir, name, uintptr(mode), 0, 0)
	return err
}

// setTime sets the time of the last change of contents, of a link itself with atNoFollow.
func setTime(dir int, name string, ns int64, flags int) error {
	times := [2]syscall.Timespec{{Nsec: utimeOmit}, timespec(ns)}
	_, err := at1(syscall.SYS_UTIMENSAT, dir, name, uintptr(unsafe.Pointer(&times)), uintptr(flags), 0)
	return err
}

func setTimeOf(fd int, ns int64) error {
	times := [2]syscall.Timespec{{Nsec: utimeOmit}, timespec(ns)}
	_, err := call(syscall.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0)
	return err
}

// timespec rounds down, also before 1970.
func timespec(ns int64) syscall.Timespec {
	seconds, rest := ns/1e9, ns%1e9
	if rest < 0 {
		seconds, rest = seconds-1, rest+1e9
	}
	return syscall.Timespec{Sec: seconds, Nsec: rest}
}

func mtime(st *syscall.Stat_t) int64 { return st.Mtim.Sec*1e9 + st.Mtim.Nsec }

func at2(number uintptr, oldDir int, old string, newDir int, new string, flags uintptr) error {
	o, err := syscall.BytePtrFromString(old)
	if err != nil {
		return syscall.EINVAL
	}
	n, err := syscall.BytePtrFromString(new)
	if err != nil {
		return syscall.EINVAL
	}
	_, err = call(number, uintptr(oldDir), uintptr(unsafe.Pointer(o)), uintptr(newDir), uintptr(unsafe.Pointer(n)), flags)
	return err
}

func renameat(oldDir int, old string, newDir int, new string, flags uintptr) error {
	return at2(sysRenameat2, oldDir, old, newDir, new, flags)
}

func linkat(oldDir int, old string, newDir int, new string) error {
	return at2(syscall.SYS_LINKAT, oldDir, old, newDir, new, 0)
}

func symlinkat(target string, dir int, name string) error {
	t, err := syscall.BytePtrFromString(target)
	if err != nil {
		return syscall.EINVAL
	}
	n, err := syscall.BytePtrFromString(name)
	if err != nil {
		return syscall.EINVAL
	}
	_, err = call(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(t)), uintptr(dir), uintptr(unsafe.Pointer(n)), 0, 0)
	return err
}

func readlinkat(dir int, name string) (string, error) {
	var buffer [4096]byte
	n, err := at1(syscall.SYS_READLINKAT, dir, name, uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

func read(fd int, p []byte) (int, error) {
	n, err := call(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0)
	if err != nil {
		return 0, err
	}
	return int(n), nil
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := call(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// names calls each with the entries of an open folder, in the folder's own order.
func names(dir int, each func(name string) error) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := call(syscall.SYS_GETDENTS64, uintptr(dir), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0, 0)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for rest := buffer[:n]; len(rest) > 0; {
			entry := (*syscall.Dirent)(unsafe.Pointer(&rest[0]))
			const head = int(unsafe.Offsetof(syscall.Dirent{}.Name))
			name := rest[head:entry.Reclen]
			name = name[:bytes.IndexByte(name, 0)]
			rest = rest[entry.Reclen:]
			if text := string(name); text != "." && text != ".." {
				if err := each(text); err != nil {
					return err
				}
			}
		}
	}
}

// rewind makes names begin again.
func rewind(dir int) { syscall.Seek(dir, 0, os.SEEK_SET) }
