package main

import (
	"fmt"
	"strings"
	"syscall"
)

func pattern(size int) string {
	all := make([]byte, size)
	for i := range all {
		all[i] = byte(i*7 + i/251)
	}
	return string(all)
}

// sized: a file of so many bytes comes back, whole and in pieces.
func sizedRow(size int) check {
	return check{fmt.Sprint(size, " bytes"), ok, func(t *T) error {
		want := pattern(size)
		t.file("f", want)
		t.equal("size", t.stat("f").Size, size)
		t.yes("other bytes came back", t.contents("f") == want)
		fd := t.open("f", rdonly, 0)
		for _, offset := range []int{0, 1, size / 2, size - 1, size} {
			if offset >= 0 && offset <= size {
				t.yes(fmt.Sprint("other bytes at ", offset), t.pread(fd, 5000, int64(offset)) == want[offset:min(size, offset+5000)])
			}
		}
		return nil
	}}
}

var ioChecks = []check{
	sizedRow(0), sizedRow(1), sizedRow(511), sizedRow(512), sizedRow(4095), sizedRow(4096), sizedRow(4097),
	sizedRow(65535), sizedRow(65536), sizedRow(131073), sizedRow(1 << 20), sizedRow(1<<20 + 1), sizedRow(3_000_001),
	{"the offset moves", ok, func(t *T) error {
		t.file("f", "abcdef")
		fd := t.open("f", rdwr, 0)
		buffer := make([]byte, 2)
		for _, want := range []string{"ab", "cd", "ef", ""} {
			n, err := syscall.Read(fd, buffer)
			t.must("read", err)
			t.equal("read", string(buffer[:n]), want)
		}
		t.write(fd, "g")
		t.equal("contents", t.contents("f"), "abcdefg")
		return nil
	}},
	{"pread and pwrite leave the offset", ok, func(t *T) error {
		t.file("f", "abcdef")
		fd := t.open("f", rdwr, 0)
		t.pread(fd, 3, 3)
		t.pwrite(fd, "X", 5)
		at, err := syscall.Seek(fd, 0, 1)
		t.must("seek", err)
		t.equal("offset", at, 0)
		return nil
	}},
	{"the offset is shared by a duplicate", ok, func(t *T) error {
		t.file("f", "abcdef")
		fd := t.open("f", rdonly, 0)
		two, err := syscall.Dup(fd)
		t.must("dup", err)
		t.fds = append(t.fds, two)
		buffer := make([]byte, 3)
		syscall.Read(fd, buffer)
		_, err = syscall.Read(two, buffer)
		t.must("read", err)
		t.equal("read", string(buffer), "def")
		return nil
	}},
	{"the offset is another one's own", ok, func(t *T) error {
		t.file("f", "abcdef")
		one, two := t.open("f", rdonly, 0), t.open("f", rdonly, 0)
		buffer := make([]byte, 3)
		syscall.Read(one, buffer)
		_, err := syscall.Read(two, buffer)
		t.must("read", err)
		t.equal("read", string(buffer), "abc")
		return nil
	}},
	{"reading beyond the end", ok, func(t *T) error {
		t.file("f", "abc")
		t.equal("read", t.pread(t.open("f", rdonly, 0), 10, 100), "")
		return nil
	}},
	{"writing beyond the end leaves zeros", ok, func(t *T) error {
		t.file("f", "abc")
		t.pwrite(t.open("f", wronly, 0), "x", 10_000)
		want := "abc" + strings.Repeat("\x00", 9997) + "x"
		t.yes("other bytes", t.contents("f") == want)
		return nil
	}},
	{"a write of nothing beyond the end changes nothing", ok, func(t *T) error {
		t.file("f", "abc")
		t.pwrite(t.open("f", wronly, 0), "", 100)
		t.equal("size", t.stat("f").Size, 3)
		return nil
	}},
	{"a write is seen by another descriptor at once", ok, func(t *T) error {
		t.file("f", "abc")
		one, two := t.open("f", rdwr, 0), t.open("f", rdonly, 0)
		t.equal("before", t.pread(two, 9, 0), "abc")
		t.pwrite(one, "XYZ0", 0)
		t.equal("after", t.pread(two, 9, 0), "XYZ0")
		t.equal("size", t.fstat(two).Size, 4)
		t.equal("size by name", t.stat("f").Size, 4)
		return nil
	}},
	{"a write is seen by another process at once", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", rdwr, 0)
		p := t.peer()
		p.open("f")
		t.equal("before", p.says("contents"), "abc")
		t.pwrite(fd, "XYZ0", 0)
		t.equal("after", p.says("contents"), "XYZ0")
		t.equal("write", p.says("write PP"), "success")
		t.equal("contents", t.pread(fd, 9, 0), "PPZ0")
		return nil
	}},
	{"small writes add up", ok, func(t *T) error {
		fd := t.open("f", creat|wronly, 0o644)
		for number := 0; number < 600; number++ {
			t.write(fd, fmt.Sprintf("%07d\n", number))
		}
		contents := t.contents("f")
		t.equal("size", len(contents), 4800)
		t.equal("a line", contents[4096:4104], "0000512\n")
		return nil
	}},
	{"overwriting the middle", ok, func(t *T) error {
		want := []byte(pattern(300_000))
		t.file("f", string(want))
		fd := t.open("f", wronly, 0)
		for _, offset := range []int{1, 4095, 65535, 131_000, 299_990} {
			t.pwrite(fd, "HELLO", int64(offset))
			copy(want[offset:], "HELLO")
		}
		t.yes("other bytes", t.contents("f") == string(want))
		return nil
	}},
	{"writing from the end to the front", ok, func(t *T) error {
		want := pattern(100_000)
		fd := t.open("f", creat|wronly, 0o644)
		for offset := 99_000; offset >= 0; offset -= 1000 {
			t.pwrite(fd, want[offset:offset+1000], int64(offset))
		}
		t.yes("other bytes", t.contents("f") == want)
		return nil
	}},
	{"at a negative offset", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Pread(t.open("f", rdonly, 0), make([]byte, 1), -1)
		return err
	}},
	{"several buffers at once", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		n, err := vector(syscall.SYS_WRITEV, fd, []byte("ab"), []byte("cdef"), []byte("g"))
		t.must("writev", err)
		t.equal("written", n, 7)
		_, err = syscall.Seek(fd, 1, 0)
		t.must("seek", err)
		one, two := make([]byte, 3), make([]byte, 10)
		n, err = vector(syscall.SYS_READV, fd, one, two)
		t.must("readv", err)
		t.equal("read", string(one)+string(two[:n-3]), "bcdefg")
		return nil
	}},
	{"a closed descriptor", is(syscall.EBADF), func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", rdonly, 0)
		t.close(fd)
		_, err := syscall.Pread(fd, make([]byte, 1), 0)
		return err
	}},
	{"the contents are there after close and open", ok, func(t *T) error {
		for turn := 0; turn < 20; turn++ {
			t.file("f", fmt.Sprint("turn ", turn))
			t.equal("contents", t.contents("f"), fmt.Sprint("turn ", turn))
			t.must("unlink", syscall.Unlink("f"))
		}
		return nil
	}},
	{"a program can be executed", ok, func(t *T) error {
		t.file("f", t.contents("/proc/self/exe"))
		t.must("chmod", syscall.Chmod("f", 0o755))
		return executed("./f")
	}},
	{"a running program cannot be written", is(syscall.ETXTBSY), func(t *T) error {
		t.file("f", t.contents("/proc/self/exe"))
		t.must("chmod", syscall.Chmod("f", 0o755))
		end := running(t, "./f")
		defer end()
		return opens("f", wronly)
	}},
}

