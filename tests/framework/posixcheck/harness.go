package main

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// A check is a row of the table: its name, what its function must end with, and the function. It
// runs in an empty folder of its own, as root, with umask 0, on a thread that has its own working
// folder and credentials.
type check struct {
	name string
	want outcome
	run  func(t *T) error
}

// An outcome lists the errors that are right; none: success.
type outcome []syscall.Errno

var ok outcome

func is(errnos ...syscall.Errno) outcome { return errnos }

func (o outcome) allows(err error) bool {
	if len(o) == 0 {
		return err == nil
	}
	for _, each := range o {
		if err == each {
			return true
		}
	}
	return false
}

func (o outcome) String() string {
	if len(o) == 0 {
		return "success"
	}
	names := []string{}
	for _, each := range o {
		names = append(names, said(each))
	}
	return strings.Join(names, " or ")
}

// failure is what a check panics with.
type failure string

// T is what a check has.
type T struct {
	base  string // where all checks have their folders
	dir   string
	fds   []int
	peers []*peer
	maps  [][]byte
}

func (t *T) fail(format string, arguments ...any) { panic(failure(fmt.Sprintf(format, arguments...))) }

// must ends the check when a step that it rests on failed.
func (t *T) must(what string, err error) {
	if err != nil {
		t.fail("%s: %s", what, said(err))
	}
}

// refused: this step, in the middle of a check, must fail so.
func (t *T) refused(what string, err error, right ...syscall.Errno) {
	if !outcome(right).allows(err) || err == nil {
		t.fail("%s: %s, not %s", what, said(err), outcome(right))
	}
}

func (t *T) equal(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.fail("%s: %s, not %s", what, short(got), short(want))
	}
}

func (t *T) yes(what string, fact bool) {
	if !fact {
		t.fail("%s", what)
	}
}

func short(value any) string {
	text := fmt.Sprintf("%v", value)
	if _, isText := value.(string); isText {
		text = fmt.Sprintf("%q", value)
	}
	if len(text) > 120 {
		text = fmt.Sprintf("%s... (%d characters)", text[:100], len(text))
	}
	return text
}

// said names an error as the manual does.
func said(err error) string {
	if err == nil {
		return "success"
	}
	if errno, is := err.(syscall.Errno); is {
		if name, known := errnoNames[errno]; known {
			return name
		}
		return fmt.Sprintf("errno %d", int(errno))
	}
	return err.Error()
}

var errnoNames = map[syscall.Errno]string{
	syscall.EPERM: "EPERM", syscall.ENOENT: "ENOENT", syscall.EINTR: "EINTR", syscall.EIO: "EIO",
	syscall.ENXIO: "ENXIO", syscall.EBADF: "EBADF", syscall.EAGAIN: "EAGAIN",
	syscall.ENOMEM: "ENOMEM", syscall.EACCES: "EACCES", syscall.EFAULT: "EFAULT",
	syscall.EBUSY: "EBUSY", syscall.EEXIST: "EEXIST", syscall.EXDEV: "EXDEV",
	syscall.ENODEV: "ENODEV", syscall.ENOTDIR: "ENOTDIR", syscall.EISDIR: "EISDIR",
	syscall.EINVAL: "EINVAL", syscall.ENFILE: "ENFILE", syscall.EMFILE: "EMFILE",
	syscall.ENOTTY: "ENOTTY", syscall.ETXTBSY: "ETXTBSY", syscall.EFBIG: "EFBIG",
	syscall.ENOSPC: "ENOSPC", syscall.ESPIPE: "ESPIPE", syscall.EROFS: "EROFS",
	syscall.EMLINK: "EMLINK", syscall.EPIPE: "EPIPE", syscall.ERANGE: "ERANGE",
	syscall.EDEADLK: "EDEADLK", syscall.ENAMETOOLONG: "ENAMETOOLONG", syscall.ENOLCK: "ENOLCK",
	syscall.ENOSYS: "ENOSYS", syscall.ENOTEMPTY: "ENOTEMPTY", syscall.ELOOP: "ELOOP",
	syscall.ENODATA: "ENODATA", syscall.EOVERFLOW: "EOVERFLOW", syscall.EOPNOTSUPP: "EOPNOTSUPP",
	syscall.ESTALE: "ESTALE", syscall.EDQUOT: "EDQUOT", syscall.E2BIG: "E2BIG",
	syscall.ENOTCONN: "ENOTCONN", syscall.ECONNREFUSED: "ECONNREFUSED",
	syscall.ECONNABORTED: "ECONNABORTED", syscall.EADDRINUSE: "EADDRINUSE",
}

