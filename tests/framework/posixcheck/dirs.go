package main

import (
	"fmt"
	"sort"
	"strings"
	"syscall"
)

var statChecks = []check{
	{"a new file", ok, func(t *T) error {
		t.file("f", "abc")
		st := t.stat("f")
		t.equal("mode", octal(st.Mode), octal(syscall.S_IFREG|0o644))
		t.equal("size, links, uid, gid", []any{st.Size, st.Nlink, st.Uid, st.Gid}, "[3 1 0 0]")
		t.yes("its block size is 0", st.Blksize > 0)
		return nil
	}},
	{"the device is that of the folder", ok, func(t *T) error {
		t.file("f", "abc")
		t.equal("device", t.stat("f").Dev, t.stat(".").Dev)
		return nil
	}},
	{"by name and by descriptor", ok, func(t *T) error {
		t.file("f", "abc")
		one, two := t.stat("f"), t.fstat(t.open("f", rdonly, 0))
		one.Atim, two.Atim = syscall.Timespec{}, syscall.Timespec{}
		t.equal("stat", *one, *two)
		return nil
	}},
	{"inodes stay", ok, func(t *T) error {
		t.file("f", "abc")
		inode := t.stat("f").Ino
		t.must("chmod", syscall.Chmod("f", 0o600))
		t.must("truncate", syscall.Truncate("f", 100))
		t.must("rename", syscall.Rename("f", "g"))
		t.must("link", syscall.Link("g", "h"))
		t.must("unlink", syscall.Unlink("g"))
		t.pwrite(t.open("h", wronly, 0), "x", 0)
		t.equal("inode", t.stat("h").Ino, inode)
		return nil
	}},
	{"inodes differ", ok, func(t *T) error {
		seen := map[uint64]bool{t.stat(".").Ino: true}
		for number := 0; number < 60; number++ {
			name := fmt.Sprint(number)
			t.empty(name)
			t.yes("an inode twice", !seen[t.stat(name).Ino])
			seen[t.stat(name).Ino] = true
		}
		return nil
	}},
	{"blocks of an empty file", ok, func(t *T) error { t.file("f", ""); t.equal("blocks", t.stat("f").Blocks, 0); return nil }},
	{"blocks of a full file", ok, func(t *T) error {
		t.file("f", pattern(1<<20))
		t.must("fsync", syscall.Fsync(t.open("f", rdonly, 0)))
		blocks := t.stat("f").Blocks
		t.yes(fmt.Sprint(blocks, " blocks"), blocks >= 2048 && blocks < 2300)
		return nil
	}},
	{"blocks of a hole", ok, func(t *T) error {
		t.file("f", "")
		t.must("truncate", syscall.Truncate("f", 1<<20))
		t.yes(fmt.Sprint(t.stat("f").Blocks, " blocks"), t.stat("f").Blocks < 64)
		return nil
	}},
	{"blocks after truncation", ok, func(t *T) error {
		t.file("f", pattern(1<<20))
		t.must("fsync", syscall.Fsync(t.open("f", rdonly, 0)))
		t.must("truncate", syscall.Truncate("f", 0))
		t.equal("blocks", t.stat("f").Blocks, 0)
		return nil
	}},
	{"the size of what is not on the disk yet", ok, func(t *T) error {
		fd := t.open("f", creat|wronly, 0o644)
		for size := 1; size < 20; size++ {
			t.write(fd, "x")
			t.equal("size", t.stat("f").Size, size)
		}
		return nil
	}},
	{"the parent of a folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.equal("inode", t.stat("d/..").Ino, t.stat(".").Ino)
		t.equal("inode of .", t.stat("d/.").Ino, t.stat("d").Ino)
		return nil
	}},
}

func (t *T) statfs() syscall.Statfs_t {
	var st syscall.Statfs_t
	t.must("statfs", syscall.Statfs(".", &st))
	return st
}

