package files

import (
	"strings"
	"syscall"

	"sandlot/agent/internal/wire"
)

const (
	packBuffer = 1 << 20
	maxLinks   = 1 << 18 // files with several names that are remembered; more are sent as copies
)

// packer writes an archive to the host.
type packer struct {
	job   *job
	out   []byte
	name  string // of the root in the archive
	plain bool   // leave out what is neither file nor folder nor link
	seen  map[inode]string
	layer *layer
}

type inode struct{ device, number uint64 }

func newPacker(j *job) *packer {
	return &packer{job: j, out: make([]byte, 0, packBuffer+8*record), seen: map[inode]string{}}
}

// get sends a file, or a folder with all below it, as an archive.
func (j *job) get(m *wire.TreeGet) error {
	begun := false
	err := as(j.user, func() error {
		var st syscall.Stat_t
		follow, flag := atNoFollow, syscall.O_NOFOLLOW
		if m.Flags&wire.GetFollow != 0 {
			follow, flag = 0, 0
		}
		if err := fstatat(atCwd, j.path, &st, follow); err != nil {
			return err
		}
		fd, err := -1, error(nil)
		if isDir(st.Mode) {
			if fd, err = openat(atCwd, j.path, syscall.O_RDONLY|syscall.O_DIRECTORY|flag, 0); err != nil {
				return err
			}
			defer syscall.Close(fd)
		}
		j.stream.Send(info(j.path, &st, ""), false)
		begun = true
		p := newPacker(j)
		p.name = string(m.Name)
		p.plain = m.Flags&wire.GetPlain != 0
		name := string(m.Name)
		if fd >= 0 {
			err = p.folder(fd, name, &st)
		} else {
			err = p.entry(atCwd, j.path, name, &st, flag)
		}
		if err != nil {
			return err
		}
		return p.end()
	})
	return j.ended(begun, err)
}

// ended finishes a stream of bytes. A failure on the way has no place in it, but the log of the
// archive: its last member, of a type that no archive has, carries the reason.
func (j *job) ended(begun bool, err error) error {
	if err == nil {
		j.stream.Fin()
		return nil
	}
	if !begun {
		return err
	}
	f := failed(about(j.path, err))
	e := entry{name: string(f.Path), kind: failureKind, size: int64(len(f.Text)), mtime: int64(f.Errno) * 1e9}
	out := e.append(nil)
	out = pad(append(out, f.Text...), len(f.Text))
	if err := j.send(out); err != nil {
		return err
	}
	j.stream.Fin()
	return nil
}

// failureKind is the type of the member that says why an archive ends early. Its name is the path,
// its contents the text, its time the error number.
const failureKind = 'F'

// folder sends a folder's own entry and all that is in it.
func (p *packer) folder(dir int, name string, st *syscall.Stat_t) error {
	e := p.describe(name+"/", st)
	if name == "" {
		e.name = "./"
	}
	if p.layer != nil {
		e.xattrs = xattrs(dir)
	}
	if name != "" || p.layer == nil {
		if err := p.header(&e); err != nil {
			return err
		}
	}
	prefix := name + "/"
	if name == "" {
		prefix = ""
	}
	return p.contents(dir, prefix)
}

// contents sends what is in a folder. Folders come after the files: their names are kept until the
// listing is over.
func (p *packer) contents(dir int, prefix string) error {
	var folders []string
	err := names(dir, func(name string) error {
		var st syscall.Stat_t
		if err := fstatat(dir, name, &st, atNoFollow); err != nil {
			if err == syscall.ENOENT {
				return nil // gone meanwhile
			}
			return about(p.shown(prefix+name), err)
		}
		if isDir(st.Mode) {
			folders = append(folders, name)
			return nil
		}
		return about(p.shown(prefix+name), p.entry(dir, name, prefix+name, &st, syscall.O_NOFOLLOW))
	})
	if err != nil {
		return about(p.shown(prefix), err)
	}
	for _, name := range folders {
		if err := p.child(dir, name, prefix+name); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) child(dir int, name, path string) error {
	fd, err := openat(dir, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err == syscall.ENOENT || err == syscall.ENOTDIR || err == syscall.ELOOP {
		return nil // gone, or something else meanwhile
	}
	if err != nil {
		return about(p.shown(path), err)
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := fstatat(fd, "", &st, atEmptyPath); err != nil {
		return about(p.shown(path), err)
	}
	if p.layer != nil {
		return p.layerFolder(fd, path, &st)
	}
	return p.folder(fd, path, &st)
}

func (p *packer) shown(path string) string {
	if p.layer != nil {
		return "/" + path
	}
	return within(p.job.path, strings.Trim(strings.TrimPrefix(path, p.name), "/"))
}

func (p *packer) describe(name string, st *syscall.Stat_t) entry {
	return entry{
		name: name, kind: kindOf(st.Mode), mode: st.Mode & 0o7777, uid: st.Uid, gid: st.Gid, mtime: mtime(st),
	}
}

// entry sends what is no folder.
func (p *packer) entry(dir int, name, path string, st *syscall.Stat_t, flag int) error {
	e := p.describe(path, st)
	switch e.kind {
	case typeFile:
	case typeSym:
		target, err := readlinkat(dir, name)
		if err == syscall.ENOENT || err == syscall.EINVAL {
			return nil
		} else if err != nil {
			return err
		}
		e.target = target
	case typeChar, typeBlock, typeFifo:
		if p.layer != nil && p.layer.whiteout(p, e.kind, path, st) {
			return nil
		}
		if p.plain {
			return nil
		}
		e.device = uint64(st.Rdev)
	default:
		return nil
	}
	if st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.seen[id]; ok {
			e.kind, e.target = typeLink, first
			return p.header(&e)
		}
		if len(p.seen) < maxLinks {
			p.seen[id] = path
		}
	}
	if e.kind != typeFile {
		return p.header(&e)
	}
	return p.file(dir, name, &e, flag)
}

// file sends a regular file. It may have changed since it was listed: what was opened counts.
func (p *packer) file(dir int, name string, e *entry, flag int) error {
	fd, st, err := openRegular(dir, name, flag)
	if err == syscall.ENOENT || err == syscall.ELOOP || err == syscall.EISDIR || err == syscall.EINVAL {
		return nil // gone, or something else meanwhile
	}
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	opened := p.describe(e.name, &st)
	opened.size = st.Size
	if p.layer != nil {
		opened.xattrs = xattrs(fd)
	}
	if err := p.header(&opened); err != nil {
		return err
	}
	left := st.Size
	for left > 0 {
		if err := p.room(record); err != nil {
			return err
		}
		want := min(left, int64(packBuffer-len(p.out)))
		n, err := read(fd, p.out[len(p.out):len(p.out)+int(want)])
		if err != nil {
			return err
		}
		if n == 0 { // it shrank: the header has promised more
			n = copy(p.out[len(p.out):len(p.out)+int(want)], zeros[:])
		}
		p.out = p.out[:len(p.out)+n]
		left -= int64(n)
	}
	p.out = pad(p.out, int(st.Size&(record-1)))
	return nil
}

func (p *packer) header(e *entry) error {
	if err := p.room(3 * record); err != nil {
		return err
	}
	p.out = e.append(p.out)
	return nil
}

// room sends what has gathered when the buffer has less than size left.
func (p *packer) room(size int) error {
	if len(p.out)+size <= packBuffer {
		return nil
	}
	err := p.job.send(p.out)
	p.out = p.out[:0]
	return err
}

func (p *packer) end() error {
	p.out = append(p.out, zeros[:2*record]...)
	return p.job.send(p.out)
}
