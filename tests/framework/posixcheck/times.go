package main

import (
	"strings"
	"syscall"
)

var longAgo = syscall.Timespec{Sec: 1_000_000_000, Nsec: 123_456_789}

// timeRow: which times a step changes, of what was there before it. The words of want are PATH+mc
// (these must be later than before) and PATH-mc (these must be as before). There are d/f with its
// second name d/g, d/p (a file), d/e (an empty folder), x (a folder) and d/l (a symbolic link).
func timeRow(name, want string, step func(t *T) error) check {
	return check{name, ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("d/e", 0o755)
		t.mkdir("x", 0o755)
		t.file("d/f", "abcdef")
		t.file("d/p", "p")
		t.must("link", syscall.Link("d/f", "d/g"))
		t.must("symlink", syscall.Symlink("f", "d/l"))
		type seen struct {
			word, letters string
			later         bool
			fd            int
			before        *syscall.Stat_t
		}
		all := []seen{}
		for _, word := range strings.Fields(want) {
			at := strings.IndexAny(word, "+-")
			fd := t.open(word[:at], oPath|nofollow, 0)
			t.must("utimensat", utimens(atFdcwd, word[:at], &[2]syscall.Timespec{longAgo, longAgo}, atNoFollow))
			all = append(all, seen{word, word[at+1:], word[at] == '+', fd, nil})
		}
		for i := range all {
			all[i].before = t.fstat(all[i].fd)
		}
		t.tick()
		t.must("the step", step(t))
		for _, each := range all {
			after := t.fstat(each.fd)
			for _, letter := range each.letters {
				was, is := nanoseconds(each.before.Mtim), nanoseconds(after.Mtim)
				if letter == 'c' {
					was, is = nanoseconds(each.before.Ctim), nanoseconds(after.Ctim)
				}
				if each.later && is <= was {
					t.fail("%s: %ctime was %d and is %d: not later", each.word, letter, was, is)
				}
				if !each.later && is != was {
					t.fail("%s: %ctime was %d and is %d: not the same", each.word, letter, was, is)
				}
			}
		}
		return nil
	}}
}

// through does something with d/f opened with these flags.
func through(flags int, does func(t *T, fd int) error) func(t *T) error {
	return func(t *T) error {
		fd := t.open("d/f", flags, 0)
		err := does(t, fd)
		t.close(fd)
		return err
	}
}

