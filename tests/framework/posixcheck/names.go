package main

import (
	"fmt"
	"strings"
	"syscall"
)

func (t *T) links(path string) uint64 { return uint64(t.stat(path).Nlink) }

var mkdirChecks = []check{
	{"a folder", ok, func(t *T) error {
		t.must("mkdir", syscall.Mkdir("d", 0o750))
		t.equal("mode", t.mode("d"), "0750")
		t.equal("type", t.stat("d").Mode&syscall.S_IFMT, syscall.S_IFDIR)
		t.equal("names", t.names("d"), "[]")
		return nil
	}},
	{"with the sticky bit", ok, func(t *T) error {
		t.must("mkdir", syscall.Mkdir("d", 0o1777))
		t.equal("mode", t.mode("d"), "01777")
		return nil
	}},
	{"setuid and setgid are left out", ok, func(t *T) error {
		t.must("mkdir", syscall.Mkdir("d", 0o6755))
		t.equal("mode", t.mode("d"), "0755")
		return nil
	}},
	{"over a file", is(syscall.EEXIST), func(t *T) error { t.file("x", ""); return syscall.Mkdir("x", 0o755) }},
	{"over a folder", is(syscall.EEXIST), func(t *T) error { t.mkdir("x", 0o755); return syscall.Mkdir("x", 0o755) }},
	{"over a dangling link", is(syscall.EEXIST), func(t *T) error {
		t.must("symlink", syscall.Symlink("nowhere", "x"))
		return syscall.Mkdir("x", 0o755)
	}},
	{"of .", is(syscall.EEXIST), func(t *T) error { return syscall.Mkdir(".", 0o755) }},
	{"with a slash at the end", ok, func(t *T) error { return syscall.Mkdir("d/", 0o755) }},
	{"links of the parent", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.equal("links of an empty one", t.links("d"), 2)
		t.mkdir("d/e", 0o755)
		t.mkdir("d/f", 0o755)
		t.file("d/g", "")
		t.equal("links with two folders in it", t.links("d"), 4)
		t.must("rmdir", syscall.Rmdir("d/e"))
		t.equal("links with one", t.links("d"), 3)
		return nil
	}},
	{"a deep tree", ok, func(t *T) error {
		path := "d"
		for depth := 0; depth < 40; depth++ {
			t.must("mkdir", syscall.Mkdir(path, 0o755))
			path += "/d"
		}
		t.file(path, "deep")
		t.equal("contents", t.contents(path), "deep")
		return nil
	}},
	{"below an unlinked folder", is(syscall.ENOENT), func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("chdir", syscall.Chdir("d"))
		t.must("rmdir", syscall.Rmdir("../d"))
		return syscall.Mkdir("e", 0o755)
	}},
}

var rmdirChecks = []check{
	{"an empty one", is(syscall.ENOENT), func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("rmdir", syscall.Rmdir("d"))
		return exists("d")
	}},
	{"one with a file", is(syscall.ENOTEMPTY, syscall.EEXIST), func(t *T) error {
		t.mkdir("d", 0o755)
		t.file("d/f", "")
		return syscall.Rmdir("d")
	}},
	{"one with a folder", is(syscall.ENOTEMPTY, syscall.EEXIST), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("d/d", 0o755)
		return syscall.Rmdir("d")
	}},
	{"one with a link in it", is(syscall.ENOTEMPTY, syscall.EEXIST), func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("symlink", syscall.Symlink("x", "d/l"))
		return syscall.Rmdir("d")
	}},
	{"a file", is(syscall.ENOTDIR), func(t *T) error { t.file("f", ""); return syscall.Rmdir("f") }},
	{"a link to a folder", is(syscall.ENOTDIR), func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("symlink", syscall.Symlink("d", "l"))
		return syscall.Rmdir("l")
	}},
	{"of .", is(syscall.EINVAL), func(t *T) error { t.mkdir("d", 0o755); return syscall.Rmdir("d/.") }},
	{"of ..", is(syscall.ENOTEMPTY, syscall.EEXIST), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("d/e", 0o755)
		return syscall.Rmdir("d/e/..")
	}},
	{"one that is open has no entries", is(syscall.ENOENT), func(t *T) error {
		t.mkdir("d", 0o755)
		fd := t.open("d", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		t.must("rmdir", syscall.Rmdir("d"))
		t.equal("links", t.fstat(fd).Nlink, 0)
		_, err := syscall.ReadDirent(fd, make([]byte, 4096))
		return err
	}},
	{"a file in one that is gone", is(syscall.ENOENT), func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("chdir", syscall.Chdir("d"))
		t.must("rmdir", syscall.Rmdir("../d"))
		return opens("f", syscall.O_CREAT|syscall.O_WRONLY)
	}},
	{"and made again is another one", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		fd := t.open("d", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		t.must("rmdir", syscall.Rmdir("d"))
		t.mkdir("d", 0o755)
		t.file("d/f", "")
		t.yes("the same inode while the old one is open", t.fstat(fd).Ino != t.stat("d").Ino)
		t.equal("names", t.names("d"), "[f]")
		return nil
	}},
}

