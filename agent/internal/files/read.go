package files

import (
	"syscall"

	"sandlot/agent/internal/wire"
)

const piece = 1 << 20

// openRegular opens a regular file for reading; a pipe or a device could make the agent wait.
func openRegular(dir int, name string, flags int) (int, syscall.Stat_t, error) {
	var st syscall.Stat_t
	fd, err := openat(dir, name, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|flags, 0)
	if err != nil {
		return -1, st, err
	}
	if err := fstatat(fd, "", &st, atEmptyPath); err != nil {
		syscall.Close(fd)
		return -1, st, err
	}
	switch {
	case isDir(st.Mode):
		syscall.Close(fd)
		return -1, st, syscall.EISDIR
	case !isRegular(st.Mode):
		syscall.Close(fd)
		return -1, st, syscall.EINVAL
	}
	return fd, st, nil
}

// read sends a file's description, then its bytes.
func (j *job) read(m *wire.FileRead) error {
	fd := -1
	var st syscall.Stat_t
	err := as(j.user, func() (err error) {
		fd, st, err = openRegular(atCwd, j.path, 0)
		return err
	})
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if m.Offset > 0 {
		if _, err := syscall.Seek(fd, int64(m.Offset), 0); err != nil {
			return err
		}
	}
	j.stream.Send(info(j.path, &st, ""), false)
	left := int64(1 << 62)
	if m.Length > 0 && m.Length < 1<<62 {
		left = int64(m.Length)
	}
	send := j.sendFile
	if min(left, st.Size-int64(m.Offset)) >= directFrom {
		send = func(fd int, left int64) error { return j.sendLarge(fd, int64(m.Offset), left) }
	}
	if err := send(fd, left); err != nil {
		j.stream.Reset() // its reason has no place among the bytes
		return nil
	}
	j.stream.Fin()
	return nil
}

// sendFile sends up to left bytes of a file.
func (j *job) sendFile(fd int, left int64) error {
	buffer := make([]byte, min(left, piece))
	for left > 0 {
		n, err := read(fd, buffer[:min(left, int64(len(buffer)))])
		if err != nil || n == 0 {
			return err
		}
		if err := j.send(buffer[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}
