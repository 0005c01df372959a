package main

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

// Source: include/uapi/linux/{seccomp,filter,audit,falloc}.h.
const (
	prSetSeccomp      = 22
	seccompModeFilter = 2

	actKill  = 0x80000000
	actErrno = 0x00050000 // with the error in the low 16 bits; 0 is success
	actAllow = 0x7fff0000

	loadWord   = 0x20 // BPF_LD | BPF_W | BPF_ABS
	ifEqual    = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	ifAtLeast  = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	returns    = 0x06 // BPF_RET | BPF_K
	atNumber   = 0    // places in struct seccomp_data, of little-endian machines
	atArch     = 4
	atMode     = 24
	atOffset   = 32
	highWord   = 4
	x32Numbers = 0x40000000

	keepSize  = 0x01
	punchHole = 0x02
)

var audited = map[string]uint32{"amd64": 0xc000003e, "arm64": 0xc00000b7}

// guardBelow makes every fallocate at an offset below the limit leave its file as it is: to punch a
// hole there says that it was done, anything else is refused. The filter outlives exec and cannot be
// taken off. Whoever starts us keeps guest memory below the limit and disks above it, so that QEMU
// cannot punch holes into a template's memory but can into a disk (docs/design/0013-freed-memory-goes-back.md).
func guardBelow(limit uint64) error {
	if limit == 0 || limit&0xffffffff != 0 {
		return fmt.Errorf("the limit %d is not a multiple of 4 GiB", limit)
	}
	arch, known := audited[runtime.GOARCH]
	if !known {
		return fmt.Errorf("%s is unknown", runtime.GOARCH)
	}
	program := filter(arch, uint32(limit>>32))
	header := struct {
		length uint16
		first  *syscall.SockFilter
	}{uint16(len(program)), &program[0]}
	// SAFETY: the kernel copies the program during the call; header and program live until then.
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetSeccomp, seccompModeFilter, uintptr(unsafe.Pointer(&header)))
	if errno != 0 {
		return errno
	}
	// No file has descriptor -1: only the filter can call this a success.
	if errno := fallocate(punchHole|keepSize, limit-1); errno != 0 {
		return fmt.Errorf("it has no effect: %v", errno)
	}
	if errno := fallocate(punchHole|keepSize, limit); errno != syscall.EBADF {
		return fmt.Errorf("it reaches too far: %v", errno)
	}
	return nil
}

func fallocate(mode uintptr, offset uint64) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_FALLOCATE, ^uintptr(0), mode, uintptr(offset), 1, 0, 0)
	return errno
}

// filter is the program for one architecture; calls of any other are fatal, as their numbers differ.
func filter(arch, limitHigh uint32) []syscall.SockFilter {
	jump := func(code uint16, value uint32, yes, no uint8) syscall.SockFilter {
		return syscall.SockFilter{Code: code, Jt: yes, Jf: no, K: value}
	}
	do := func(code uint16, value uint32) syscall.SockFilter {
		return syscall.SockFilter{Code: code, K: value}
	}
	return []syscall.SockFilter{
		do(loadWord, atArch),
		jump(ifEqual, arch, 0, 8), // else: kill
		do(loadWord, atNumber),
		jump(ifAtLeast, x32Numbers, 6, 0),          // kill
		jump(ifEqual, syscall.SYS_FALLOCATE, 0, 6), // else: allow
		do(loadWord, atOffset+highWord),            //
		jump(ifAtLeast, limitHigh, 4, 0),           // allow; a negative offset too, it is refused
		do(loadWord, atMode),                       //
		jump(ifEqual, punchHole|keepSize, 3, 0),    // done
		do(returns, actErrno|uint32(syscall.EOPNOTSUPP)),
		do(returns, actKill),
		do(returns, actAllow),
		do(returns, actErrno),
	}
}