var linkChecks = []check{
	{"a file", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("link", syscall.Link("f", "g"))
		t.equal("links", [2]uint64{t.links("f"), t.links("g")}, "[2 2]")
		t.equal("inodes differ by", int64(t.stat("f").Ino-t.stat("g").Ino), 0)
		t.equal("contents", t.contents("g"), "abc")
		return nil
	}},
	{"writes by one name are seen by the other", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("link", syscall.Link("f", "g"))
		t.pwrite(t.open("g", syscall.O_WRONLY, 0), "XYZ0", 0)
		t.equal("contents", t.contents("f"), "XYZ0")
		t.must("truncate", syscall.Truncate("f", 2))
		t.equal("contents", t.contents("g"), "XY")
		return nil
	}},
	{"after the first name is gone", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("link", syscall.Link("f", "g"))
		t.must("unlink", syscall.Unlink("f"))
		t.equal("links", t.links("g"), 1)
		t.equal("contents", t.contents("g"), "abc")
		return nil
	}},
	{"to a name that is there", is(syscall.EEXIST), func(t *T) error {
		t.file("f", "")
		t.file("g", "")
		return syscall.Link("f", "g")
	}},
	{"to its own name", is(syscall.EEXIST), func(t *T) error { t.file("f", ""); return syscall.Link("f", "f") }},
	{"to a dangling link's name", is(syscall.EEXIST), func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("nowhere", "l"))
		return syscall.Link("f", "l")
	}},
	{"of a folder", is(syscall.EPERM), func(t *T) error { t.mkdir("d", 0o755); return syscall.Link("d", "e") }},
	{"of a pipe", ok, func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o600, 0))
		t.must("link", syscall.Link("p", "q"))
		t.equal("links", t.links("q"), 2)
		return nil
	}},
	{"of a symbolic link is one of itself", ok, func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("link", syscall.Link("l", "m"))
		t.equal("type", t.stat("m").Mode&syscall.S_IFMT, syscall.S_IFLNK)
		t.equal("links", t.links("m"), 2)
		return nil
	}},
	{"following a symbolic link", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("linkat", linkat(atFdcwd, "l", "m", atSymlinkFollow))
		t.equal("type", t.stat("m").Mode&syscall.S_IFMT, syscall.S_IFREG)
		t.equal("links", t.links("f"), 2)
		return nil
	}},
	{"of a descriptor", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", syscall.O_RDONLY, 0)
		t.must("linkat", linkat(fd, "", "g", atEmptyPath))
		t.equal("links", t.links("f"), 2)
		return nil
	}},
	{"of an unlinked file's descriptor", is(syscall.ENOENT), func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", syscall.O_RDONLY, 0)
		t.must("unlink", syscall.Unlink("f"))
		return linkat(fd, "", "g", atEmptyPath)
	}},
	{"to another file system", is(syscall.EXDEV), func(t *T) error {
		t.file("f", "")
		return syscall.Link("f", elsewhere(t)+"/x")
	}},
	{"many names", ok, func(t *T) error {
		t.file("f", "")
		for number := 1; number < 100; number++ {
			t.must("link", syscall.Link("f", fmt.Sprint("l", number)))
		}
		t.equal("links", t.links("l50"), 100)
		return nil
	}},
	{"into another folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.file("f", "abc")
		t.must("link", syscall.Link("f", "d/g"))
		t.must("unlink", syscall.Unlink("f"))
		t.equal("contents", t.contents("d/g"), "abc")
		return nil
	}},
}

