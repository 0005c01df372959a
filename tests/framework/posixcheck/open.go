package main

import (
	"fmt"
	"strings"
	"syscall"
	"unsafe"
)

// flagRow: how an open with these flags ends, where there are a file, a folder, a link to each, and a
// pipe.
func flagRow(name, path string, flags int, want outcome) check {
	return check{name, want, func(t *T) error {
		t.file("file", "abc")
		t.mkdir("folder", 0o755)
		t.must("symlink", syscall.Symlink("file", "tofile"))
		t.must("symlink", syscall.Symlink("folder", "tofolder"))
		t.must("symlink", syscall.Symlink("missing", "dangling"))
		err := opens(path, flags)
		t.equal("the file", t.contents("file"), map[bool]string{true: "", false: "abc"}[flags&syscall.O_TRUNC != 0 && err == nil])
		return err
	}}
}

const (
	rdonly, wronly, rdwr = syscall.O_RDONLY, syscall.O_WRONLY, syscall.O_RDWR
	creat, excl, trunc   = syscall.O_CREAT, syscall.O_EXCL, syscall.O_TRUNC
	folder, nofollow     = syscall.O_DIRECTORY, syscall.O_NOFOLLOW
)

var openChecks = []check{
	flagRow("RDONLY a file", "file", rdonly, ok),
	flagRow("WRONLY a file", "file", wronly, ok),
	flagRow("RDWR a file", "file", rdwr, ok),
	flagRow("RDONLY a folder", "folder", rdonly, ok),
	flagRow("WRONLY a folder", "folder", wronly, is(syscall.EISDIR)),
	flagRow("RDWR a folder", "folder", rdwr, is(syscall.EISDIR)),
	flagRow("CREAT a folder", "folder", rdonly|creat, is(syscall.EISDIR)),
	flagRow("TRUNC a folder", "folder", rdwr|trunc, is(syscall.EISDIR)),
	flagRow("CREAT a new one", "new", wronly|creat, ok),
	flagRow("CREAT for reading", "new", rdonly|creat, ok),
	flagRow("CREAT one that is there", "file", wronly|creat, ok),
	flagRow("CREAT EXCL a new one", "new", wronly|creat|excl, ok),
	flagRow("CREAT EXCL one that is there", "file", wronly|creat|excl, is(syscall.EEXIST)),
	flagRow("CREAT EXCL a folder", "folder", wronly|creat|excl, is(syscall.EEXIST)),
	flagRow("CREAT EXCL a link", "tofile", wronly|creat|excl, is(syscall.EEXIST)),
	flagRow("CREAT EXCL a dangling link", "dangling", wronly|creat|excl, is(syscall.EEXIST)),
	flagRow("CREAT a dangling link", "dangling", wronly|creat, ok),
	flagRow("CREAT a name with a slash", "new/", wronly|creat, is(syscall.EISDIR)),
	flagRow("TRUNC a file", "file", wronly|trunc, ok),
	flagRow("TRUNC through a link", "tofile", wronly|trunc, ok),
	flagRow("CREAT TRUNC a file", "file", rdwr|creat|trunc, ok),
	flagRow("DIRECTORY a folder", "folder", folder, ok),
	flagRow("DIRECTORY a file", "file", folder, is(syscall.ENOTDIR)),
	flagRow("DIRECTORY a link to a folder", "tofolder", folder, ok),
	flagRow("DIRECTORY a link to a file", "tofile", folder, is(syscall.ENOTDIR)),
	flagRow("NOFOLLOW a file", "file", nofollow, ok),
	flagRow("NOFOLLOW a link", "tofile", nofollow, is(syscall.ELOOP)),
	flagRow("NOFOLLOW DIRECTORY a link", "tofolder", nofollow|folder, is(syscall.ENOTDIR)),
	flagRow("NOFOLLOW a link in the middle", "tofolder/../file", nofollow, ok),
	flagRow("a folder with a slash", "folder/", rdonly, ok),
	flagRow("SYNC", "file", wronly|syscall.O_SYNC, ok),
	flagRow("DSYNC", "file", wronly|syscall.O_DSYNC, ok),
	flagRow("NONBLOCK", "file", rdwr|syscall.O_NONBLOCK, ok),
	flagRow("NOATIME by the owner", "file", rdonly|syscall.O_NOATIME, ok),
	{"NOATIME by another", is(syscall.EPERM), func(t *T) error {
		t.file("f", "")
		return t.asNobody(func() error { return opens("f", rdonly|syscall.O_NOATIME) })
	}},
	{"PATH of a file", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", oPath, 0)
		t.equal("size", t.fstat(fd).Size, 3)
		_, err := syscall.Read(fd, make([]byte, 3))
		t.refused("read", err, syscall.EBADF)
		t.refused("fchmod", syscall.Fchmod(fd, 0o600), syscall.EBADF)
		return nil
	}},
	{"PATH of a link itself", ok, func(t *T) error {
		t.must("symlink", syscall.Symlink("x", "l"))
		fd := t.open("l", oPath|nofollow, 0)
		t.equal("type", t.fstat(fd).Mode&syscall.S_IFMT, syscall.S_IFLNK)
		return nil
	}},
	{"the mode is not that of the descriptor", ok, func(t *T) error {
		fd := t.open("f", creat|excl|wronly, 0o444)
		t.write(fd, "abc")
		t.equal("contents", t.contents("f"), "abc")
		t.equal("mode", t.mode("f"), "0444")
		return nil
	}},
	{"TRUNC of one that others have open", ok, func(t *T) error {
		t.file("f", "abcdef")
		fd := t.open("f", rdwr, 0)
		t.must("open", opens("f", wronly|trunc))
		t.equal("size", t.fstat(fd).Size, 0)
		t.pwrite(fd, "x", 3)
		t.equal("contents", t.contents("f"), "\x00\x00\x00x")
		return nil
	}},
	{"read through a descriptor for writing", is(syscall.EBADF), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Read(t.open("f", wronly, 0), make([]byte, 3))
		return err
	}},
	{"write through a descriptor for reading", is(syscall.EBADF), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Write(t.open("f", rdonly, 0), []byte("x"))
		return err
	}},
	{"read of a folder", is(syscall.EISDIR), func(t *T) error {
		_, err := syscall.Read(t.open(".", rdonly, 0), make([]byte, 3))
		return err
	}},
	{"many at once", ok, func(t *T) error {
		t.file("f", "abc")
		for turn := 0; turn < 200; turn++ {
			t.open("f", rdwr, 0)
		}
		t.equal("contents", t.pread(t.fds[199], 3, 0), "abc")
		return nil
	}},
	{"by the descriptor of a folder that was renamed", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.file("d/f", "abc")
		fd := t.open("d", folder, 0)
		t.must("rename", syscall.Rename("d", "e"))
		inner, err := syscall.Openat(fd, "f", rdonly|syscall.O_CLOEXEC, 0)
		t.must("openat", err)
		t.fds = append(t.fds, inner)
		t.equal("contents", t.pread(inner, 9, 0), "abc")
		return nil
	}},
	{"CREAT EXCL by many at once makes one", ok, func(t *T) error {
		won := make(chan bool, 8)
		for racer := 0; racer < 8; racer++ {
			go func() {
				fd, err := syscall.Open(t.dir+"/f", creat|excl|wronly|syscall.O_CLOEXEC, 0o644)
				if err == nil {
					syscall.Close(fd)
				}
				won <- err == nil
			}()
		}
		winners := 0
		for racer := 0; racer < 8; racer++ {
			if <-won {
				winners++
			}
		}
		t.equal("winners", winners, 1)
		return nil
	}},
}