var statfsChecks = []check{
	{"makes sense", ok, func(t *T) error {
		st := t.statfs()
		t.yes("no block size", st.Bsize > 0)
		t.yes(fmt.Sprint("free ", st.Bfree, " of ", st.Blocks), st.Bfree <= st.Blocks && st.Bavail <= st.Bfree)
		t.yes(fmt.Sprint("free files ", st.Ffree, " of ", st.Files), st.Ffree <= st.Files)
		return nil
	}},
	{"long names", ok, func(t *T) error { t.equal("longest name", t.statfs().Namelen, 255); return nil }},
	{"by descriptor", ok, func(t *T) error {
		t.file("f", "")
		var st syscall.Statfs_t
		t.must("fstatfs", syscall.Fstatfs(t.open("f", rdonly, 0), &st))
		t.equal("blocks", st.Blocks, t.statfs().Blocks)
		return nil
	}},
	{"files take space", ok, func(t *T) error {
		// Others may write to, and remove from, what a volume shares its disk with.
		taken := int64(0)
		for turn := 0; turn < 8 && taken < 4<<20; turn++ {
			before := t.statfs()
			fd := t.open(fmt.Sprint(turn), creat|rdwr, 0o644)
			for part := 0; part < 8; part++ {
				t.write(fd, pattern(1<<20))
			}
			t.must("fsync", syscall.Fsync(fd))
			after := t.statfs()
			taken = (int64(before.Bfree) - int64(after.Bfree)) * before.Bsize
		}
		t.yes(fmt.Sprint(taken, " bytes taken by 8 MiB"), taken >= 4<<20)
		return nil
	}},
}

func inFolder(t *T, count int) []string {
	names := []string{}
	for number := 0; number < count; number++ {
		name := fmt.Sprintf("file-%05d-%s", number, strings.Repeat("n", 60))
		t.empty(name)
		names = append(names, name)
	}
	return names
}

// listed says which names are missing, and which came twice.
func listed(t *T, found []entry, want []string) {
	seen := map[string]int{}
	for _, each := range found {
		seen[each.name]++
	}
	for _, name := range append([]string{".", ".."}, want...) {
		t.equal("times that "+name+" was listed", seen[name], 1)
	}
	t.equal("names", len(seen), len(want)+2)
}

func (t *T) here() int { return t.open(".", rdonly|folder, 0) }