// elsewhere is a folder of another file system.
func elsewhere(t *T) string {
	var here, there syscall.Stat_t
	t.must("stat", syscall.Stat(".", &here))
	for _, path := range []string{"/dev/shm", "/run", "/tmp", "/dev", "/"} {
		if syscall.Stat(path, &there) == nil && there.Dev != here.Dev {
			return path
		}
	}
	t.fail("there is no other file system")
	return ""
}

var unlinkChecks = []check{
	{"a file", is(syscall.ENOENT), func(t *T) error {
		t.file("f", "")
		t.must("unlink", syscall.Unlink("f"))
		t.equal("names", t.names("."), "[]")
		return exists("f")
	}},
	{"a folder", is(syscall.EISDIR, syscall.EPERM), func(t *T) error { t.mkdir("d", 0o755); return syscall.Unlink("d") }},
	{"a symbolic link, not what it names", ok, func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("unlink", syscall.Unlink("l"))
		return exists("f")
	}},
	{"a pipe", ok, func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o600, 0))
		return syscall.Unlink("p")
	}},
	{"one of two names", ok, func(t *T) error {
		t.file("f", "")
		t.must("link", syscall.Link("f", "g"))
		t.must("unlink", syscall.Unlink("g"))
		t.equal("links", t.links("f"), 1)
		return nil
	}},
	{"an open file lives on", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", syscall.O_RDWR, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.equal("links", t.fstat(fd).Nlink, 0)
		t.equal("contents", t.pread(fd, 9, 0), "abc")
		t.pwrite(fd, strings.Repeat("x", 100_000), 3)
		t.equal("size", t.fstat(fd).Size, 100_003)
		t.must("ftruncate", syscall.Ftruncate(fd, 4))
		t.equal("contents", t.pread(fd, 9, 0), "abcx")
		t.must("fsync", syscall.Fsync(fd))
		return nil
	}},
	{"an open file lives on with its name taken", ok, func(t *T) error {
		t.file("f", "old")
		fd := t.open("f", syscall.O_RDWR, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.file("f", "new")
		t.equal("contents of the old", t.pread(fd, 9, 0), "old")
		t.pwrite(fd, "OLD", 0)
		t.equal("contents of the new", t.contents("f"), "new")
		t.yes("both have one inode", t.fstat(fd).Ino != t.stat("f").Ino)
		return nil
	}},
	{"an open file through two descriptors", ok, func(t *T) error {
		t.file("f", "abc")
		one, two := t.open("f", syscall.O_RDWR, 0), t.open("f", syscall.O_RDWR, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.pwrite(one, "X", 0)
		t.close(one)
		t.equal("contents", t.pread(two, 9, 0), "Xbc")
		return nil
	}},
	{"an open file's descriptor opened again", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", syscall.O_RDONLY, 0)
		t.must("unlink", syscall.Unlink("f"))
		again := t.open(fmt.Sprintf("/proc/self/fd/%d", fd), syscall.O_RDWR, 0)
		t.pwrite(again, "X", 0)
		t.equal("contents", t.pread(fd, 9, 0), "Xbc")
		return nil
	}},
	{"a mapped file lives on", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", syscall.O_RDWR, 0)
		memory := t.mmap(fd, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		t.close(fd)
		t.must("unlink", syscall.Unlink("f"))
		t.equal("contents", string(memory[:3]), "abc")
		memory[0] = 'X'
		t.must("msync", msync(memory))
		return nil
	}},
	{"many files", ok, func(t *T) error {
		for number := 0; number < 100; number++ {
			t.empty(fmt.Sprint(number))
		}
		for number := 0; number < 100; number += 2 {
			t.must("unlink", syscall.Unlink(fmt.Sprint(number)))
		}
		t.equal("names", len(t.names(".")), 50)
		return nil
	}},
}

