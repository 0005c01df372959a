package files

import (
	"io"
	"syscall"
	"unsafe"
)

// Large contents go past the page cache: an emulated machine needs ten times the work for a page
// that is written through it, and three times for one that is read. Memory for it must be aligned;
// large allocations of the Go runtime are.
const (
	directFrom = 4 << 20 // bytes of a file from which on it is worth it
	alignment  = 4096
	segment    = 8 << 20 // is looked at for what is in the page cache already
)

// setDirect switches a descriptor to O_DIRECT and back; false when its file system has none.
func setDirect(fd int, on bool) bool {
	flags, err := call(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0, 0, 0)
	if err != nil {
		return false
	}
	if on {
		flags |= syscall.O_DIRECT
	} else {
		flags &^= syscall.O_DIRECT
	}
	_, err = call(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFL, flags, 0, 0)
	return err == nil
}

// sink writes to a descriptor, directly as long as whole blocks come at a block's place.
type sink struct {
	fd     int
	offset int64
	tried  bool
	direct bool
}

// write writes some of p and says how much that was. more says that p is not the end.
func (s *sink) write(p []byte, more bool) (int, error) {
	whole := len(p) &^ (alignment - 1)
	fits := s.offset%alignment == 0 && uintptr(unsafe.Pointer(&p[0]))%alignment == 0 && whole > 0
	if !s.tried && more && fits && whole >= piece/2 {
		s.tried = true
		s.direct = setDirect(s.fd, true)
	}
	if s.direct {
		if fits {
			n, err := call(syscall.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(whole), 0, 0)
			s.offset += int64(n)
			if err == nil && n > 0 {
				return int(n), nil
			}
			if err != syscall.EINVAL {
				return 0, err
			}
		}
		// The rest, or a file system that does not want it after all.
		s.direct = !setDirect(s.fd, false)
	}
	err := writeAll(s.fd, p)
	s.offset += int64(len(p))
	return len(p), err
}

// resident says whether most of a range of a file is in the page cache.
func resident(fd int, offset, size int64) bool {
	const protRead, mapShared = 1, 1
	address, err := mmap(fd, offset, size, protRead, mapShared)
	if err != nil {
		return true
	}
	defer syscall.Syscall(syscall.SYS_MUNMAP, address, uintptr(size), 0)
	pages := make([]byte, (size+alignment-1)/alignment)
	if _, err := call(syscall.SYS_MINCORE, address, uintptr(size), uintptr(unsafe.Pointer(&pages[0])), 0, 0); err != nil {
		return true
	}
	there := 0
	for _, p := range pages {
		there += int(p & 1)
	}
	return there*2 >= len(pages)
}

func mmap(fd int, offset, size int64, protection, flags uintptr) (uintptr, error) {
	address, _, errno := syscall.Syscall6(syscall.SYS_MMAP, 0, uintptr(size), protection, flags, uintptr(fd), uintptr(offset))
	if errno != 0 {
		return 0, errno
	}
	return address, nil
}

// A chunk is a piece of a file on its way from its reader to the stream.
type chunk struct {
	data []byte
	err  error
}

// sendLarge sends up to left bytes from offset on. One goroutine reads while the other sends.
func (j *job) sendLarge(fd int, offset, left int64) error {
	free := make(chan []byte, 3)
	full := make(chan chunk, 3)
	stop := make(chan struct{})
	for range cap(free) {
		free <- make([]byte, piece)
	}
	go func() {
		defer close(full)
		readLarge(fd, offset, left, free, full, stop)
	}()
	var err error
	for c := range full {
		if err == nil {
			err = c.err
		}
		if err == nil {
			err = j.send(c.data)
		}
		if err != nil {
			select {
			case <-stop:
			default:
				close(stop)
			}
			continue
		}
		free <- c.data[:piece]
	}
	return err
}

func readLarge(fd int, offset, left int64, free chan []byte, full chan chunk, stop chan struct{}) {
	direct, until := false, offset
	for left > 0 {
		var buffer []byte
		select {
		case buffer = <-free:
		case <-stop:
			return
		}
		if offset >= until {
			until = offset + segment
			want := offset%alignment == 0 && left >= directFrom && !resident(fd, offset, min(segment, left))
			if want != direct && setDirect(fd, want) {
				direct = want
			}
		}
		if direct && left < piece {
			setDirect(fd, false)
			direct = false
		}
		n, err := read(fd, buffer[:min(left, piece)])
		if direct && (err == syscall.EINVAL || err == nil && n%alignment != 0) {
			// The file's end, or a file system that does not want it after all.
			setDirect(fd, false)
			direct, until = false, 1<<62
			if err != nil {
				free <- buffer
				continue
			}
		}
		if err == nil && n == 0 {
			return
		}
		full <- chunk{buffer[:n], err}
		if err != nil {
			return
		}
		offset, left = offset+int64(n), left-int64(n)
	}
}

// receive writes what the host sends to a file.
func (j *job) receive(t *target) error {
	s := sink{fd: t.fd, tried: t.temp == ""} // an old file may end anywhere, or be a device
	for {
		front, err := j.in.next(piece)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := s.write(front, len(front) >= piece)
		if err != nil {
			return err
		}
		j.in.drop(n)
	}
}
