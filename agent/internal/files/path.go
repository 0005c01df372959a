package files

import (
	"errors"
	"path"
	"strings"
	"syscall"
	"unicode/utf8"

	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// pathError is a failure with the path that it is about.
type pathError struct {
	path  string
	cause error
}

func (e *pathError) Error() string { return e.path + ": " + e.cause.Error() }
func (e *pathError) Unwrap() error { return e.cause }

// about names the path of an error, unless a more exact one is named already.
func about(p string, err error) error {
	var known *pathError
	if err == nil || err == mux.ErrDead || errors.As(err, &known) {
		return err
	}
	return &pathError{p, err}
}

// failed is an error in the words of FAILED.
func failed(err error) *wire.Failed {
	f := &wire.Failed{Code: "file", Text: err.Error()}
	var at *pathError
	if errors.As(err, &at) {
		f.Path, f.Text = []byte(at.path), at.cause.Error()
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno = uint64(errno)
	}
	if len(f.Path) > 8192 {
		f.Path = f.Path[:8192]
	}
	if len(f.Text) > 1024 || !utf8.ValidString(f.Text) {
		f.Text = strings.ToValidUTF8(f.Text[:min(len(f.Text), 1024)], "\uFFFD")
	}
	return f
}

// absolute is the path that is meant. Nothing is resolved: `..` after a link must go where the
// link's folder is.
func absolute(cwd, p []byte) (string, error) {
	if len(p) == 0 {
		return "", syscall.ENOENT
	}
	if p[0] == '/' {
		return string(p), nil
	}
	return strings.TrimRight(string(cwd), "/") + "/" + string(p), nil
}

// split is a path's folder and last name; the name is never empty.
func split(p string) (dir, name string) {
	p = strings.TrimRight(p, "/")
	if p == "" {
		return "/", "."
	}
	at := strings.LastIndexByte(p, '/')
	if dir = p[:at+1]; dir == "" {
		dir = "."
	}
	return dir, p[at+1:]
}

// within joins the names of entries below a root for people.
func within(root, below string) string {
	if below == "" {
		return root
	}
	return strings.TrimRight(root, "/") + "/" + below
}

// makeParents makes the folders above a path that are missing.
func makeParents(p string) error {
	dir, _ := split(p)
	return makeAll(dir, 0o755)
}

func makeAll(dir string, mode uint32) error {
	err := mkdirat(atCwd, dir, mode)
	switch err {
	case nil:
		return nil
	case syscall.EEXIST:
		var st syscall.Stat_t
		if e := fstatat(atCwd, dir, &st, 0); e != nil {
			return about(dir, e)
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			return about(dir, syscall.ENOTDIR)
		}
		return nil
	case syscall.ENOENT:
		above, _ := split(dir)
		if above == dir || path.Clean(dir) == "/" {
			return about(dir, err)
		}
		if err := makeAll(above, 0o755); err != nil {
			return err
		}
		if err = mkdirat(atCwd, dir, mode); err == syscall.EEXIST {
			err = nil
		}
	}
	return about(dir, err)
}

// finalPath follows the last name's links, so that a file can be replaced where it really lies.
func finalPath(p string) (string, error) {
	for range 40 {
		target, err := readlinkat(atCwd, p)
		if err == syscall.EINVAL || err == syscall.ENOENT {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		if !strings.HasPrefix(target, "/") {
			dir, _ := split(p)
			target = within(dir, target)
		}
		p = target
	}
	return p, syscall.ELOOP
}

func isDir(mode uint32) bool { return mode&syscall.S_IFMT == syscall.S_IFDIR }

func isRegular(mode uint32) bool { return mode&syscall.S_IFMT == syscall.S_IFREG }

// info is a file's description.
func info(p string, st *syscall.Stat_t, target string) *wire.FileInfo {
	return &wire.FileInfo{
		Path: []byte(p), Mode: uint64(st.Mode), Size: uint64(st.Size), UID: uint64(st.Uid), GID: uint64(st.Gid),
		MtimeNs: uint64(mtime(st)), Target: []byte(target), Links: uint64(st.Nlink),
	}
}