// alone runs a function on a thread that ends with it and that has a working folder, a umask and
// credentials of its own. What the function panics with comes out here.
func alone(folder string, before func(), function func() error) error {
	type result struct {
		err     error
		paniced any
	}
	done := make(chan result, 1)
	descriptor := -1
	if folder == "" { // the caller's
		var err error
		if descriptor, err = syscall.Open(".", syscall.O_RDONLY|syscall.O_DIRECTORY, 0); err != nil {
			return err
		}
		defer syscall.Close(descriptor)
	}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		debug.SetPanicOnFault(true)
		var r result
		defer func() {
			r.paniced = recover()
			done <- r
		}()
		_, _, errno := syscall.RawSyscall(syscall.SYS_UNSHARE, syscall.CLONE_FS, 0, 0)
		if errno != 0 {
			panic(failure("unshare: " + said(errno)))
		}
		syscall.Umask(0)
		var err error
		if descriptor >= 0 {
			err = syscall.Fchdir(descriptor)
		} else {
			err = syscall.Chdir(folder)
		}
		if err != nil {
			panic(failure("chdir: " + said(err)))
		}
		before()
		r.err = function()
	}()
	select {
	case r := <-done:
		if r.paniced != nil {
			panic(r.paniced)
		}
		return r.err
	case <-time.After(patience):
		panic(failure(fmt.Sprintf("no answer within %v", patience)))
	}
}

const patience = 60 * time.Second

// as runs a function as another user, with these groups, the first of them the primary one.
func (t *T) as(uid int, groups []int, function func() error) error {
	return alone("", func() {
		list := make([]uint32, len(groups))
		for i, gid := range groups {
			list[i] = uint32(gid)
		}
		gid := uintptr(list[0])
		calls := [][4]uintptr{
			{syscall.SYS_SETGROUPS, uintptr(len(list)), uintptr(unsafe.Pointer(&list[0])), 0},
			{syscall.SYS_SETRESGID, gid, gid, gid},
			{syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)},
		}
		for _, each := range calls {
			if _, _, errno := syscall.RawSyscall(each[0], each[1], each[2], each[3]); errno != 0 {
				panic(failure("setuid: " + said(errno)))
			}
		}
		runtime.KeepAlive(list)
	}, function)
}

const nobody, other = 65534, 1234

func (t *T) asNobody(function func() error) error { return t.as(nobody, []int{nobody}, function) }

// file makes one with these contents, mode 0644.
func (t *T) file(path, contents string) {
	fd := t.open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL, 0o644)
	t.write(fd, contents)
	t.close(fd)
}

// empty makes an empty file with fewer calls than file, for checks with many of them.
func (t *T) empty(path string) {
	t.must("mknod "+path, syscall.Mknod(path, syscall.S_IFREG|0o644, 0))
}

func (t *T) mkdir(path string, mode uint32) {
	t.must("mkdir "+path, syscall.Mkdir(path, mode))
	t.must("chmod "+path, syscall.Chmod(path, mode)) // with the bits that mkdir leaves out
}

// open keeps the descriptor until the end of the check.
func (t *T) open(path string, flags int, mode uint32) int {
	fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, mode)
	t.must("open "+path, err)
	t.fds = append(t.fds, fd)
	return fd
}

// opens says how an open ends, and closes what it opened.
func opens(path string, flags int) error {
	fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0o644)
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

func (t *T) close(fd int) {
	for i, each := range t.fds {
		if each == fd {
			t.fds = append(t.fds[:i], t.fds[i+1:]...)
			t.must("close", syscall.Close(fd))
			return
		}
	}
	t.fail("descriptor %d is not open", fd)
}

func (t *T) write(fd int, contents string) {
	for rest := []byte(contents); len(rest) > 0; {
		n, err := syscall.Write(fd, rest)
		t.must("write", err)
		rest = rest[n:]
	}
}

