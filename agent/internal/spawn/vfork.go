package spawn

import (
	"syscall"
	_ "unsafe" // for the names of the runtime
)

// vfork is a system call that returns twice, first in the child and with the same stack.
//
//go:noescape
func vfork(trap, a, b uintptr) (pid uintptr, errno syscall.Errno)

// The runtime's own, as around every system call that may wait: it gives the processor to others,
// and leaves this goroutine's stack where it is.
//
//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