var syncChecks = []check{
	{"fsync of a file", ok, func(t *T) error { t.file("f", "abc"); return syscall.Fsync(t.open("f", wronly, 0)) }},
	{"fsync through a descriptor for reading", ok, func(t *T) error { t.file("f", "abc"); return syscall.Fsync(t.open("f", rdonly, 0)) }},
	{"fdatasync of a file", ok, func(t *T) error { t.file("f", "abc"); return syscall.Fdatasync(t.open("f", wronly, 0)) }},
	{"fsync of a folder", ok, func(t *T) error { t.file("f", "abc"); return syscall.Fsync(t.open(".", rdonly, 0)) }},
	{"fdatasync of a folder", ok, func(t *T) error { return syscall.Fdatasync(t.open(".", rdonly, 0)) }},
	{"fsync of an unlinked file", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", wronly, 0)
		t.must("unlink", syscall.Unlink("f"))
		return syscall.Fsync(fd)
	}},
	{"fsync of a pipe", is(syscall.EINVAL), func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		return syscall.Fsync(t.open("p", rdwr, 0))
	}},
	{"syncfs", ok, func(t *T) error { t.file("f", "abc"); return syncfs(t.open("f", rdonly, 0)) }},
	{"writes with O_SYNC", ok, func(t *T) error {
		fd := t.open("f", creat|wronly|syscall.O_SYNC, 0o644)
		t.write(fd, "abc")
		t.write(fd, "def")
		t.equal("contents", t.contents("f"), "abcdef")
		return nil
	}},
}

