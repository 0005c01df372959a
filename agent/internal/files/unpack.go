package files

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"strings"
	"syscall"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// maxLate is how many folders' modes and times are kept until the end of an archive.
const maxLate = 1 << 17

// put unpacks an archive from the host into a folder.
func (j *job) put(m *wire.TreePut) error {
	return as(j.user, func() error {
		if m.Flags&wire.PutMake != 0 {
			if err := makeAll(j.path, 0o755); err != nil {
				return err
			}
		}
		root, err := openat(atCwd, j.path, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		u := &unpacker{job: j, root: root, dir: -1, owners: m.Flags&wire.PutOwners != 0}
		defer u.close()
		j.in.open()
		if err := u.all(); err != nil {
			return err
		}
		return u.settle()
	})
}

type unpacker struct {
	job    *job
	root   int
	owners bool
	buffer []byte

	dir     int // the folder of the latest entry
	dirName string
	late    []lateFolder
}

// A lateFolder gets its mode and time when nothing more is put into it.
type lateFolder struct {
	name  string
	mode  uint32
	mtime int64
}

func (u *unpacker) all() error {
	in := bufio.NewReaderSize(u.job.in, 64<<10)
	archive := tar.NewReader(in)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return archiveError(err)
		}
		name, ok := entryName(h.Name)
		if !ok {
			return &pathError{h.Name, errors.New("a name in the archive leads out of it")}
		}
		if err := u.entry(archive, h, name); err != nil {
			return about(within(u.job.path, name), err)
		}
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

func archiveError(err error) error {
	switch {
	case errors.Is(err, mux.ErrDead):
		return mux.ErrDead
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the archive ends in the middle")
	}
	return err
}

// entryName is a member's path below the root, without dots; false when it leads out.
func entryName(raw string) (string, bool) {
	parts := strings.Split(raw, "/")
	kept := parts[:0]
	for _, part := range parts {
		switch part {
		case "", ".":
		case "..":
			return "", false
		default:
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "/"), !strings.Contains(raw, "\x00")
}

func (u *unpacker) entry(archive *tar.Reader, h *tar.Header, name string) error {
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return nil
		}
		return u.folder(u.root, ".", "", h)
	}
	at := strings.LastIndexByte(name, '/')
	dir, err := u.enter(name[:max(at, 0)])
	if err != nil {
		return err
	}
	base := name[at+1:]
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(archive, dir, base, h)
	case tar.TypeDir:
		return u.folder(dir, base, name, h)
	case tar.TypeSymlink:
		err = u.replace(dir, base, func() error { return symlinkat(h.Linkname, dir, base) })
	case tar.TypeLink:
		return u.hardLink(dir, base, h.Linkname)
	case tar.TypeChar:
		err = u.node(dir, base, syscall.S_IFCHR|mode, h)
	case tar.TypeBlock:
		err = u.node(dir, base, syscall.S_IFBLK|mode, h)
	case tar.TypeFifo:
		err = u.node(dir, base, syscall.S_IFIFO|mode, h)
	default:
		return nil
	}
	if err == nil && u.owners {
		err = fchownat(dir, base, h.Uid, h.Gid, atNoFollow)
	}
	if err == nil {
		err = setTime(dir, base, h.ModTime.UnixNano(), atNoFollow)
	}
	return err
}

// replace makes an entry, in place of one that is there already.
func (u *unpacker) replace(dir int, name string, make func() error) error {
	err := make()
	if err == syscall.EEXIST {
		if err = unlinkat(dir, name, 0); err == nil {
			err = make()
		}
	}
	return err
}

func (u *unpacker) node(dir int, name string, mode uint32, h *tar.Header) error {
	err := u.replace(dir, name, func() error {
		return mknodat(dir, name, mode, device(h.Devmajor, h.Devminor))
	})
	if err == nil && mode&0o022 != 0 {
		err = fchmodat(dir, name, mode&0o7777)
	}
	return err
}

func (u *unpacker) hardLink(dir int, name, linkname string) error {
	target, ok := entryName(linkname)
	if !ok || target == "" {
		return errors.New("a link in the archive leads out of it")
	}
	above, base := "", target
	if at := strings.LastIndexByte(target, '/'); at >= 0 {
		above, base = target[:at], target[at+1:]
	}
	from := u.root
	if above != "" {
		var err error
		if from, err = openBelow(u.root, above, syscall.O_DIRECTORY|oPath); err != nil {
			return err
		}
		defer syscall.Close(from)
	}
	return u.replace(dir, name, func() error { return linkat(from, base, dir, name) })
}

