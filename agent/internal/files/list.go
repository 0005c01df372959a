package files

import (
	"strconv"
	"syscall"

	"sandlot/agent/internal/wire"
)

func itoa(n int) string { return strconv.Itoa(n) }

const batch = 32 << 10

// list sends what is in a folder, and with ListRecursive all that is below.
func (j *job) list(m *wire.FileList) error {
	fd, err := openat(atCwd, j.path, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	l := lister{job: j, recursive: m.Flags&wire.ListRecursive != 0}
	if err := l.folder(fd, ""); err != nil {
		return err
	}
	return j.send(l.out)
}

type lister struct {
	job       *job
	recursive bool
	out       []byte
}

func (l *lister) folder(dir int, below string) error {
	var folders []string
	err := names(dir, func(name string) error {
		var st syscall.Stat_t
		if err := fstatat(dir, name, &st, atNoFollow); err != nil {
			if err == syscall.ENOENT {
				return nil // gone meanwhile
			}
			return about(within(l.job.path, below+name), err)
		}
		target := ""
		if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			target, _ = readlinkat(dir, name)
		}
		l.out = append(l.out, wire.Encode(info(below+name, &st, target))...)
		if l.recursive && isDir(st.Mode) {
			folders = append(folders, name)
		}
		if len(l.out) < batch {
			return nil
		}
		err := l.job.send(l.out)
		l.out = l.out[:0]
		return err
	})
	if err != nil {
		return about(within(l.job.path, below), err)
	}
	for _, name := range folders {
		fd, err := openat(dir, name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if err == syscall.ENOENT || err == syscall.ENOTDIR || err == syscall.ELOOP {
			continue // gone, or something else meanwhile
		}
		if err != nil {
			return about(within(l.job.path, below+name), err)
		}
		err = l.folder(fd, below+name+"/")
		syscall.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