func timesChecks() []check {
	write := func(t *T, fd int) error { t.pwrite(fd, "x", 0); return nil }
	size := func(size int64) func(t *T, fd int) error {
		return func(t *T, fd int) error { return syscall.Ftruncate(fd, size) }
	}
	allocate := func(mode uint32, offset int64) func(t *T, fd int) error {
		return func(t *T, fd int) error { return syscall.Fallocate(fd, mode, offset, 3) }
	}
	return []check{
		timeRow("create", "d+mc d/f-mc", func(t *T) error { t.file("d/new", ""); return nil }),
		timeRow("mkdir", "d+mc", func(t *T) error { return syscall.Mkdir("d/new", 0o755) }),
		timeRow("mkfifo", "d+mc", func(t *T) error { return syscall.Mknod("d/new", syscall.S_IFIFO|0o644, 0) }),
		timeRow("symlink", "d+mc", func(t *T) error { return syscall.Symlink("x", "d/new") }),
		timeRow("link", "x+mc d-mc d/f+c d/f-m", func(t *T) error { return syscall.Link("d/f", "x/new") }),
		timeRow("unlink", "d+mc d/f+c d/f-m", func(t *T) error { return syscall.Unlink("d/g") }),
		timeRow("unlink of the last name", "d+mc d/p+c d/p-m", func(t *T) error { return syscall.Unlink("d/p") }),
		timeRow("rmdir", "d+mc", func(t *T) error { return syscall.Rmdir("d/e") }),
		timeRow("rename", "d+mc d/p-m", func(t *T) error { return syscall.Rename("d/p", "d/q") }),
		timeRow("rename to another folder", "d+mc x+mc d/p-m", func(t *T) error { return syscall.Rename("d/p", "x/q") }),
		timeRow("rename of the file changes its ctime", "d/p+c", func(t *T) error { return syscall.Rename("d/p", "d/q") }),
		timeRow("rename over a file", "d+mc d/f+c", func(t *T) error { return syscall.Rename("d/p", "d/g") }),
		timeRow("failed rename", "d-mc d/p-mc d/e-mc", func(t *T) error {
			t.refused("rename", syscall.Rename("d/p", "d/e"), syscall.EISDIR)
			return nil
		}),
		timeRow("failed create", "d-mc d/p-mc", func(t *T) error {
			t.refused("open", opens("d/p", creat|excl|wronly), syscall.EEXIST)
			return nil
		}),
		timeRow("write", "d/f+mc d-mc", through(wronly, write)),
		timeRow("append", "d/f+mc d-mc", through(wronly|syscall.O_APPEND, write)),
		timeRow("write of nothing", "d/f-mc", through(wronly, func(t *T, fd int) error { t.pwrite(fd, "", 0); return nil })),
		timeRow("read", "d/f-mc d-mc", through(rdonly, func(t *T, fd int) error { t.pread(fd, 3, 0); return nil })),
		timeRow("open and close", "d/f-mc d-mc", through(rdwr, func(*T, int) error { return nil })),
		timeRow("open O_CREAT of one that is there", "d/f-mc d-mc", through(wronly|creat, func(*T, int) error { return nil })),
		timeRow("open O_TRUNC", "d/f+mc d-mc", through(wronly|trunc, func(*T, int) error { return nil })),
		timeRow("ftruncate shorter", "d/f+mc d-mc", through(wronly, size(1))),
		timeRow("ftruncate longer", "d/f+mc", through(wronly, size(100))),
		timeRow("ftruncate to the same size", "d/f+mc", through(wronly, size(6))),
		timeRow("truncate shorter", "d/f+mc d-mc", func(t *T) error { return syscall.Truncate("d/f", 1) }),
		timeRow("fallocate longer", "d/f+c", through(wronly, allocate(0, 100))),
		timeRow("fallocate punch", "d/f+mc", through(wronly, allocate(punch, 1))),
		timeRow("copy_file_range", "d/f+mc d/p-mc", through(wronly, func(t *T, fd int) error {
			_, err := copyFileRange(t.open("d/p", rdonly, 0), nil, fd, nil, 1)
			return err
		})),
		timeRow("mmap write and msync", "d/f+mc", through(rdwr, func(t *T, fd int) error {
			memory := t.mmap(fd, 0, 6, protBoth, syscall.MAP_SHARED)
			memory[0] = 'X'
			return msync(memory)
		})),
		timeRow("chmod", "d/f+c d/f-m d-mc", func(t *T) error { return syscall.Chmod("d/f", 0o600) }),
		timeRow("chown", "d/f+c d/f-m d-mc", func(t *T) error { return syscall.Chown("d/f", 1, 1) }),
		timeRow("lchown of a link", "d/l+c d/l-m d/f-mc", func(t *T) error { return syscall.Lchown("d/l", 1, 1) }),
		timeRow("utimensat", "d/f+c d-mc", func(t *T) error { return utimes("d/f", longAgo, longAgo) }),
		timeRow("setxattr", "d/f+c d/f-m d-mc", func(t *T) error { return syscall.Setxattr("d/f", "user.a", []byte("1"), 0) }),
		timeRow("stat", "d/f-mc d-mc", func(t *T) error { t.stat("d/f"); return nil }),
		timeRow("readdir", "d-mc", func(t *T) error { t.names("d"); return nil }),
		timeRow("chmod of a folder", "d+c d-m", func(t *T) error { return syscall.Chmod("d", 0o700) }),
		timeRow("rename of a folder to another parent", "d+mc x+mc", func(t *T) error { return syscall.Rename("d/e", "x/e") }),
		timeRow("fsync", "d/f-mc", through(wronly, func(t *T, fd int) error { return syscall.Fsync(fd) })),
		timeRow("write, fsync and close keep the first mtime", "d/f+mc", through(wronly, func(t *T, fd int) error {
			t.pwrite(fd, "x", 0)
			before := nanoseconds(t.fstat(fd).Mtim)
			t.tick()
			t.must("fsync", syscall.Fsync(fd))
			t.equal("mtime after fsync", nanoseconds(t.fstat(fd).Mtim), before)
			two := t.open("d/f", rdonly, 0)
			t.close(two)
			t.equal("mtime after close", nanoseconds(t.fstat(fd).Mtim), before)
			return nil
		})),
		{"a new file's three times are one", ok, func(t *T) error {
			fd := t.open("f", creat|rdwr, 0o644)
			st := t.fstat(fd)
			t.equal("mtime", nanoseconds(st.Mtim), nanoseconds(st.Ctim))
			t.equal("atime", nanoseconds(st.Atim), nanoseconds(st.Ctim))
			return nil
		}},
		{"a new file is not older than its folder's change", ok, func(t *T) error {
			t.file("f", "")
			t.yes("older", nanoseconds(t.stat("f").Mtim) >= nanoseconds(t.stat(".").Mtim)-20e6)
			return nil
		}},
		{"times are finer than a second", ok, func(t *T) error {
			fine := false
			for turn := 0; turn < 5 && !fine; turn++ {
				t.tick()
				t.open("f", creat|rdwr, 0o644)
				t.must("chmod", syscall.Chmod("f", 0o600))
				fine = t.stat("f").Ctim.Nsec != 0
			}
			t.yes("whole seconds only", fine)
			return nil
		}},
	}
}