var truncateChecks = []check{
	{"shorter", ok, func(t *T) error {
		t.file("f", "abcdef")
		t.must("truncate", syscall.Truncate("f", 3))
		t.equal("contents", t.contents("f"), "abc")
		return nil
	}},
	{"longer leaves zeros", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("truncate", syscall.Truncate("f", 10_000))
		t.yes("other bytes", t.contents("f") == "abc"+strings.Repeat("\x00", 9997))
		return nil
	}},
	{"shorter and longer leaves zeros", ok, func(t *T) error {
		t.file("f", pattern(10_000))
		t.must("truncate", syscall.Truncate("f", 5000))
		t.must("truncate", syscall.Truncate("f", 10_000))
		t.yes("other bytes", t.contents("f") == pattern(10_000)[:5000]+strings.Repeat("\x00", 5000))
		return nil
	}},
	{"to nothing and written again", ok, func(t *T) error {
		t.file("f", "abcdef")
		fd := t.open("f", rdwr, 0)
		t.must("ftruncate", syscall.Ftruncate(fd, 0))
		t.pwrite(fd, "x", 2)
		t.equal("contents", t.contents("f"), "\x00\x00x")
		return nil
	}},
	{"to the same size", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("truncate", syscall.Truncate("f", 3))
		t.equal("contents", t.contents("f"), "abc")
		return nil
	}},
	{"the offset stays", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		t.write(fd, "abcdef")
		t.must("ftruncate", syscall.Ftruncate(fd, 2))
		t.write(fd, "X")
		t.equal("contents", t.contents("f"), "ab\x00\x00\x00\x00X")
		return nil
	}},
	{"through another descriptor that has read", ok, func(t *T) error {
		t.file("f", pattern(20_000))
		one, two := t.open("f", rdwr, 0), t.open("f", rdonly, 0)
		t.pread(two, 20_000, 0)
		t.must("ftruncate", syscall.Ftruncate(one, 100))
		t.equal("size", t.fstat(two).Size, 100)
		t.equal("read", t.pread(two, 20_000, 50), pattern(100)[50:])
		return nil
	}},
	{"through a descriptor for reading", is(syscall.EINVAL, syscall.EBADF), func(t *T) error {
		t.file("f", "abc")
		return syscall.Ftruncate(t.open("f", rdonly, 0), 0)
	}},
	{"to a negative size", is(syscall.EINVAL), func(t *T) error { t.file("f", "abc"); return syscall.Truncate("f", -1) }},
	{"a folder", is(syscall.EISDIR), func(t *T) error { t.mkdir("d", 0o755); return syscall.Truncate("d", 0) }},
	{"a pipe", is(syscall.EINVAL), func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		return syscall.Truncate("p", 0)
	}},
	{"through a symbolic link", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("truncate", syscall.Truncate("l", 1))
		t.equal("contents", t.contents("f"), "a")
		return nil
	}},
	{"to the size of a page and around it", ok, func(t *T) error {
		want := pattern(9000)
		t.file("f", want)
		for _, size := range []int{8193, 8192, 8191, 4097, 4096, 4095, 1} {
			t.must("truncate", syscall.Truncate("f", int64(size)))
			t.yes(fmt.Sprint("other bytes at size ", size), t.contents("f") == want[:size])
		}
		return nil
	}},
	{"an unlinked file", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", rdwr, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.must("ftruncate", syscall.Ftruncate(fd, 1))
		t.equal("contents", t.pread(fd, 9, 0), "a")
		return nil
	}},
}

var largeChecks = []check{
	{"a sparse file over 4 GiB", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		t.pwrite(fd, "first", 0)
		t.pwrite(fd, "at 4 GiB", 1<<32-4)
		t.pwrite(fd, "last", 5<<30)
		t.equal("size", t.stat("f").Size, 5<<30+4)
		t.equal("read", t.pread(fd, 9, 5<<30), "last")
		t.equal("read", t.pread(fd, 8, 1<<32-4), "at 4 GiB")
		t.equal("read between", t.pread(fd, 4, 3<<30), "\x00\x00\x00\x00")
		t.yes("a sparse file takes space", t.stat("f").Blocks*512 < 10<<20)
		return nil
	}},
	{"truncated to 1 TiB", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("truncate", syscall.Truncate("f", 1<<40))
		t.equal("size", t.stat("f").Size, 1<<40)
		fd := t.open("f", rdwr, 0)
		t.equal("read", t.pread(fd, 4, 1<<40-4), "\x00\x00\x00\x00")
		t.must("ftruncate", syscall.Ftruncate(fd, 3))
		t.equal("contents", t.contents("f"), "abc")
		return nil
	}},
	{"seeking over 4 GiB", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		at, err := syscall.Seek(fd, 6<<30, 0)
		t.must("seek", err)
		t.equal("offset", at, 6<<30)
		t.write(fd, "x")
		at, err = syscall.Seek(fd, 0, 2)
		t.must("seek", err)
		t.equal("end", at, 6<<30+1)
		return nil
	}},
	{"larger than any file system has", is(syscall.EFBIG, syscall.EINVAL), func(t *T) error {
		t.file("f", "")
		return syscall.Truncate("f", 1<<63-1)
	}},
}