func (u *unpacker) folder(dir int, base, name string, h *tar.Header) error {
	mode := uint32(h.Mode & 0o7777)
	if name != "" {
		// Its owner must be able to fill it.
		err := mkdirat(dir, base, 0o700)
		if err == syscall.EEXIST {
			var st syscall.Stat_t
			if err = fstatat(dir, base, &st, atNoFollow); err == nil && !isDir(st.Mode) {
				// A link to a folder inside stands for the folder, as /bin for /usr/bin.
				fd, e := openBelow(u.root, name, syscall.O_DIRECTORY|oPath)
				if e != nil {
					return syscall.ENOTDIR
				}
				syscall.Close(fd)
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
	if u.owners {
		if err := fchownat(dir, base, h.Uid, h.Gid, 0); err != nil {
			return err
		}
	}
	l := lateFolder{name, mode, h.ModTime.UnixNano()}
	if len(u.late) < maxLate {
		u.late = append(u.late, l)
		return nil
	}
	return u.apply(l)
}

// settle gives the folders their modes and times, the deepest first.
func (u *unpacker) settle() error {
	for i := len(u.late) - 1; i >= 0; i-- {
		if err := u.apply(u.late[i]); err != nil {
			return about(within(u.job.path, u.late[i].name), err)
		}
	}
	return nil
}

func (u *unpacker) apply(l lateFolder) error {
	fd := u.root
	if l.name != "" {
		var err error
		if fd, err = openBelow(u.root, l.name, syscall.O_RDONLY|syscall.O_DIRECTORY); err != nil {
			return err
		}
		defer syscall.Close(fd)
	}
	if err := syscall.Fchmod(fd, l.mode); err != nil {
		return err
	}
	return setTimeOf(fd, l.mtime)
}

// enter opens the folder of an entry, and makes it when the archive did not name it.
func (u *unpacker) enter(name string) (int, error) {
	if name == "" {
		return u.root, nil
	}
	if u.dir >= 0 && u.dirName == name {
		return u.dir, nil
	}
	fd, err := openBelow(u.root, name, syscall.O_RDONLY|syscall.O_DIRECTORY)
	if err == syscall.ENOENT {
		if err = u.makeFolders(name); err == nil {
			fd, err = openBelow(u.root, name, syscall.O_RDONLY|syscall.O_DIRECTORY)
		}
	}
	if err != nil {
		return -1, err
	}
	if u.dir >= 0 {
		syscall.Close(u.dir)
	}
	u.dir, u.dirName = fd, name
	return fd, nil
}

func (u *unpacker) makeFolders(name string) error {
	above, base := "", name
	if at := strings.LastIndexByte(name, '/'); at >= 0 {
		above, base = name[:at], name[at+1:]
	}
	dir, err := u.enter(above)
	if err != nil {
		return err
	}
	if err = mkdirat(dir, base, 0o755); err == syscall.EEXIST {
		err = nil
	}
	return err
}

func (u *unpacker) file(archive io.Reader, dir int, name string, h *tar.Header) error {
	mode := uint32(h.Mode & 0o7777)
	fd := -1
	err := u.replace(dir, name, func() (err error) {
		fd, err = openat(dir, name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW, mode&0o777)
		return err
	})
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := u.contents(archive, fd, h.Size); err != nil {
		return err
	}
	if u.owners {
		if err := syscall.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if mode&0o7022 != 0 { // what the umask took, and what a change of owner takes
		if err := syscall.Fchmod(fd, mode); err != nil {
			return err
		}
	}
	return setTimeOf(fd, h.ModTime.UnixNano())
}

func (u *unpacker) contents(archive io.Reader, fd int, size int64) error {
	if u.buffer == nil {
		u.buffer = make([]byte, 256<<10)
	}
	for {
		n, err := archive.Read(u.buffer)
		if n > 0 {
			if err := writeAll(fd, u.buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return archiveError(err)
		}
	}
}

func (u *unpacker) close() {
	if u.dir >= 0 {
		syscall.Close(u.dir)
	}
	syscall.Close(u.root)
}
