package main

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"
)

func vector(call uintptr, fd int, buffers ...[]byte) (int, error) {
	vectors := make([]syscall.Iovec, len(buffers))
	for i, each := range buffers {
		vectors[i].Base = &each[0]
		vectors[i].SetLen(len(each))
	}
	n, _, errno := syscall.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&vectors[0])), uintptr(len(vectors)))
	return int(n), result(errno)
}

func executed(path string) error { return exec.Command(path, "list").Run() }

// running starts a copy of this program, and returns when it runs, with a function that ends it.
func running(t *T, path string) func() {
	program := exec.Command(path, "peer")
	in, err := program.StdinPipe()
	t.must("pipe", err)
	out, err := program.StdoutPipe()
	t.must("pipe", err)
	t.must("start", program.Start())
	fmt.Fprintln(in, "open 0 missing")
	_, err = out.Read(make([]byte, 20))
	t.must("its answer", err)
	return func() {
		in.Close()
		program.Wait()
	}
}

func fallocateRow(name string, mode uint32, offset, size int64, want string) check {
	return check{name, ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 12288))
		t.must("fallocate", syscall.Fallocate(t.open("f", rdwr, 0), mode, offset, size))
		t.equal("runs of bytes", runs(t.contents("f")), want)
		return nil
	}}
}

// runs says what a text is made of: x4096 .4096 and so on, a dot for zeros.
func runs(text string) string {
	said := []string{}
	for rest := text; rest != ""; {
		length := len(rest) - len(strings.TrimLeft(rest, rest[:1]))
		said = append(said, fmt.Sprint(strings.ReplaceAll(rest[:1], "\x00", "."), length))
		rest = rest[length:]
	}
	return strings.Join(said, " ")
}

const punch = fallocPunchHole | fallocKeepSize

var fallocateChecks = []check{
	fallocateRow("longer", 0, 12288, 4096, "x12288 .4096"),
	fallocateRow("within", 0, 0, 4096, "x12288"),
	fallocateRow("across the end", 0, 12000, 1000, "x12288 .712"),
	fallocateRow("beyond the end", 0, 20000, 480, "x12288 .8192"),
	fallocateRow("keep size beyond the end", fallocKeepSize, 12288, 4096, "x12288"),
	fallocateRow("punch a page", punch, 4096, 4096, "x4096 .4096 x4096"),
	fallocateRow("punch less than a page", punch, 5000, 100, "x5000 .100 x7188"),
	fallocateRow("punch across pages", punch, 4000, 5000, "x4000 .5000 x3288"),
	fallocateRow("punch at the front", punch, 0, 100, ".100 x12188"),
	fallocateRow("punch across the end", punch, 12000, 9000, "x12000 .288"),
	fallocateRow("punch beyond the end", punch, 20000, 100, "x12288"),
	fallocateRow("punch everything", punch, 0, 12288, ".12288"),
	fallocateRow("zero a page", fallocZeroRange, 4096, 4096, "x4096 .4096 x4096"),
	fallocateRow("zero less than a page", fallocZeroRange, 100, 50, "x100 .50 x12138"),
	fallocateRow("zero across the end", fallocZeroRange, 12000, 1000, "x12000 .1000"),
	fallocateRow("zero across the end, keep size", fallocZeroRange|fallocKeepSize, 12000, 1000, "x12000 .288"),
	{"punch without keep size", is(syscall.EOPNOTSUPP), func(t *T) error {
		t.file("f", "abc")
		return syscall.Fallocate(t.open("f", rdwr, 0), fallocPunchHole, 0, 1)
	}},
	{"of no bytes", is(syscall.EINVAL), func(t *T) error { t.file("f", "abc"); return syscall.Fallocate(t.open("f", rdwr, 0), 0, 0, 0) }},
	{"of negative bytes", is(syscall.EINVAL), func(t *T) error { t.file("f", "abc"); return syscall.Fallocate(t.open("f", rdwr, 0), 0, 0, -5) }},
	{"through a descriptor for reading", is(syscall.EBADF), func(t *T) error {
		t.file("f", "abc")
		return syscall.Fallocate(t.open("f", rdonly, 0), 0, 0, 10)
	}},
	{"of a pipe", is(syscall.ESPIPE), func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		return syscall.Fallocate(t.open("p", rdwr, 0), 0, 0, 10)
	}},
	{"larger than any file", is(syscall.EFBIG), func(t *T) error {
		t.file("f", "")
		return syscall.Fallocate(t.open("f", rdwr, 0), 0, 1<<62, 1<<62-1+1<<61)
	}},
	{"takes space", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		t.must("fallocate", syscall.Fallocate(fd, 0, 0, 1<<20))
		t.must("fsync", syscall.Fsync(fd))
		t.yes(fmt.Sprint("only blocks ", t.stat("f").Blocks), t.stat("f").Blocks >= 2048)
		return nil
	}},
	{"punching gives space back", ok, func(t *T) error {
		t.file("f", pattern(1<<20))
		fd := t.open("f", rdwr, 0)
		t.must("fsync", syscall.Fsync(fd))
		before := t.fstat(fd).Blocks
		t.must("fallocate", syscall.Fallocate(fd, punch, 0, 1<<19))
		t.must("fsync", syscall.Fsync(fd))
		t.yes(fmt.Sprint(before, " blocks before, then ", t.fstat(fd).Blocks), t.fstat(fd).Blocks < before)
		return nil
	}},
	{"punching what is mapped", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 12288))
		fd := t.open("f", rdwr, 0)
		memory := t.mmap(fd, 0, 12288, syscall.PROT_READ, syscall.MAP_SHARED)
		t.equal("before", runs(string(memory)), "x12288")
		t.must("fallocate", syscall.Fallocate(fd, punch, 4096, 4096))
		t.equal("after", runs(string(memory)), "x4096 .4096 x4096")
		return nil
	}},
}