var readdirChecks = []check{
	{"an empty folder", ok, func(t *T) error { listed(t, t.entries(t.here()), nil); return nil }},
	{"300 files", ok, func(t *T) error {
		listed(t, t.entries(t.here()), nil)
		want := inFolder(t, 300)
		listed(t, t.entries(t.here()), want)
		return nil
	}},
	{"150 long names", ok, func(t *T) error {
		want := []string{}
		for number := 0; number < 150; number++ {
			want = append(want, fmt.Sprintf("%s%03d", strings.Repeat("n", 252), number))
			t.empty(want[number])
		}
		listed(t, t.entries(t.here()), want)
		return nil
	}},
	{"in small pieces", ok, func(t *T) error {
		want := inFolder(t, 100)
		fd, all := t.here(), []entry{}
		for {
			some := t.some(fd, 120)
			if len(some) == 0 {
				break
			}
			all = append(all, some...)
		}
		listed(t, all, want)
		return nil
	}},
	{"into a buffer that is too small", is(syscall.EINVAL), func(t *T) error {
		_, err := syscall.ReadDirent(t.here(), make([]byte, 8))
		return err
	}},
	{"the type of everything", ok, func(t *T) error {
		t.file("file", "")
		t.mkdir("folder", 0o755)
		t.must("symlink", syscall.Symlink("x", "link"))
		t.must("mkfifo", syscall.Mknod("pipe", syscall.S_IFIFO|0o644, 0))
		t.must("mknod", syscall.Mknod("socket", syscall.S_IFSOCK|0o644, 0))
		want := map[string]byte{"file": syscall.DT_REG, "folder": syscall.DT_DIR, "link": syscall.DT_LNK, "pipe": syscall.DT_FIFO,
			"socket": syscall.DT_SOCK, ".": syscall.DT_DIR, "..": syscall.DT_DIR}
		for _, each := range t.entries(t.here()) {
			t.equal("type of "+each.name, each.kind, want[each.name])
		}
		return nil
	}},
	{"inodes are those of stat", ok, func(t *T) error {
		inFolder(t, 20)
		t.mkdir("d", 0o755)
		for _, each := range t.entries(t.here()) {
			if each.name != ".." {
				t.equal("inode of "+each.name, each.inode, t.stat(each.name).Ino)
			}
		}
		return nil
	}},
	{"rewound", ok, func(t *T) error {
		want := inFolder(t, 50)
		fd := t.here()
		t.entries(fd)
		t.equal("after the end", len(t.some(fd, 4096)), 0)
		t.seekTo(fd, 0, 0)
		listed(t, t.entries(fd), want)
		return nil
	}},
	{"rewound sees what is new", ok, func(t *T) error {
		fd := t.here()
		listed(t, t.entries(fd), nil)
		t.file("new", "")
		t.seekTo(fd, 0, 0)
		listed(t, t.entries(fd), []string{"new"})
		t.must("unlink", syscall.Unlink("new"))
		t.seekTo(fd, 0, 0)
		listed(t, t.entries(fd), nil)
		return nil
	}},
	{"continued from each offset", ok, func(t *T) error {
		inFolder(t, 60)
		fd := t.here()
		all := t.entries(fd)
		for _, from := range []int{0, 1, 2, 17, 30, 59, 61} {
			t.seekTo(fd, all[from].offset, 0)
			rest := t.entries(fd)
			t.equal(fmt.Sprint("entries behind number ", from), len(rest), len(all)-from-1)
			for i := range rest {
				t.equal("a name", rest[i].name, all[from+1+i].name)
			}
		}
		return nil
	}},
	{"the position is kept", ok, func(t *T) error {
		inFolder(t, 60)
		fd := t.here()
		some := t.some(fd, 1000)
		at := t.seekTo(fd, 0, 1)
		t.equal("position", at, some[len(some)-1].offset)
		next := t.some(fd, 1000)
		t.seekTo(fd, at, 0)
		t.equal("the same again", t.some(fd, 1000)[0].name, next[0].name)
		return nil
	}},
	{"what stays is listed once while others go", ok, func(t *T) error {
		want := inFolder(t, 150)
		fd := t.here()
		found := t.some(fd, 2000)
		for number := 1; number < 150; number += 2 {
			t.must("unlink", syscall.Unlink(want[number]))
		}
		seen := map[string]int{}
		for _, each := range append(found, t.entries(fd)...) {
			seen[each.name]++
		}
		for number := 0; number < 150; number += 2 {
			t.equal("times that "+want[number]+" was listed", seen[want[number]], 1)
		}
		for name, times := range seen {
			t.yes(fmt.Sprint(name, " was listed ", times, " times"), times == 1)
		}
		return nil
	}},
	{"what stays is listed once while others come", ok, func(t *T) error {
		want := inFolder(t, 150)
		fd := t.here()
		found := t.some(fd, 2000)
		for number := 0; number < 100; number++ {
			t.empty(fmt.Sprint("new", number))
		}
		seen := map[string]int{}
		for _, each := range append(found, t.entries(fd)...) {
			seen[each.name]++
		}
		for _, name := range want {
			t.equal("times that "+name+" was listed", seen[name], 1)
		}
		for name, times := range seen {
			t.yes(fmt.Sprint(name, " was listed ", times, " times"), times == 1)
		}
		return nil
	}},
	{"emptied while it is read", ok, func(t *T) error {
		inFolder(t, 200)
		fd := t.here()
		for {
			some := t.some(fd, 2000)
			if len(some) == 0 {
				break
			}
			for _, each := range some {
				if each.name != "." && each.name != ".." {
					t.must("unlink "+each.name, syscall.Unlink(each.name))
				}
			}
		}
		t.equal("names", t.names("."), "[]")
		return nil
	}},
	{"two descriptors have positions of their own", ok, func(t *T) error {
		want := inFolder(t, 100)
		one, two := t.here(), t.here()
		first := t.some(one, 2000)
		listed(t, t.entries(two), want)
		listed(t, append(first, t.entries(one)...), want)
		return nil
	}},
	{"what was made, renamed and removed", ok, func(t *T) error {
		t.file("a", "")
		t.equal("names", t.names("."), "[a]")
		t.must("rename", syscall.Rename("a", "b"))
		t.equal("names", t.names("."), "[b]")
		t.must("link", syscall.Link("b", "c"))
		t.must("symlink", syscall.Symlink("b", "d"))
		t.equal("names", t.names("."), "[b c d]")
		t.must("unlink", syscall.Unlink("b"))
		t.mkdir("b", 0o755)
		t.equal("names", t.names("."), "[b c d]")
		t.must("rmdir", syscall.Rmdir("b"))
		t.equal("names", t.names("."), "[c d]")
		return nil
	}},
	{"of a file", is(syscall.ENOTDIR), func(t *T) error {
		t.file("f", "")
		_, err := syscall.ReadDirent(t.open("f", rdonly, 0), make([]byte, 1000))
		return err
	}},
	{"by one that may read but not search", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		t.file("d/f", "")
		t.must("chmod", syscall.Chmod("d", 0o744))
		return t.asNobody(func() error { t.equal("names", t.names("d"), "[f]"); return nil })
	}},
}

// attributes lists those of a file, sorted; only the user's, since others may be the system's.
func (t *T) attributes(path string) []string {
	buffer := make([]byte, 65536)
	n, err := syscall.Listxattr(path, buffer)
	t.must("listxattr", err)
	found := []string{}
	for _, each := range strings.Split(string(buffer[:n]), "\x00") {
		if strings.HasPrefix(each, "user.") {
			found = append(found, each)
		}
	}
	sort.Strings(found)
	return found
}