var appendChecks = []check{
	{"writes go to the end", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", wronly|syscall.O_APPEND, 0)
		t.write(fd, "def")
		_, err := syscall.Seek(fd, 0, 0)
		t.must("seek", err)
		t.write(fd, "ghi")
		t.equal("contents", t.contents("f"), "abcdefghi")
		return nil
	}},
	{"two descriptors in turn", ok, func(t *T) error {
		one := t.open("f", creat|wronly|syscall.O_APPEND, 0o644)
		two := t.open("f", wronly|syscall.O_APPEND, 0)
		for turn := 0; turn < 50; turn++ {
			t.write(one, "1")
			t.write(two, "2")
		}
		t.equal("contents", t.contents("f"), strings.Repeat("12", 50))
		return nil
	}},
	{"two processes in turn", ok, func(t *T) error {
		fd := t.open("f", creat|wronly|syscall.O_APPEND, 0o644)
		p := t.peer()
		p.opens("f", wronly|syscall.O_APPEND)
		for turn := 0; turn < 20; turn++ {
			t.write(fd, "1")
			t.equal("write", p.says("write 2"), "success")
		}
		t.equal("contents", t.contents("f"), strings.Repeat("12", 20))
		return nil
	}},
	{"after another shortened the file", ok, func(t *T) error {
		fd := t.open("f", creat|wronly|syscall.O_APPEND, 0o644)
		t.write(fd, "abcdef")
		t.must("truncate", syscall.Truncate("f", 2))
		t.write(fd, "X")
		t.equal("contents", t.contents("f"), "abX")
		return nil
	}},
	{"after another made the file longer", ok, func(t *T) error {
		fd := t.open("f", creat|wronly|syscall.O_APPEND, 0o644)
		t.write(fd, "abc")
		t.must("truncate", syscall.Truncate("f", 5))
		t.write(fd, "X")
		t.equal("contents", t.contents("f"), "abc\x00\x00X")
		return nil
	}},
	{"pwrite appends too, as Linux does", ok, func(t *T) error {
		t.file("f", "abc")
		t.pwrite(t.open("f", wronly|syscall.O_APPEND, 0), "X", 0)
		t.equal("contents", t.contents("f"), "abcX")
		return nil
	}},
	{"set on an open descriptor", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", rdwr, 0)
		_, err := fcntl(fd, syscall.F_SETFL, syscall.O_APPEND)
		t.must("F_SETFL", err)
		t.write(fd, "X")
		t.equal("contents", t.contents("f"), "abcX")
		_, err = fcntl(fd, syscall.F_SETFL, 0)
		t.must("F_SETFL", err)
		t.pwrite(fd, "Y", 0)
		t.equal("contents", t.contents("f"), "YbcX")
		return nil
	}},
	{"the offset is at the end afterwards", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", rdwr|syscall.O_APPEND, 0)
		t.write(fd, "de")
		at, err := syscall.Seek(fd, 0, 1)
		t.must("seek", err)
		t.equal("offset", at, 5)
		return nil
	}},
	{"many at once lose nothing", ok, func(t *T) error {
		const writers, lines = 4, 50
		done := make(chan error, writers)
		for writer := 0; writer < writers; writer++ {
			go func() {
				fd, err := syscall.Open(t.dir+"/f", creat|wronly|syscall.O_APPEND|syscall.O_CLOEXEC, 0o644)
				for line := 0; line < lines && err == nil; line++ {
					_, err = syscall.Write(fd, fmt.Appendf(nil, "%d %06d\n", writer, line))
				}
				syscall.Close(fd)
				done <- err
			}()
		}
		for writer := 0; writer < writers; writer++ {
			t.must("a writer", <-done)
		}
		seen := map[string]bool{}
		for _, line := range strings.Split(strings.TrimSpace(t.contents("f")), "\n") {
			seen[line] = true
		}
		t.equal("different lines", len(seen), writers*lines)
		return nil
	}},
}

