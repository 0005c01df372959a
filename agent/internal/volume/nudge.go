package volume

import (
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"sandlot/agent/internal/wire"
)

// What a change is, its first byte.
const (
	changeCreated    = 'c'
	changeFolder     = 'f'
	changeDeleted    = 'd'
	changeNoFolder   = 'r'
	changeModified   = 'm'
	changeAttributes = 'a'
	changeAll        = '*'
)

// Nudge does in the guest what was done to the volume's files on the host, so that programs which
// watch them hear of it. The thread that does it is told to the host, which changes nothing for
// it. Without changes only the thread is told.
func (v *Volumes) Nudge(m *wire.Nudge) (int, error) {
	v.mu.Lock()
	one := v.all[m.Volume]
	if v.nudges == nil {
		v.nudges = make(chan func())
		ready := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			v.nudger = syscall.Gettid()
			close(ready)
			for f := range v.nudges {
				v.guarded(f)
			}
		}()
		<-ready
	}
	v.mu.Unlock()
	if one == nil {
		return 0, ErrNone
	}
	done := make(chan struct{})
	v.nudges <- func() {
		defer close(done)
		base := "/proc/self/fd/" + strconv.Itoa(one.root)
		for _, change := range m.Changes {
			if len(change) < 2 {
				continue
			}
			nudge(change[0], below(base, change[1:]))
		}
	}
	<-done
	return v.nudger, nil
}

// below is a path in a volume; one that leads out of it leads nowhere.
func below(base string, name []byte) string {
	path := base + "/" + string(name)
	if string(name) == "." {
		return base
	}
	if filepath.Clean(path) != path {
		return ""
	}
	return path
}

func nudge(change byte, path string) {
	const flags = syscall.O_WRONLY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC | syscall.O_NONBLOCK
	switch change {
	case changeCreated:
		if fd, err := syscall.Open(path, flags|syscall.O_CREAT|syscall.O_EXCL, 0o644); err == nil {
			syscall.Close(fd)
		}
	case changeFolder:
		syscall.Mkdir(path, 0o755)
	case changeDeleted:
		syscall.Unlink(path)
	case changeNoFolder:
		syscall.Rmdir(path)
	case changeModified:
		// Its size does not change: the host answers with what the file is.
		if fd, err := syscall.Open(path, flags, 0); err == nil {
			syscall.Ftruncate(fd, 0)
			syscall.Close(fd)
		}
	case changeAttributes:
		syscall.Chmod(path, 0o644)
	case changeAll:
		// Whatever the kernel remembers of names, also of those that are not there, is forgotten.
		syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_NOATIME, "")
	}
}
