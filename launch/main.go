// launch starts the virtual machine monitor confined, and dies with its owner.
//
//	launch --parent PID [--guard-below BYTES] [--read PATH]... [--write PATH]... -- PROGRAM ARG...
//
// It asks the kernel to be killed when the parent dies, forbids new privileges and core dumps,
// lets Landlock take away every path that is not named (where the kernel has Landlock), lets a
// seccomp filter keep fallocate from changing any file below an offset, and becomes PROGRAM. The
// descriptors it was given are all that PROGRAM gets.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

const (
	prSetPdeathsig  = 1
	prSetNoNewPrivs = 38
)

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "launch: "+format+"\n", args...)
	os.Exit(125)
}

func prctl(option, value uintptr) {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0); errno != 0 {
		fail("prctl %d: %v", option, errno)
	}
}

func main() {
	// The death signal and Landlock belong to the thread that asks for them, and exec keeps those
	// of the thread that calls it.
	runtime.LockOSThread()
	parent, guarded, reads, writes, command := parse(os.Args[1:])
	prctl(prSetPdeathsig, uintptr(syscall.SIGKILL))
	if os.Getppid() != parent {
		os.Exit(125) // the owner died before we asked
	}
	prctl(prSetNoNewPrivs, 1)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		fail("core limit: %v", err)
	}
	if err := confine(reads, writes); err != nil {
		fail("landlock: %v", err)
	}
	if guarded != 0 {
		if err := guardBelow(guarded); err != nil {
			fail("seccomp: %v", err)
		}
	}
	err := syscall.Exec(command[0], command, os.Environ())
	fail("%s: %v", command[0], err)
}

func parse(args []string) (parent int, guarded uint64, reads, writes, command []string) {
	for len(args) >= 2 {
		name, value := args[0], args[1]
		if name == "--" {
			return parent, guarded, reads, writes, args[1:]
		}
		switch name {
		case "--parent":
			number, err := strconv.Atoi(value)
			if err != nil {
				fail("%s is not a process id", value)
			}
			parent = number
		case "--guard-below":
			number, err := strconv.ParseUint(value, 10, 63)
			if err != nil || number == 0 {
				fail("%s is not a number of bytes", value)
			}
			guarded = number
		case "--read":
			reads = append(reads, value)
		case "--write":
			writes = append(writes, value)
		default:
			fail("unknown flag %s", name)
		}
		args = args[2:]
	}
	fail("no program given")
	return
}
