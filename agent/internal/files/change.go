package files

import (
	"strings"
	"syscall"

	"sandlot/agent/internal/identity"
	"sandlot/agent/internal/wire"
)

// stat describes a file; shown is its path as the host wrote it.
func stat(p string, shown []byte, follow bool) (*wire.FileInfo, error) {
	var st syscall.Stat_t
	flags := 0
	if !follow {
		flags = atNoFollow
	}
	if err := fstatat(atCwd, p, &st, flags); err != nil {
		return nil, err
	}
	target := ""
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		target, _ = readlinkat(atCwd, p)
	}
	return info(string(shown), &st, target), nil
}

func mkdir(p string, m *wire.FileMkdir) error {
	mode := uint32(0o755)
	if m.Flags&wire.MkdirMode != 0 {
		mode = uint32(m.Mode & 0o7777)
	}
	if m.Flags&wire.MkdirParents != 0 {
		if err := makeParents(p); err != nil {
			return err
		}
	}
	err := mkdirat(atCwd, p, mode)
	if err == syscall.EEXIST && m.Flags&wire.MkdirExists != 0 {
		var st syscall.Stat_t
		if fstatat(atCwd, p, &st, 0) == nil && isDir(st.Mode) {
			return nil
		}
	}
	if err == nil && mode&^0o755 != 0 {
		err = fchmodat(atCwd, p, mode)
	}
	return err
}

func remove(p string, flags uint64) error {
	var err error
	// A path that ends in a slash or a dot names the folder itself.
	dir, name := split(p)
	if name == "." || name == ".." {
		return syscall.EINVAL
	}
	if flags&wire.RemoveRecursive == 0 {
		var st syscall.Stat_t
		if err = fstatat(atCwd, dir+"/"+name, &st, atNoFollow); err == nil {
			err = unlinkat(atCwd, dir+"/"+name, folderFlag(st.Mode))
		}
	} else {
		var fd int
		if fd, err = openat(atCwd, dir, syscall.O_RDONLY|syscall.O_DIRECTORY|oPath, 0); err == nil {
			err = removeAll(fd, name, p)
			syscall.Close(fd)
		}
	}
	if flags&wire.RemoveMissing != 0 && (err == syscall.ENOENT || err == syscall.ENOTDIR) {
		return nil
	}
	return err
}

func folderFlag(mode uint32) int {
	if isDir(mode) {
		return atRemoveDir
	}
	return 0
}

// removeAll removes an entry and all below it; links are removed, never followed.
func removeAll(dir int, name, shown string) error {
	err := unlinkat(dir, name, 0)
	if err == nil || err == syscall.ENOENT {
		return err
	}
	if err != syscall.EISDIR && err != syscall.EPERM && err != syscall.EACCES && err != syscall.EBUSY {
		return about(shown, err)
	}
	fd, openErr := openat(dir, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if openErr != nil {
		if err == syscall.EISDIR {
			err = openErr
			if unlinkat(dir, name, atRemoveDir) == nil { // an empty one that may not be read
				return nil
			}
		}
		return about(shown, err)
	}
	defer syscall.Close(fd)
	// Removing while listing may make the kernel leave entries out: until nothing is found.
	for {
		found := 0
		err := names(fd, func(entry string) error {
			found++
			err := removeAll(fd, entry, within(shown, entry))
			if err == syscall.ENOENT {
				err = nil
			}
			return err
		})
		if err != nil {
			return about(shown, err)
		}
		if found == 0 {
			break
		}
		rewind(fd)
	}
	return about(shown, unlinkat(dir, name, atRemoveDir))
}

func rename(from, to string, flags uint64) error {
	var st syscall.Stat_t
	if err := fstatat(atCwd, from, &st, atNoFollow); err != nil {
		return err
	}
	kernel := uintptr(0)
	if flags&wire.RenameNoReplace != 0 {
		kernel = renameNoReplace
	}
	return about(to, renameat(atCwd, from, atCwd, to, kernel))
}

func link(p string, cwd []byte, m *wire.FileLink) error {
	if m.Flags&wire.LinkHard == 0 {
		return symlinkat(string(m.Target), atCwd, p)
	}
	target, err := absolute(cwd, m.Target)
	if err != nil {
		return err
	}
	return linkat(atCwd, target, atCwd, p)
}

// change sets mode, owner and time, also of everything below.
func change(p string, m *wire.FileChange) error {
	uid, gid, err := owner(m)
	if err != nil {
		return err
	}
	c := changes{m.Flags, uint32(m.Mode & 0o7777), uid, gid, int64(m.MtimeNs)}
	var st syscall.Stat_t
	follow := 0
	if m.Flags&wire.ChangeNoFollow != 0 {
		follow = atNoFollow
	}
	if err := fstatat(atCwd, p, &st, follow); err != nil {
		return err
	}
	if m.Flags&wire.ChangeRecursive != 0 && isDir(st.Mode) {
		fd, err := openat(atCwd, p, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		if err := c.below(fd, p); err != nil {
			return err
		}
	}
	return c.apply(atCwd, p, &st, follow)
}

type changes struct {
	what     uint64
	mode     uint32
	uid, gid int
	mtime    int64
}

func owner(m *wire.FileChange) (uid, gid int, err error) {
	if m.Flags&wire.ChangeOwner == 0 {
		return -1, -1, nil
	}
	who, _, hasGroup := strings.Cut(m.Owner, ":")
	spec := m.Owner
	if who == "" {
		spec = "0" + m.Owner // only the group
	}
	user, err := identity.Lookup(spec)
	if err != nil {
		return -1, -1, &pathError{m.Owner, err}
	}
	uid, gid = int(user.UID), -1
	if who == "" {
		uid = -1
	}
	if hasGroup {
		gid = int(user.GID)
	}
	return uid, gid, nil
}

// apply changes one entry. A link's mode cannot be changed: it is left as it is.
func (c *changes) apply(dir int, name string, st *syscall.Stat_t, follow int) error {
	if c.what&wire.ChangeOwner != 0 {
		if err := fchownat(dir, name, c.uid, c.gid, follow); err != nil {
			return err
		}
	}
	if c.what&wire.ChangeMode != 0 && st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
		if err := fchmodat(dir, name, c.mode); err != nil {
			return err
		}
	}
	if c.what&wire.ChangeTime != 0 {
		return setTime(dir, name, c.mtime, follow)
	}
	return nil
}

// below changes what is in a folder. A link is changed itself, never what it points to.
func (c *changes) below(dir int, shown string) error {
	return names(dir, func(name string) error {
		var st syscall.Stat_t
		if err := fstatat(dir, name, &st, atNoFollow); err != nil {
			return about(within(shown, name), err)
		}
		if isDir(st.Mode) {
			fd, err := openat(dir, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
			if err != nil {
				return about(within(shown, name), err)
			}
			err = c.below(fd, within(shown, name))
			syscall.Close(fd)
			if err != nil {
				return err
			}
		}
		return about(within(shown, name), c.changeAt(dir, name, &st))
	})
}

// changeAt changes an entry through a descriptor: between the look and the change somebody may
// put a link in its place, which chmod would follow.
func (c *changes) changeAt(dir int, name string, st *syscall.Stat_t) error {
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		return c.apply(dir, name, st, atNoFollow)
	}
	fd, err := openat(dir, name, oPath|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var now syscall.Stat_t
	if err := fstatat(fd, "", &now, atEmptyPath); err != nil || now.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		return err
	}
	return c.apply(atCwd, "/proc/self/fd/"+itoa(fd), &now, 0)
}