var tmpfileChecks = []check{
	{"has no name and no links", ok, func(t *T) error {
		fd := t.open(".", rdwr|oTmpfile, 0o640)
		t.write(fd, "abc")
		t.equal("contents", t.pread(fd, 9, 0), "abc")
		t.equal("links", t.fstat(fd).Nlink, 0)
		t.equal("mode", octal(t.fstat(fd).Mode&0o7777), "0640")
		t.equal("names", t.names("."), "[]")
		return nil
	}},
	{"gets a name by link", ok, func(t *T) error {
		fd := t.open(".", rdwr|oTmpfile, 0o640)
		t.write(fd, "abc")
		t.must("linkat", linkat(atFdcwd, fmt.Sprintf("/proc/self/fd/%d", fd), "f", atSymlinkFollow))
		t.equal("contents", t.contents("f"), "abc")
		t.equal("links", t.fstat(fd).Nlink, 1)
		return nil
	}},
	{"EXCL never gets a name", is(syscall.ENOENT), func(t *T) error {
		fd := t.open(".", rdwr|oTmpfile|excl, 0o640)
		return linkat(atFdcwd, fmt.Sprintf("/proc/self/fd/%d", fd), "f", atSymlinkFollow)
	}},
	{"for reading", is(syscall.EINVAL), func(t *T) error { return opens(".", rdonly|oTmpfile) }},
	{"in a folder that may not be written", is(syscall.EACCES), func(t *T) error {
		return t.asNobody(func() error { return opens(".", rdwr|oTmpfile) })
	}},
}

// aligned is memory for direct reads and writes.
func aligned(size int) []byte {
	raw := make([]byte, size+4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&raw[0]))%4096)
	return raw[skip : skip+size]
}

var directChecks = []check{
	{"written and read", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr|syscall.O_DIRECT, 0o644)
		block := aligned(8192)
		copy(block, strings.Repeat("direct..", 1024))
		n, err := syscall.Pwrite(fd, block, 0)
		t.must("pwrite", err)
		t.equal("written", n, 8192)
		again := aligned(8192)
		n, err = syscall.Pread(fd, again, 0)
		t.must("pread", err)
		t.equal("read", n, 8192)
		t.yes("other bytes came back", string(again) == string(block))
		return nil
	}},
	{"sees what was written through the cache", ok, func(t *T) error {
		t.file("f", strings.Repeat("c", 4096))
		block := aligned(4096)
		_, err := syscall.Pread(t.open("f", rdonly|syscall.O_DIRECT, 0), block, 0)
		t.must("pread", err)
		t.equal("bytes", string(block[:4]), "cccc")
		return nil
	}},
	{"is seen through the cache", ok, func(t *T) error {
		t.file("f", strings.Repeat("c", 8192))
		t.contents("f")
		block := aligned(4096)
		copy(block, strings.Repeat("d", 4096))
		_, err := syscall.Pwrite(t.open("f", wronly|syscall.O_DIRECT, 0), block, 4096)
		t.must("pwrite", err)
		t.equal("bytes", t.contents("f")[4090:4102], "ccccccdddddd")
		return nil
	}},
	{"at the end of the file", ok, func(t *T) error {
		t.file("f", strings.Repeat("c", 5000))
		block := aligned(8192)
		n, err := syscall.Pread(t.open("f", rdonly|syscall.O_DIRECT, 0), block, 0)
		t.must("pread", err)
		t.equal("read", n, 5000)
		return nil
	}},
}
