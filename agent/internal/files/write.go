package files

import (
	"crypto/rand"
	"encoding/hex"
	"syscall"

	"sandlot/agent/internal/wire"
)

// temporary is how an unfinished file is named: short, so that it fits beside the longest name.
func temporary() string {
	var b [8]byte
	rand.Read(b[:])
	return ".sandlot-" + hex.EncodeToString(b[:])
}

// target is a file that is being written.
type target struct {
	fd   int
	dir  int    // of the temporary file, or -1
	temp string // its name, or empty: written in place
	name string // what it becomes
	// rename are the flags of the renaming.
	rename uintptr
}

// write takes a file's bytes from the host. They go to a temporary file which at the end takes the
// other's place, unless the file must be written where it is.
func (j *job) write(m *wire.FileWrite) error {
	var t *target
	err := as(j.user, func() (err error) {
		t, err = openTarget(j.path, m)
		return err
	})
	if err != nil {
		return err
	}
	defer t.close()
	j.in.open()
	if err := j.receive(t); err != nil {
		return err
	}
	if m.Flags&wire.WriteTime != 0 {
		if err := setTimeOf(t.fd, int64(m.MtimeNs)); err != nil {
			return err
		}
	}
	return as(j.user, t.commit)
}

func openTarget(p string, m *wire.FileWrite) (*target, error) {
	if m.Flags&wire.WriteParents != 0 {
		if err := makeParents(p); err != nil {
			return nil, err
		}
	}
	mode, given := uint32(0o644), m.Flags&wire.WriteMode != 0
	if given {
		mode = uint32(m.Mode & 0o7777)
	}
	if m.Flags&wire.WriteNew != 0 {
		var st syscall.Stat_t
		if err := fstatat(atCwd, p, &st, atNoFollow); err == nil {
			return nil, syscall.EEXIST
		}
		t, err := replacing(p, nil, mode)
		if err == nil {
			t.rename = renameNoReplace // or somebody else was faster
		}
		return t, err
	}
	flags := syscall.O_WRONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY
	if m.Flags&wire.WriteAppend != 0 {
		fd, err := openat(atCwd, p, flags|syscall.O_APPEND|syscall.O_CREAT, mode)
		if err != nil {
			return nil, err
		}
		return inPlace(fd, given, mode, false)
	}
	fd, err := openat(atCwd, p, flags, 0)
	if err == syscall.ENOENT {
		return replacing(p, nil, mode)
	}
	if err != nil {
		return nil, err
	}
	var st syscall.Stat_t
	if err := fstatat(fd, "", &st, atEmptyPath); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	if isRegular(st.Mode) && m.Flags&wire.WriteInPlace == 0 {
		if !given {
			mode = st.Mode & 0o7777
		}
		if t, err := replacing(p, &st, mode); err == nil {
			syscall.Close(fd)
			return t, nil
		}
		// Its folder admits no other file, or its owner is another: then where it is.
	}
	return inPlace(fd, given, mode, true)
}

// inPlace writes to an open file as it is.
func inPlace(fd int, given bool, mode uint32, truncate bool) (*target, error) {
	var st syscall.Stat_t
	err := fstatat(fd, "", &st, atEmptyPath)
	if err == nil && !isRegular(st.Mode) && st.Mode&syscall.S_IFMT != syscall.S_IFCHR {
		err = syscall.EINVAL
	}
	if err == nil && truncate && isRegular(st.Mode) {
		err = syscall.Ftruncate(fd, 0)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return placed(&target{fd: fd, dir: -1}, given && isRegular(st.Mode), mode)
}

func placed(t *target, given bool, mode uint32) (*target, error) {
	if given {
		if err := syscall.Fchmod(t.fd, mode); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

// replacing makes the temporary file beside the one that it replaces; old is that one, or nil.
func replacing(p string, old *syscall.Stat_t, mode uint32) (*target, error) {
	p, err := finalPath(p)
	if err != nil {
		return nil, err
	}
	folder, name := split(p)
	if name == "." || name == ".." || p[len(p)-1] == '/' {
		return nil, syscall.EISDIR
	}
	dir, err := openat(atCwd, folder, syscall.O_DIRECTORY|oPath, 0)
	if err != nil {
		return nil, err
	}
	t := &target{dir: dir, temp: temporary(), name: name}
	if t.fd, err = openat(dir, t.temp, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL, 0o600); err != nil {
		syscall.Close(dir)
		return nil, err
	}
	var st syscall.Stat_t
	if err = fstatat(t.fd, "", &st, atEmptyPath); err == nil && old != nil && (st.Uid != old.Uid || st.Gid != old.Gid) {
		err = syscall.Fchown(t.fd, int(old.Uid), int(old.Gid))
	}
	if err == nil {
		err = syscall.Fchmod(t.fd, mode)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// commit gives the file its name.
func (t *target) commit() error {
	if t.temp == "" {
		return nil
	}
	if err := renameat(t.dir, t.temp, t.dir, t.name, t.rename); err != nil {
		return err
	}
	t.temp = ""
	return nil
}

// close lets go of the file, and removes it when it is unfinished.
func (t *target) close() {
	if t.temp != "" {
		unlinkat(t.dir, t.temp, 0)
	}
	if t.fd >= 0 {
		syscall.Close(t.fd)
	}
	if t.dir >= 0 {
		syscall.Close(t.dir)
	}
}