func (t *T) pwrite(fd int, contents string, offset int64) {
	n, err := syscall.Pwrite(fd, []byte(contents), offset)
	t.must("pwrite", err)
	t.equal("bytes written", n, len(contents))
}

// pread reads up to so many bytes.
func (t *T) pread(fd int, size int, offset int64) string {
	buffer := make([]byte, size)
	got := 0
	for got < size {
		n, err := syscall.Pread(fd, buffer[got:], offset+int64(got))
		t.must("pread", err)
		if n == 0 {
			break
		}
		got += n
	}
	return string(buffer[:got])
}

func (t *T) contents(path string) string {
	fd := t.open(path, syscall.O_RDONLY, 0)
	defer t.close(fd)
	var all bytes.Buffer
	buffer := make([]byte, 1<<16)
	for {
		n, err := syscall.Read(fd, buffer)
		t.must("read "+path, err)
		if n == 0 {
			return all.String()
		}
		all.Write(buffer[:n])
	}
}

// stat does not follow a symbolic link.
func (t *T) stat(path string) *syscall.Stat_t {
	st := &syscall.Stat_t{}
	t.must("lstat "+path, syscall.Lstat(path, st))
	return st
}

func (t *T) fstat(fd int) *syscall.Stat_t {
	st := &syscall.Stat_t{}
	t.must("fstat", syscall.Fstat(fd, st))
	return st
}

func exists(path string) error {
	st := &syscall.Stat_t{}
	return syscall.Lstat(path, st)
}

func (t *T) mode(path string) string { return octal(t.stat(path).Mode & 0o7777) }

func octal(mode uint32) string { return fmt.Sprintf("%#o", mode) }

// names lists a folder, sorted, without . and ..
func (t *T) names(path string) []string {
	names := []string{}
	for _, each := range t.entries(t.open(path, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)) {
		if each.name != "." && each.name != ".." {
			names = append(names, each.name)
		}
	}
	sort.Strings(names)
	return names
}

type entry struct {
	name   string
	kind   byte
	inode  uint64
	offset int64
}

// some reads one buffer of a folder's entries, from where the descriptor stands.
func (t *T) some(fd int, size int) []entry {
	buffer := make([]byte, size)
	n, err := syscall.ReadDirent(fd, buffer)
	t.must("getdents", err)
	found := []entry{}
	for rest := buffer[:n]; len(rest) > 0; {
		raw := (*syscall.Dirent)(unsafe.Pointer(&rest[0]))
		name := rest[unsafe.Offsetof(raw.Name):raw.Reclen]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		found = append(found, entry{string(name), raw.Type, raw.Ino, raw.Off})
		rest = rest[raw.Reclen:]
	}
	return found
}

func (t *T) entries(fd int) []entry {
	all := []entry{}
	for {
		found := t.some(fd, 32768)
		if len(found) == 0 {
			return all
		}
		all = append(all, found...)
	}
}

// clock is a file whose ctime is the time of the file system, once it was asked for.
var clock = -1

// tick returns when the file system's clock has moved on, as its own new times show.
func (t *T) tick() {
	if clock < 0 {
		fd, err := syscall.Open(t.base+"/clock", wronly|creat|syscall.O_CLOEXEC, 0o644)
		t.must("clock", err)
		clock = fd
	}
	read := func() int64 {
		t.must("clock", syscall.Fchmod(clock, 0o600))
		return nanoseconds(t.fstat(clock).Ctim)
	}
	began, deadline := read(), time.Now().Add(patience)
	for read() <= began {
		if time.Now().After(deadline) {
			t.fail("the clock of the file system stands still")
		}
		time.Sleep(time.Millisecond)
	}
}

func nanoseconds(ts syscall.Timespec) int64 { return ts.Sec*1e9 + int64(ts.Nsec) }

// end closes what a check left open. After one that went wrong, nothing is waited for.
func (t *T) end(well bool) {
	for _, each := range t.maps {
		syscall.Munmap(each)
	}
	for _, fd := range t.fds {
		syscall.Close(fd)
	}
	for _, each := range t.peers {
		each.release(well)
	}
}
