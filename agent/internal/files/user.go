package files

import (
	"runtime"
	"syscall"
	"unsafe"

	"sandlot/agent/internal/identity"
)

// as runs f with a user's rights: effective user, group and supplementary groups, and no
// capabilities. Linux keeps these per thread; the Go runtime starts no thread from a locked one,
// so none inherits them. Real and saved ids stay root's: the way back, and the reason why the user
// can neither trace nor signal the agent meanwhile.
func as(u identity.User, f func() error) error {
	if u.UID == 0 && u.GID == 0 {
		return f()
	}
	runtime.LockOSThread()
	err := assume(u)
	if err == nil {
		err = f()
	}
	if assume(identity.User{}) == nil {
		runtime.UnlockOSThread()
	} // else the thread ends together with its goroutine
	return err
}

// assume sets the thread's effective ids. Root's user id comes first, since the others need it,
// and the user's last.
func assume(u identity.User) error {
	const keep = ^uintptr(0)
	if err := set(syscall.SYS_SETRESUID, keep, 0, keep); err != nil {
		return err
	}
	var list unsafe.Pointer
	if len(u.Groups) > 0 {
		list = unsafe.Pointer(&u.Groups[0])
	}
	if err := set(syscall.SYS_SETGROUPS, uintptr(len(u.Groups)), uintptr(list), 0); err != nil {
		return err
	}
	if err := set(syscall.SYS_SETRESGID, keep, uintptr(u.GID), keep); err != nil {
		return err
	}
	if u.UID == 0 {
		return nil
	}
	return set(syscall.SYS_SETRESUID, keep, uintptr(u.UID), keep)
}

func set(number, a, b, c uintptr) error {
	if _, _, errno := syscall.RawSyscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}
