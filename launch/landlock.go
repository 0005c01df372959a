package main

import (
	"syscall"
	"unsafe"
)

// Source: Documentation/userspace-api/landlock.rst. Only rights of ABI 1 are handled, which every
// kernel with Landlock knows, plus truncate and device ioctl where the kernel has them.
const (
	sysCreateRuleset = 444
	sysAddRule       = 445
	sysRestrictSelf  = 446
	versionFlag      = 1
	rulePathBeneath  = 1
	oPath            = 0x200000

	accessExecute   = 1 << 0
	accessWriteFile = 1 << 1
	accessReadFile  = 1 << 2
	accessReadDir   = 1 << 3
	accessTruncate  = 1 << 14
	allOfABI1       = 1<<13 - 1
)

type rulesetAttr struct{ handled uint64 }

// Packed in the kernel's header: 8 octets of rights, 4 of the descriptor.
type pathBeneath [12]byte

func rule(access uint64, fd int32) pathBeneath {
	var attr pathBeneath
	*(*uint64)(unsafe.Pointer(&attr[0])) = access
	*(*int32)(unsafe.Pointer(&attr[8])) = fd
	return attr
}

// confine takes every path away but the named ones. A kernel without Landlock is not an error: the
// seccomp filter and the file permissions still stand.
func confine(reads, writes []string) error {
	abi, _, errno := syscall.RawSyscall(sysCreateRuleset, 0, 0, versionFlag)
	if errno != 0 || int(abi) < 1 || len(reads)+len(writes) == 0 {
		return nil
	}
	handled := uint64(allOfABI1)
	fileWrite := uint64(accessReadFile | accessWriteFile)
	if abi >= 3 {
		handled |= accessTruncate
		fileWrite |= accessTruncate
	}
	attr := rulesetAttr{handled}
	// SAFETY: attr lives across the call and its size is passed.
	ruleset, _, errno := syscall.RawSyscall(sysCreateRuleset, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	defer syscall.Close(int(ruleset))
	for _, path := range reads {
		if err := allow(int(ruleset), path, accessReadFile|accessReadDir|accessExecute); err != nil {
			return err
		}
	}
	for _, path := range writes {
		if err := allow(int(ruleset), path, fileWrite); err != nil {
			return err
		}
	}
	if _, _, errno := syscall.RawSyscall(sysRestrictSelf, ruleset, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func allow(ruleset int, path string, access uint64) error {
	fd, err := syscall.Open(path, oPath|syscall.O_CLOEXEC, 0)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		access &^= accessReadDir
	}
	attr := rule(access, int32(fd))
	// SAFETY: attr lives across the call; the kernel reads its 12 packed octets.
	if _, _, errno := syscall.RawSyscall6(sysAddRule, uintptr(ruleset), rulePathBeneath, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
