package files

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"sandlot/agent/internal/wire"
)

const (
	watched = syscall.IN_CREATE | syscall.IN_MODIFY | syscall.IN_DELETE | syscall.IN_MOVED_FROM |
		syscall.IN_MOVED_TO | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_ONLYDIR
	watchedFile = syscall.IN_MODIFY | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF
	eventHead   = syscall.SizeofInotifyEvent
	halfMove    = 50 * time.Millisecond
)

// watcher reports what changes in a folder, or to a file. Paths are relative to what is watched.
type watcher struct {
	job       *job
	file      *os.File
	fd        int
	recursive bool
	folders   map[int32]string // watch descriptor -> path below the root with a slash, or ""
	gone      bool

	// A move is two events: the first waits for its other half.
	from       string
	fromCookie uint32
	fromFolder bool
	last       wire.FileEvent // a run of equal modifications is told once per read
}

func (j *job) watch(m *wire.FileWatch) error {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return err
	}
	w := &watcher{job: j, fd: fd, file: os.NewFile(uintptr(fd), "inotify"), recursive: m.Flags&wire.WatchRecursive != 0, folders: map[int32]string{}}
	defer w.file.Close()
	err = as(j.user, func() error {
		var st syscall.Stat_t
		if err := fstatat(atCwd, j.path, &st, 0); err != nil {
			return err
		}
		if !isDir(st.Mode) {
			id, err := syscall.InotifyAddWatch(fd, j.path, watchedFile)
			w.folders[int32(id)] = ""
			return err
		}
		return w.add("", false)
	})
	if err != nil {
		return err
	}
	j.stream.Send(&wire.OK{}, false)
	go func() {
		// The host's end, or its reset, ends the watch.
		for {
			if front, err := j.in.next(1); err != nil {
				break
			} else {
				j.in.drop(len(front))
			}
		}
		w.file.Close()
	}()
	buffer := make([]byte, 64<<10)
	for !w.gone {
		n, err := w.file.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.file.SetReadDeadline(time.Time{})
			if err := as(j.user, w.movedAway); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			break
		}
		if err := as(j.user, func() error { return w.events(buffer[:n]) }); err != nil {
			return err
		}
	}
	j.stream.Fin()
	return nil
}

// add watches a folder, and with recursive those below. tell reports what is in it already: it was
// made before anybody watched.
func (w *watcher) add(below string, tell bool) error {
	id, err := syscall.InotifyAddWatch(w.fd, w.job.path+"/"+below, watched)
	if err != nil {
		return about(within(w.job.path, below), err)
	}
	w.folders[int32(id)] = below
	if !w.recursive && !tell {
		return nil
	}
	fd, err := openat(atCwd, w.job.path+"/"+below, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if below == "" && err == syscall.ELOOP {
		fd, err = openat(atCwd, w.job.path+"/.", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	}
	if err != nil {
		return about(within(w.job.path, below), err)
	}
	defer syscall.Close(fd)
	return names(fd, func(name string) error {
		var st syscall.Stat_t
		if fstatat(fd, name, &st, atNoFollow) != nil {
			return nil
		}
		if tell {
			if err := w.tell(wire.EventCreate, below+name, "", isDir(st.Mode)); err != nil {
				return err
			}
		}
		if w.recursive && isDir(st.Mode) {
			return w.below(below+name+"/", tell)
		}
		return nil
	})
}

// below watches a folder that may be gone again, or that may not be read.
func (w *watcher) below(path string, tell bool) error {
	err := w.add(path, tell)
	switch cause(err) {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES, syscall.ELOOP:
		return nil
	}
	return err
}

func cause(err error) error {
	if at, ok := err.(*pathError); ok {
		return at.cause
	}
	return err
}

func (w *watcher) events(data []byte) error {
	w.last = wire.FileEvent{}
	for len(data) >= eventHead {
		e := (*syscall.InotifyEvent)(unsafe.Pointer(&data[0]))
		name := data[eventHead : eventHead+int(e.Len)]
		data = data[eventHead+int(e.Len):]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if err := w.event(e, string(name)); err != nil {
			return err
		}
	}
	if w.from != "" {
		// The other half of a move comes right behind the first, but not always in one piece.
		w.file.SetReadDeadline(time.Now().Add(halfMove))
	}
	return nil
}

func (w *watcher) event(e *syscall.InotifyEvent, name string) error {
	folder := e.Mask&syscall.IN_ISDIR != 0
	if w.from != "" && (e.Mask&syscall.IN_MOVED_TO == 0 || e.Cookie != w.fromCookie) {
		if err := w.movedAway(); err != nil {
			return err
		}
	}
	if e.Mask&syscall.IN_Q_OVERFLOW != 0 {
		return w.tell(wire.EventLost, "", "", false)
	}
	below, known := w.folders[e.Wd]
	if !known {
		return nil
	}
	path := below + name
	switch {
	case e.Mask&syscall.IN_IGNORED != 0:
		delete(w.folders, e.Wd)
		w.gone = w.gone || len(w.folders) == 0
	case e.Mask&(syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF) != 0:
		if below == "" {
			w.gone = true
			return w.tell(wire.EventDelete, "", "", folder)
		}
	case e.Mask&syscall.IN_CREATE != 0:
		if err := w.tell(wire.EventCreate, path, "", folder); err != nil {
			return err
		}
		if folder && w.recursive {
			return w.below(path+"/", true)
		}
	case e.Mask&syscall.IN_MODIFY != 0:
		return w.tell(wire.EventModify, path, "", false)
	case e.Mask&syscall.IN_DELETE != 0:
		return w.tell(wire.EventDelete, path, "", folder)
	case e.Mask&syscall.IN_MOVED_FROM != 0:
		w.from, w.fromCookie, w.fromFolder = path, e.Cookie, folder
	case e.Mask&syscall.IN_MOVED_TO != 0:
		from := w.from
		w.from = ""
		if from != "" {
			if folder {
				w.moveFolders(from+"/", path+"/")
			}
			return w.tell(wire.EventMove, from, path, folder)
		}
		if err := w.tell(wire.EventCreate, path, "", folder); err != nil {
			return err
		}
		if folder && w.recursive {
			return w.below(path+"/", true)
		}
	}
	return nil
}

// movedAway reports a file that was moved to where nobody watches.
func (w *watcher) movedAway() error {
	if w.from == "" {
		return nil
	}
	from := w.from
	w.from = ""
	if w.fromFolder {
		for id, path := range w.folders {
			if strings.HasPrefix(path, from+"/") {
				syscall.InotifyRmWatch(w.fd, uint32(id))
				delete(w.folders, id)
			}
		}
	}
	return w.tell(wire.EventDelete, from, "", w.fromFolder)
}

func (w *watcher) moveFolders(from, to string) {
	for id, path := range w.folders {
		if strings.HasPrefix(path, from) {
			w.folders[id] = to + path[len(from):]
		}
	}
}

func (w *watcher) tell(kind uint64, path, target string, folder bool) error {
	e := wire.FileEvent{Type: kind, Path: []byte(path), Target: []byte(target)}
	if folder {
		e.Flags = wire.EventFolder
	}
	if kind == wire.EventModify && w.last.Type == kind && string(w.last.Path) == path {
		return nil
	}
	w.last = e
	return w.job.send(wire.Encode(&e))
}