// linkRow: a symbolic link keeps these bytes.
func linkRow(name, target string) check {
	return check{name, ok, func(t *T) error {
		t.must("symlink", syscall.Symlink(target, "l"))
		buffer := make([]byte, 5000)
		n, err := syscall.Readlink("l", buffer)
		t.must("readlink", err)
		t.equal("target", string(buffer[:n]), target)
		t.equal("size", t.stat("l").Size, len(target))
		return nil
	}}
}

var symlinkChecks = []check{
	linkRow("of one byte", "x"),
	linkRow("of 59 bytes", strings.Repeat("s", 59)),
	linkRow("of 60 bytes", strings.Repeat("s", 60)),
	linkRow("of 1000 bytes", strings.Repeat("abcdefghi/", 100)),
	linkRow("of 4095 bytes", strings.Repeat("l", 4095)),
	linkRow("of odd bytes", "a\nb\xff\xfe \t\\"),
	linkRow("to an absolute path", "/etc/nothing"),
	linkRow("that leads out", "../../../../../../x"),
	{"of 4096 bytes", is(syscall.ENAMETOOLONG), func(t *T) error { return syscall.Symlink(strings.Repeat("l", 4096), "l") }},
	{"of no bytes", is(syscall.ENOENT), func(t *T) error { return syscall.Symlink("", "l") }},
	{"over a file", is(syscall.EEXIST), func(t *T) error { t.file("f", ""); return syscall.Symlink("x", "f") }},
	{"over a folder", is(syscall.EEXIST), func(t *T) error { t.mkdir("d", 0o755); return syscall.Symlink("x", "d") }},
	{"over a link", is(syscall.EEXIST), func(t *T) error {
		t.must("symlink", syscall.Symlink("x", "l"))
		return syscall.Symlink("y", "l")
	}},
	{"type and mode", ok, func(t *T) error {
		t.must("symlink", syscall.Symlink("x", "l"))
		t.equal("mode", octal(t.stat("l").Mode), octal(syscall.S_IFLNK|0o777))
		t.equal("links", t.links("l"), 1)
		return nil
	}},
	{"readlink of a file", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "")
		_, err := syscall.Readlink("f", make([]byte, 9))
		return err
	}},
	{"readlink into a small buffer", ok, func(t *T) error {
		t.must("symlink", syscall.Symlink("abcdef", "l"))
		buffer := make([]byte, 3)
		n, err := syscall.Readlink("l", buffer)
		t.must("readlink", err)
		t.equal("target", string(buffer[:n]), "abc")
		return nil
	}},
	{"followed in the middle of a path", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.file("d/f", "abc")
		t.must("symlink", syscall.Symlink("d", "l"))
		t.equal("contents", t.contents("l/f"), "abc")
		t.equal("contents", t.contents("l/../d/f"), "abc")
		return nil
	}},
	{"a chain of 30", ok, func(t *T) error {
		t.file("l0", "end")
		for number := 1; number <= 30; number++ {
			t.must("symlink", syscall.Symlink(fmt.Sprint("l", number-1), fmt.Sprint("l", number)))
		}
		t.equal("contents", t.contents("l30"), "end")
		return nil
	}},
	{"a chain of 41", is(syscall.ELOOP), func(t *T) error {
		t.file("l0", "end")
		for number := 1; number <= 41; number++ {
			t.must("symlink", syscall.Symlink(fmt.Sprint("l", number-1), fmt.Sprint("l", number)))
		}
		return opens("l41", syscall.O_RDONLY)
	}},
	{"creating through a dangling one", ok, func(t *T) error {
		t.must("symlink", syscall.Symlink("f", "l"))
		t.write(t.open("l", syscall.O_CREAT|syscall.O_WRONLY, 0o644), "abc")
		t.equal("contents", t.contents("f"), "abc")
		return nil
	}},
}

