package files

import "syscall"

// System calls that package syscall does not name on every machine.
const (
	sysFstatat   = syscall.SYS_FSTATAT
	sysRenameat2 = 276
)