func utimensRow(name string, atime, mtime, wantAtime, wantMtime syscall.Timespec) check {
	return check{name, ok, func(t *T) error {
		t.file("f", "abc")
		t.must("before", utimes("f", longAgo, longAgo))
		t.must("utimensat", utimes("f", atime, mtime))
		st := t.stat("f")
		t.equal("times", [2]syscall.Timespec{st.Atim, st.Mtim}, [2]syscall.Timespec{wantAtime, wantMtime})
		return nil
	}}
}

func when(seconds, nanos int64) syscall.Timespec {
	ts := syscall.NsecToTimespec(nanos)
	ts.Sec += seconds
	return ts
}

var omit, nowTime = syscall.Timespec{Nsec: utimeOmit}, syscall.Timespec{Nsec: utimeNow}

var utimensChecks = []check{
	utimensRow("both", when(1_500_000_000, 1), when(1_600_000_000, 999_999_999), when(1_500_000_000, 1), when(1_600_000_000, 999_999_999)),
	utimensRow("to zero", when(0, 0), when(0, 0), when(0, 0), when(0, 0)),
	utimensRow("before 1970", when(-100, 5), when(-1, 999_999_999), when(-100, 5), when(-1, 999_999_999)),
	utimensRow("after 2038", when(1<<31+10, 7), when(1<<32+10, 8), when(1<<31+10, 7), when(1<<32+10, 8)),
	utimensRow("OMIT atime", omit, when(5, 5), longAgo, when(5, 5)),
	utimensRow("OMIT mtime", when(5, 5), omit, when(5, 5), longAgo),
	utimensRow("OMIT both", omit, omit, longAgo, longAgo),
	{"NOW both", ok, func(t *T) error {
		t.file("f", "")
		t.must("before", utimes("f", longAgo, longAgo))
		t.must("utimensat", utimes("f", nowTime, nowTime))
		st := t.stat("f")
		t.yes("it is not now", st.Atim.Sec > longAgo.Sec && st.Mtim.Sec > longAgo.Sec)
		t.equal("mtime", nanoseconds(st.Mtim), nanoseconds(st.Ctim))
		return nil
	}},
	{"NOW and OMIT", ok, func(t *T) error {
		t.file("f", "")
		t.must("before", utimes("f", longAgo, longAgo))
		t.must("utimensat", utimes("f", omit, nowTime))
		t.yes("mtime is not now", t.stat("f").Mtim.Sec > longAgo.Sec)
		t.equal("atime", t.stat("f").Atim, longAgo)
		return nil
	}},
	{"without times", ok, func(t *T) error {
		t.file("f", "")
		t.must("before", utimes("f", longAgo, longAgo))
		t.must("utimensat", utimens(atFdcwd, "f", nil, 0))
		t.yes("mtime is not now", t.stat("f").Mtim.Sec > longAgo.Sec)
		return nil
	}},
	{"by descriptor", ok, func(t *T) error {
		t.file("f", "")
		t.must("utimensat", utimens(t.open("f", rdonly, 0), "", &[2]syscall.Timespec{longAgo, when(7, 8)}, 0))
		t.equal("mtime", t.stat("f").Mtim, when(7, 8))
		return nil
	}},
	{"a folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("utimensat", utimes("d", longAgo, when(7, 8)))
		t.equal("mtime", t.stat("d").Mtim, when(7, 8))
		return nil
	}},
	{"a symbolic link itself", ok, func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("utimensat", utimens(atFdcwd, "l", &[2]syscall.Timespec{longAgo, when(7, 8)}, atNoFollow))
		t.equal("mtime", t.stat("l").Mtim, when(7, 8))
		t.yes("the file's mtime", t.stat("f").Mtim != when(7, 8))
		return nil
	}},
	{"after a write that is not on the disk yet", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		t.pwrite(fd, "abc", 0)
		t.must("utimensat", utimes("f", longAgo, longAgo))
		t.equal("mtime", t.stat("f").Mtim, longAgo)
		t.must("fsync", syscall.Fsync(fd))
		t.close(fd)
		t.equal("mtime after close", t.stat("f").Mtim, longAgo)
		return nil
	}},
	{"nanoseconds out of range", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "")
		return utimes("f", syscall.Timespec{Nsec: 1_000_000_000}, longAgo)
	}},
	{"by the owner", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, nobody))
		return t.asNobody(func() error { return utimes("f", longAgo, longAgo) })
	}},
}