var nodeChecks = []check{
	{"a pipe carries bytes", ok, func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		t.equal("type", t.stat("p").Mode&syscall.S_IFMT, syscall.S_IFIFO)
		reader := t.open("p", syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
		writer := t.open("p", syscall.O_WRONLY, 0)
		t.write(writer, "through")
		buffer := make([]byte, 20)
		n, err := syscall.Read(reader, buffer)
		t.must("read", err)
		t.equal("read", string(buffer[:n]), "through")
		t.equal("size", t.stat("p").Size, 0)
		return nil
	}},
	{"a pipe that nobody reads", is(syscall.ENXIO), func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		return opens("p", syscall.O_WRONLY|syscall.O_NONBLOCK)
	}},
	{"lseek on a pipe", is(syscall.ESPIPE), func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		_, err := syscall.Seek(t.open("p", syscall.O_RDONLY|syscall.O_NONBLOCK, 0), 0, 1)
		return err
	}},
	{"mkfifo over a file", is(syscall.EEXIST), func(t *T) error { t.file("f", ""); return syscall.Mknod("f", syscall.S_IFIFO|0o644, 0) }},
	{"mknod of a file", ok, func(t *T) error {
		t.must("mknod", syscall.Mknod("f", syscall.S_IFREG|0o640, 0))
		t.equal("mode", octal(t.stat("f").Mode), octal(syscall.S_IFREG|0o640))
		t.equal("contents", t.contents("f"), "")
		return nil
	}},
	{"mknod of a folder", is(syscall.EPERM, syscall.EINVAL), func(t *T) error { return syscall.Mknod("d", syscall.S_IFDIR|0o755, 0) }},
	{"a character device", ok, func(t *T) error {
		t.must("mknod", syscall.Mknod("c", syscall.S_IFCHR|0o666, 1<<8|3))
		t.equal("type", t.stat("c").Mode&syscall.S_IFMT, syscall.S_IFCHR)
		t.equal("device", t.stat("c").Rdev, 1<<8|3)
		return nil
	}},
	{"a block device", ok, func(t *T) error {
		t.must("mknod", syscall.Mknod("b", syscall.S_IFBLK|0o600, 7<<8|200))
		t.equal("type", t.stat("b").Mode&syscall.S_IFMT, syscall.S_IFBLK)
		t.equal("device", t.stat("b").Rdev, 7<<8|200)
		return nil
	}},
	{"a character device by another", is(syscall.EPERM), func(t *T) error {
		t.mkdir("d", 0o777)
		return t.asNobody(func() error { return syscall.Mknod("d/c", syscall.S_IFCHR|0o666, 1<<8|3) })
	}},
	{"a socket file", ok, func(t *T) error {
		t.must("mknod", syscall.Mknod("s", syscall.S_IFSOCK|0o644, 0))
		t.equal("type", t.stat("s").Mode&syscall.S_IFMT, syscall.S_IFSOCK)
		return nil
	}},
	{"a socket that listens", ok, func(t *T) error {
		listener := t.socket()
		t.must("bind", syscall.Bind(listener, &syscall.SockaddrUnix{Name: "s"}))
		t.must("listen", syscall.Listen(listener, 1))
		t.equal("type", t.stat("s").Mode&syscall.S_IFMT, syscall.S_IFSOCK)
		client := t.socket()
		t.must("connect", syscall.Connect(client, &syscall.SockaddrUnix{Name: "s"}))
		t.write(client, "hello")
		served, _, err := syscall.Accept(listener)
		t.must("accept", err)
		t.fds = append(t.fds, served)
		buffer := make([]byte, 9)
		n, err := syscall.Read(served, buffer)
		t.must("read", err)
		t.equal("read", string(buffer[:n]), "hello")
		return nil
	}},
	{"bind over a file", is(syscall.EADDRINUSE), func(t *T) error {
		t.file("s", "")
		return syscall.Bind(t.socket(), &syscall.SockaddrUnix{Name: "s"})
	}},
	{"connect to a socket that nobody serves", is(syscall.ECONNREFUSED), func(t *T) error {
		listener := t.socket()
		t.must("bind", syscall.Bind(listener, &syscall.SockaddrUnix{Name: "s"}))
		t.close(listener)
		return syscall.Connect(t.socket(), &syscall.SockaddrUnix{Name: "s"})
	}},
	{"open of a socket", is(syscall.ENXIO), func(t *T) error {
		t.must("mknod", syscall.Mknod("s", syscall.S_IFSOCK|0o644, 0))
		return opens("s", syscall.O_RDWR)
	}},
}

func (t *T) socket() int {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	t.must("socket", err)
	t.fds = append(t.fds, fd)
	return fd
}