func (t *T) seekTo(fd int, offset int64, whence int) int64 {
	at, err := syscall.Seek(fd, offset, whence)
	t.must("seek", err)
	return at
}

var seekChecks = []check{
	{"SET CUR END", ok, func(t *T) error {
		t.file("f", "abcdef")
		fd := t.open("f", rdonly, 0)
		t.equal("offsets", []int64{t.seekTo(fd, 2, 0), t.seekTo(fd, 3, 1), t.seekTo(fd, -1, 1), t.seekTo(fd, -2, 2), t.seekTo(fd, 10, 2)},
			"[2 5 4 4 16]")
		return nil
	}},
	{"before the front", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Seek(t.open("f", rdonly, 0), -1, 0)
		return err
	}},
	{"an unknown whence", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Seek(t.open("f", rdonly, 0), 0, 99)
		return err
	}},
	{"END sees what another wrote", ok, func(t *T) error {
		t.file("f", "abc")
		one, two := t.open("f", rdonly, 0), t.open("f", wronly, 0)
		t.pwrite(two, "0123456789", 0)
		t.equal("end", t.seekTo(one, 0, 2), 10)
		return nil
	}},
	{"DATA in data", ok, func(t *T) error {
		t.file("f", "abcdef")
		t.equal("data", t.seekTo(t.open("f", rdonly, 0), 2, seekData), 2)
		return nil
	}},
	{"what a mapping wrote is data", ok, func(t *T) error {
		for _, name := range []string{"made", "opened"} {
			fd := t.open(name, creat|rdwr, 0o644)
			t.must("ftruncate", syscall.Ftruncate(fd, 1<<20))
			if name == "opened" {
				t.close(fd)
				fd = t.open(name, rdwr, 0)
			}
			memory, err := syscall.Mmap(fd, 0, 1<<20, protBoth, syscall.MAP_SHARED)
			t.must("mmap", err)
			t.maps = append(t.maps, memory)
			memory[500_000] = 1
			data := t.seekTo(t.open(name, rdonly, 0), 0, seekData)
			t.yes(fmt.Sprint("the data begins at ", data), data <= 500_000)
			t.yes("the mapping is as it was", memory[500_000] == 1 && memory[499_999] == 0)
		}
		return nil
	}},
	{"HOLE of a full file is its end", ok, func(t *T) error {
		t.file("f", "abcdef")
		t.equal("hole", t.seekTo(t.open("f", rdonly, 0), 2, seekHole), 6)
		return nil
	}},
	{"DATA at the end", is(syscall.ENXIO), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Seek(t.open("f", rdonly, 0), 3, seekData)
		return err
	}},
	{"HOLE at the end", is(syscall.ENXIO), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Seek(t.open("f", rdonly, 0), 3, seekHole)
		return err
	}},
	{"DATA and HOLE of a sparse file", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		t.pwrite(fd, strings.Repeat("x", 65536), 0)
		t.pwrite(fd, strings.Repeat("x", 65536), 1<<20)
		t.must("ftruncate", syscall.Ftruncate(fd, 2<<20))
		t.must("fsync", syscall.Fsync(fd))
		t.equal("data, hole, data, hole", []int64{t.seekTo(fd, 0, seekData), t.seekTo(fd, 0, seekHole),
			t.seekTo(fd, 65536, seekData), t.seekTo(fd, 1<<20, seekHole)}, "[0 65536 1048576 1114112]")
		_, err := syscall.Seek(fd, 1<<20+65536, seekData)
		t.refused("data behind the last", err, syscall.ENXIO)
		return nil
	}},
	{"DATA in a punched hole", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 1<<18))
		fd := t.open("f", rdwr, 0)
		t.must("fallocate", syscall.Fallocate(fd, punch, 65536, 65536))
		t.must("fsync", syscall.Fsync(fd))
		t.equal("hole, data", []int64{t.seekTo(fd, 0, seekHole), t.seekTo(fd, 65536, seekData)}, "[65536 131072]")
		return nil
	}},
	{"DATA that is not yet on the disk", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		t.must("ftruncate", syscall.Ftruncate(fd, 1<<20))
		t.pwrite(fd, strings.Repeat("x", 65536), 1<<18)
		at := t.seekTo(fd, 0, seekData)
		t.yes(fmt.Sprint("data at ", at), at <= 1<<18)
		hole := t.seekTo(fd, 1<<18, seekHole)
		t.yes(fmt.Sprint("a hole at ", hole), hole >= 1<<18+65536)
		return nil
	}},
}

