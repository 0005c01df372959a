package main

import "syscall"

const (
	readOK  = 4
	writeOK = 2
	execOK  = 1
)

// accessRow: what a user with these groups gets from a file of other's, group 321, with this mode.
func accessRow(name string, mode uint32, uid int, groups []int, flags int, want outcome) check {
	return check{name, want, func(t *T) error {
		t.file("f", "x")
		t.must("chown", syscall.Chown("f", other, 321))
		t.must("chmod", syscall.Chmod("f", mode))
		return t.as(uid, groups, func() error { return opens("f", flags) })
	}}
}

// folderRow: what nobody may do in a folder of root's with this mode.
func folderRow(name string, mode uint32, want outcome, does func() error) check {
	return check{name, want, func(t *T) error {
		t.mkdir("d", 0o777)
		t.file("d/f", "x")
		t.mkdir("d/e", 0o777)
		t.must("chmod", syscall.Chmod("d/f", 0o666))
		t.must("chmod", syscall.Chmod(".", 0o777))
		t.must("chmod", syscall.Chmod("d", mode))
		return t.asNobody(does)
	}}
}

var denied = is(syscall.EACCES)

var accessChecks = []check{
	accessRow("owner may read", 0o400, other, []int{other}, syscall.O_RDONLY, ok),
	accessRow("owner may write", 0o200, other, []int{other}, syscall.O_WRONLY, ok),
	accessRow("owner may not read", 0o277, other, []int{other}, syscall.O_RDONLY, denied),
	accessRow("owner may not write", 0o577, other, []int{other}, syscall.O_WRONLY, denied),
	accessRow("owner in the group may not what the group may", 0o077, other, []int{321}, syscall.O_RDONLY, denied),
	accessRow("group may read", 0o040, nobody, []int{321}, syscall.O_RDONLY, ok),
	accessRow("group may write", 0o020, nobody, []int{321}, syscall.O_WRONLY, ok),
	accessRow("group may not read", 0o707, nobody, []int{321}, syscall.O_RDONLY, denied),
	accessRow("a further group may read", 0o040, nobody, []int{nobody, 5, 321}, syscall.O_RDONLY, ok),
	accessRow("a further group may not write", 0o747, nobody, []int{nobody, 5, 321}, syscall.O_WRONLY, denied),
	accessRow("others may read", 0o004, nobody, []int{nobody}, syscall.O_RDONLY, ok),
	accessRow("others may write", 0o002, nobody, []int{nobody}, syscall.O_WRONLY, ok),
	accessRow("others may not read", 0o770, nobody, []int{nobody}, syscall.O_RDONLY, denied),
	accessRow("others may not write", 0o774, nobody, []int{nobody}, syscall.O_WRONLY, denied),
	accessRow("others may not truncate", 0o774, nobody, []int{nobody}, syscall.O_RDONLY|syscall.O_TRUNC, denied),
	accessRow("reading is not enough for both", 0o774, nobody, []int{nobody}, syscall.O_RDWR, denied),
	accessRow("root may everything", 0, 0, []int{0}, syscall.O_RDWR, ok),
	folderRow("a file in a folder that may be searched", 0o711, ok, func() error { return opens("d/f", syscall.O_RDWR) }),
	folderRow("a file in a folder that may only be read", 0o744, denied, func() error { return opens("d/f", syscall.O_RDONLY) }),
	folderRow("stat in a folder that may only be read", 0o744, denied, func() error { return exists("d/f") }),
	folderRow("listing a folder that may only be read", 0o744, ok, func() error { return opens("d", syscall.O_RDONLY) }),
	folderRow("listing a folder that may only be searched", 0o711, denied, func() error { return opens("d", syscall.O_RDONLY) }),
	folderRow("chdir into one that may be searched", 0o711, ok, func() error { return syscall.Chdir("d") }),
	folderRow("chdir into one that may not", 0o744, denied, func() error { return syscall.Chdir("d") }),
	folderRow("create in one that may not be written", 0o755, denied, func() error { return opens("d/new", syscall.O_CREAT|syscall.O_WRONLY) }),
	folderRow("O_CREAT of a file that is there", 0o755, ok, func() error { return opens("d/f", syscall.O_CREAT|syscall.O_WRONLY) }),
	folderRow("mkdir in one that may not be written", 0o755, denied, func() error { return syscall.Mkdir("d/new", 0o755) }),
	folderRow("mkfifo in one that may not be written", 0o755, denied, func() error { return syscall.Mknod("d/new", syscall.S_IFIFO|0o600, 0) }),
	folderRow("symlink in one that may not be written", 0o755, denied, func() error { return syscall.Symlink("x", "d/new") }),
	folderRow("link in one that may not be written", 0o755, denied, func() error { return syscall.Link("d/f", "d/new") }),
	folderRow("unlink in one that may not be written", 0o755, denied, func() error { return syscall.Unlink("d/f") }),
	folderRow("rmdir in one that may not be written", 0o755, denied, func() error { return syscall.Rmdir("d/e") }),
	folderRow("rename out of one that may not be written", 0o755, denied, func() error { return syscall.Rename("d/f", "f") }),
	folderRow("rename of a folder out of one that may not be written", 0o755, denied, func() error { return syscall.Rename("d/e", "e") }),
	folderRow("unlink in one that may be written, not searched", 0o776, denied, func() error { return syscall.Unlink("d/f") }),
	folderRow("unlink in one that may be written", 0o773, ok, func() error { return syscall.Unlink("d/f") }),
	{"rename of a folder that may not be written to another parent", denied, func(t *T) error {
		t.mkdir("a", 0o777)
		t.mkdir("b", 0o777)
		t.mkdir("a/d", 0o755)
		return t.asNobody(func() error { return syscall.Rename("a/d", "b/d") })
	}},
	{"access asks for each right", ok, func(t *T) error {
		t.file("f", "")
		t.must("chmod", syscall.Chmod("f", 0o754))
		return t.asNobody(func() error {
			t.must("read", syscall.Access("f", readOK))
			t.refused("write", syscall.Access("f", writeOK), syscall.EACCES)
			t.refused("execute", syscall.Access("f", execOK), syscall.EACCES)
			return nil
		})
	}},
	{"access of root to execute what nobody may", denied, func(t *T) error {
		t.file("f", "")
		return syscall.Access("f", execOK)
	}},
	{"truncate without the right", denied, func(t *T) error {
		t.file("f", "abc")
		return t.asNobody(func() error { return syscall.Truncate("f", 0) })
	}},
	{"executing without the right", denied, func(t *T) error {
		t.file("f", "#!/nothing")
		return syscall.Exec("f", []string{"f"}, nil)
	}},
	{"utimensat to now by who may write", ok, func(t *T) error {
		t.file("f", "")
		t.must("chmod", syscall.Chmod("f", 0o666))
		now := syscall.Timespec{Nsec: utimeNow}
		return t.asNobody(func() error { return utimes("f", now, now) })
	}},
	{"utimensat to now by who may not write", denied, func(t *T) error {
		t.file("f", "")
		now := syscall.Timespec{Nsec: utimeNow}
		return t.asNobody(func() error { return utimes("f", now, now) })
	}},
	{"utimensat to a time by who may write", is(syscall.EPERM), func(t *T) error {
		t.file("f", "")
		t.must("chmod", syscall.Chmod("f", 0o666))
		return t.asNobody(func() error { return utimes("f", syscall.Timespec{Sec: 1}, syscall.Timespec{Sec: 2}) })
	}},
	{"setxattr by who may not write", denied, func(t *T) error {
		t.file("f", "")
		return t.asNobody(func() error { return syscall.Setxattr("f", "user.a", []byte("1"), 0) })
	}},
	{"getxattr by who may not read", denied, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", syscall.Setxattr("f", "user.a", []byte("1"), 0))
		t.must("chmod", syscall.Chmod("f", 0o600))
		return t.asNobody(func() error { _, err := syscall.Getxattr("f", "user.a", make([]byte, 9)); return err })
	}},
	{"a file made without rights can be written by its maker", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		return t.asNobody(func() error {
			fd := t.open("d/f", syscall.O_CREAT|syscall.O_EXCL|syscall.O_RDWR, 0)
			t.write(fd, "abc")
			t.equal("contents", t.pread(fd, 9, 0), "abc")
			return nil
		})
	}},
	{"rights that are taken away are gone at once", denied, func(t *T) error {
		t.file("f", "")
		return t.asNobody(func() error {
			t.must("open", opens("f", syscall.O_RDONLY))
			t.must("chmod", chmodAsRoot(t, "f", 0o600))
			return opens("f", syscall.O_RDONLY)
		})
	}},
}

// chmodAsRoot works in the middle of what another user does.
func chmodAsRoot(t *T, path string, mode uint32) error {
	return t.as(0, []int{0}, func() error { return syscall.Chmod(path, mode) })
}