var copyChecks = []check{
	{"range from file to file", ok, func(t *T) error {
		want := pattern(100_000)
		t.file("f", want)
		in, out := t.open("f", rdonly, 0), t.open("g", creat|wronly, 0o644)
		for left := len(want); left > 0; {
			n, err := copyFileRange(in, nil, out, nil, left)
			t.must("copy_file_range", err)
			t.yes("it copies nothing", n > 0)
			left -= n
		}
		t.yes("other bytes", t.contents("g") == want)
		return nil
	}},
	{"range at offsets leaves the descriptors'", ok, func(t *T) error {
		t.file("f", "abcdefgh")
		t.file("g", "01234567")
		in, out := t.open("f", rdonly, 0), t.open("g", wronly, 0)
		from, to := int64(2), int64(4)
		n, err := copyFileRange(in, &from, out, &to, 3)
		t.must("copy_file_range", err)
		t.equal("copied", []int64{int64(n), from, to}, "[3 5 7]")
		t.equal("contents", t.contents("g"), "0123cde7")
		t.equal("offsets", []int64{t.seekTo(in, 0, 1), t.seekTo(out, 0, 1)}, "[0 0]")
		return nil
	}},
	{"range beyond the end of the source", ok, func(t *T) error {
		t.file("f", "abc")
		n, err := copyFileRange(t.open("f", rdonly, 0), nil, t.open("g", creat|wronly, 0o644), nil, 100)
		t.must("copy_file_range", err)
		t.equal("copied", n, 3)
		from := int64(50)
		n, err = copyFileRange(t.fds[0], &from, t.fds[1], nil, 100)
		t.must("copy_file_range", err)
		t.equal("copied", n, 0)
		return nil
	}},
	{"range within a file", ok, func(t *T) error {
		t.file("f", "abcdefgh")
		fd := t.open("f", rdwr, 0)
		from, to := int64(0), int64(4)
		_, err := copyFileRange(fd, &from, fd, &to, 4)
		t.must("copy_file_range", err)
		t.equal("contents", t.contents("f"), "abcdabcd")
		return nil
	}},
	{"range onto itself", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "abcdefgh")
		fd := t.open("f", rdwr, 0)
		from, to := int64(0), int64(2)
		_, err := copyFileRange(fd, &from, fd, &to, 4)
		return err
	}},
	{"range of what was just written", ok, func(t *T) error {
		in := t.open("f", creat|rdwr, 0o644)
		t.pwrite(in, "fresh", 0)
		from := int64(0)
		_, err := copyFileRange(in, &from, t.open("g", creat|wronly, 0o644), nil, 5)
		t.must("copy_file_range", err)
		t.equal("contents", t.contents("g"), "fresh")
		return nil
	}},
	{"range over what was read before", ok, func(t *T) error {
		t.file("f", strings.Repeat("n", 8192))
		t.file("g", strings.Repeat("o", 8192))
		t.contents("g")
		_, err := copyFileRange(t.open("f", rdonly, 0), nil, t.open("g", rdwr, 0), nil, 8192)
		t.must("copy_file_range", err)
		t.equal("contents", runs(t.contents("g")), "n8192")
		return nil
	}},
	{"range into one for appending", is(syscall.EBADF), func(t *T) error {
		t.file("f", "abc")
		_, err := copyFileRange(t.open("f", rdonly, 0), nil, t.open("g", creat|wronly|syscall.O_APPEND, 0o644), nil, 3)
		return err
	}},
	{"range from a folder", is(syscall.EISDIR), func(t *T) error {
		_, err := copyFileRange(t.open(".", rdonly, 0), nil, t.open("g", creat|wronly, 0o644), nil, 3)
		return err
	}},
	{"range from one for writing", is(syscall.EBADF), func(t *T) error {
		t.file("f", "abc")
		_, err := copyFileRange(t.open("f", wronly, 0), nil, t.open("g", creat|wronly, 0o644), nil, 3)
		return err
	}},
	{"sendfile from file to file", ok, func(t *T) error {
		want := pattern(200_000)
		t.file("f", want)
		in, out := t.open("f", rdonly, 0), t.open("g", creat|wronly, 0o644)
		for left := len(want); left > 0; {
			n, err := syscall.Sendfile(out, in, nil, left)
			t.must("sendfile", err)
			t.yes("it sends nothing", n > 0)
			left -= n
		}
		t.yes("other bytes", t.contents("g") == want)
		return nil
	}},
	{"sendfile to a socket", ok, func(t *T) error {
		t.file("f", "abcdef")
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		t.must("socketpair", err)
		t.fds = append(t.fds, pair[0], pair[1])
		from := int64(2)
		n, err := syscall.Sendfile(pair[0], t.open("f", rdonly, 0), &from, 3)
		t.must("sendfile", err)
		buffer := make([]byte, 9)
		got, err := syscall.Read(pair[1], buffer)
		t.must("read", err)
		t.equal("sent", []any{n, from, string(buffer[:got])}, "[3 5 cde]")
		return nil
	}},
	{"splice through a pipe", ok, func(t *T) error {
		want := pattern(20_000)
		t.file("f", want)
		var ends [2]int
		t.must("pipe", syscall.Pipe2(ends[:], syscall.O_CLOEXEC))
		t.fds = append(t.fds, ends[0], ends[1])
		in, out := t.open("f", rdonly, 0), t.open("g", creat|wronly, 0o644)
		for {
			n, err := syscall.Splice(in, nil, ends[1], nil, 4096, 0)
			t.must("splice", err)
			if n == 0 {
				break
			}
			for left := int(n); left > 0; {
				moved, err := syscall.Splice(ends[0], nil, out, nil, left, 0)
				t.must("splice", err)
				left -= int(moved)
			}
		}
		t.yes("other bytes", t.contents("g") == want)
		return nil
	}},
}
