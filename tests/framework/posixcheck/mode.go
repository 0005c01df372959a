package main

import "syscall"

var chmodChecks = []check{
	{"every mode of a file", ok, func(t *T) error {
		t.file("f", "")
		for _, mode := range []uint32{0, 0o111, 0o222, 0o444, 0o600, 0o640, 0o751, 0o777, 0o1777, 0o2755, 0o4755, 0o7777} {
			t.must("chmod", syscall.Chmod("f", mode))
			t.equal("mode", t.mode("f"), octal(mode))
		}
		return nil
	}},
	{"every mode of a folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		for _, mode := range []uint32{0, 0o500, 0o755, 0o777, 0o1777, 0o2775, 0o3777, 0o7777} {
			t.must("chmod", syscall.Chmod("d", mode))
			t.equal("mode", t.mode("d"), octal(mode))
		}
		return nil
	}},
	{"by descriptor", ok, func(t *T) error {
		t.file("f", "")
		fd := t.open("f", syscall.O_RDONLY, 0)
		t.must("fchmod", syscall.Fchmod(fd, 0o4701))
		t.equal("mode", t.mode("f"), "04701")
		t.equal("mode by descriptor", octal(t.fstat(fd).Mode&0o7777), "04701")
		return nil
	}},
	{"of an unlinked file", ok, func(t *T) error {
		t.file("f", "")
		fd := t.open("f", syscall.O_RDWR, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.must("fchmod", syscall.Fchmod(fd, 0o601))
		t.equal("mode", octal(t.fstat(fd).Mode&0o7777), "0601")
		return nil
	}},
	{"keeps the type", ok, func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o600, 0))
		t.must("chmod", syscall.Chmod("p", 0o777))
		t.equal("type", t.stat("p").Mode&syscall.S_IFMT, syscall.S_IFIFO)
		return nil
	}},
	{"through a symbolic link", ok, func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("chmod", syscall.Chmod("l", 0o604))
		t.equal("mode", t.mode("f"), "0604")
		t.equal("mode of the link", t.mode("l"), "0777")
		return nil
	}},
	{"all names of a file", ok, func(t *T) error {
		t.file("f", "")
		t.must("link", syscall.Link("f", "g"))
		t.must("chmod", syscall.Chmod("g", 0o611))
		t.equal("mode", t.mode("f"), "0611")
		return nil
	}},
	{"by its owner", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, nobody))
		return t.asNobody(func() error { return syscall.Chmod("f", 0o600) })
	}},
	{"by another", is(syscall.EPERM), func(t *T) error {
		t.file("f", "")
		t.must("chmod", syscall.Chmod("f", 0o666))
		return t.asNobody(func() error { return syscall.Chmod("f", 0o600) })
	}},
	{"by its owner through a descriptor for reading", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, nobody))
		fd := t.open("f", syscall.O_RDONLY, 0)
		return t.asNobody(func() error { return syscall.Fchmod(fd, 0o400) })
	}},
	{"setgid of a foreign group is dropped", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, other))
		t.must("as", t.asNobody(func() error { return syscall.Chmod("f", 0o2755) }))
		t.equal("mode", t.mode("f"), "0755")
		return nil
	}},
	{"setgid of a group of the owner's stays", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, other))
		t.must("as", t.as(nobody, []int{nobody, other}, func() error { return syscall.Chmod("f", 0o2755) }))
		t.equal("mode", t.mode("f"), "02755")
		return nil
	}},
	{"an open descriptor keeps its access", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("chown", syscall.Chown("f", nobody, nobody))
		return t.asNobody(func() error {
			fd := t.open("f", syscall.O_RDWR, 0)
			t.must("chmod", syscall.Chmod("f", 0))
			t.refused("open", opens("f", syscall.O_RDONLY), syscall.EACCES)
			t.pwrite(fd, "x", 0)
			t.equal("contents", t.pread(fd, 9, 0), "xbc")
			return nil
		})
	}},
}

var chownChecks = []check{
	{"both", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", 123, 456))
		t.equal("owner", [2]uint32{t.stat("f").Uid, t.stat("f").Gid}, "[123 456]")
		return nil
	}},
	{"only the owner", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", 1, 2))
		t.must("chown", syscall.Chown("f", 7, -1))
		t.equal("owner", [2]uint32{t.stat("f").Uid, t.stat("f").Gid}, "[7 2]")
		return nil
	}},
	{"only the group", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", 1, 2))
		t.must("chown", syscall.Chown("f", -1, 7))
		t.equal("owner", [2]uint32{t.stat("f").Uid, t.stat("f").Gid}, "[1 7]")
		return nil
	}},
	{"neither", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", 1, 2))
		t.must("chown", syscall.Chown("f", -1, -1))
		t.equal("owner", [2]uint32{t.stat("f").Uid, t.stat("f").Gid}, "[1 2]")
		return nil
	}},
	{"large numbers", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", 4_000_000_001, 4_000_000_002))
		t.equal("owner", [2]uint32{t.stat("f").Uid, t.stat("f").Gid}, "[4000000001 4000000002]")
		return nil
	}},
	{"a folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("chown", syscall.Chown("d", 12, 34))
		t.equal("owner", [2]uint32{t.stat("d").Uid, t.stat("d").Gid}, "[12 34]")
		return nil
	}},
	{"by descriptor", ok, func(t *T) error {
		t.file("f", "")
		t.must("fchown", syscall.Fchown(t.open("f", syscall.O_RDONLY, 0), 12, 34))
		t.equal("owner", [2]uint32{t.stat("f").Uid, t.stat("f").Gid}, "[12 34]")
		return nil
	}},
	{"of an unlinked file", ok, func(t *T) error {
		t.file("f", "")
		fd := t.open("f", syscall.O_RDWR, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.must("fchown", syscall.Fchown(fd, 12, 34))
		t.equal("owner", [2]uint32{t.fstat(fd).Uid, t.fstat(fd).Gid}, "[12 34]")
		return nil
	}},
	{"through a symbolic link", ok, func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("chown", syscall.Chown("l", 5, 6))
		t.equal("owner", t.stat("f").Uid, 5)
		t.equal("owner of the link", t.stat("l").Uid, 0)
		return nil
	}},
	{"a symbolic link itself", ok, func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("lchown", syscall.Lchown("l", 5, 6))
		t.equal("owner", t.stat("f").Uid, 0)
		t.equal("owner of the link", [2]uint32{t.stat("l").Uid, t.stat("l").Gid}, "[5 6]")
		return nil
	}},
	{"by another", is(syscall.EPERM), func(t *T) error {
		t.file("f", "")
		return t.asNobody(func() error { return syscall.Chown("f", nobody, nobody) })
	}},
	{"given away by its owner", is(syscall.EPERM), func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, nobody))
		return t.asNobody(func() error { return syscall.Chown("f", other, -1) })
	}},
	{"to a group that the owner is in", ok, func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, nobody))
		t.must("as", t.as(nobody, []int{nobody, other}, func() error { return syscall.Chown("f", -1, other) }))
		t.equal("group", t.stat("f").Gid, other)
		return nil
	}},
	{"to a group that the owner is not in", is(syscall.EPERM), func(t *T) error {
		t.file("f", "")
		t.must("chown", syscall.Chown("f", nobody, nobody))
		return t.asNobody(func() error { return syscall.Chown("f", -1, other) })
	}},
	{"new files belong to their maker", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		t.must("as", t.as(other, []int{77}, func() error { t.file("d/f", ""); return syscall.Mkdir("d/d", 0o700) }))
		t.equal("owner of the file", [2]uint32{t.stat("d/f").Uid, t.stat("d/f").Gid}, "[1234 77]")
		t.equal("owner of the folder", [2]uint32{t.stat("d/d").Uid, t.stat("d/d").Gid}, "[1234 77]")
		return nil
	}},
	{"new links and pipes belong to their maker", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		t.must("as", t.as(other, []int{77}, func() error {
			t.must("mkfifo", syscall.Mknod("d/p", syscall.S_IFIFO|0o600, 0))
			return syscall.Symlink("x", "d/l")
		}))
		t.equal("owner of the pipe", [2]uint32{t.stat("d/p").Uid, t.stat("d/p").Gid}, "[1234 77]")
		t.equal("owner of the link", [2]uint32{t.stat("d/l").Uid, t.stat("d/l").Gid}, "[1234 77]")
		return nil
	}},
}

// umasked runs with this umask.
func umasked(mask int, function func() error) error {
	return alone("", func() { syscall.Umask(mask) }, function)
}

var umaskChecks = []check{
	{"of a file", ok, func(t *T) error {
		t.must("create", umasked(0o027, func() error {
			t.open("f", syscall.O_CREAT|syscall.O_WRONLY, 0o666)
			return nil
		}))
		t.equal("mode", t.mode("f"), "0640")
		return nil
	}},
	{"of a folder", ok, func(t *T) error {
		t.must("mkdir", umasked(0o027, func() error { return syscall.Mkdir("d", 0o777) }))
		t.equal("mode", t.mode("d"), "0750")
		return nil
	}},
	{"of a pipe", ok, func(t *T) error {
		t.must("mkfifo", umasked(0o077, func() error { return syscall.Mknod("p", syscall.S_IFIFO|0o666, 0) }))
		t.equal("mode", t.mode("p"), "0600")
		return nil
	}},
	{"not of a symbolic link", ok, func(t *T) error {
		t.must("symlink", umasked(0o777, func() error { return syscall.Symlink("x", "l") }))
		t.equal("mode", t.mode("l"), "0777")
		return nil
	}},
	{"not of chmod", ok, func(t *T) error {
		t.file("f", "")
		t.must("chmod", umasked(0o777, func() error { return syscall.Chmod("f", 0o666) }))
		t.equal("mode", t.mode("f"), "0666")
		return nil
	}},
	{"everything masked", ok, func(t *T) error {
		t.must("create", umasked(0o777, func() error {
			t.write(t.open("f", syscall.O_CREAT|syscall.O_WRONLY, 0o777), "x")
			return nil
		}))
		t.equal("mode", t.mode("f"), "0")
		return nil
	}},
	{"nothing masked", ok, func(t *T) error {
		t.open("f", syscall.O_CREAT|syscall.O_WRONLY, 0o7777)
		t.equal("mode", t.mode("f"), "07777")
		return nil
	}},
}

// setidFile makes a file of other's with this mode that everybody may write.
func setidFile(t *T, mode uint32) {
	t.file("f", "0123456789")
	t.must("chown", syscall.Chown("f", other, other))
	t.must("chmod", syscall.Chmod("f", mode))
}

func setidRow(name string, before uint32, after string, change func(t *T) error) check {
	return check{name, ok, func(t *T) error {
		setidFile(t, before)
		t.must("the change", change(t))
		t.equal("mode", t.mode("f"), after)
		return nil
	}}
}

func writeAsNobody(t *T) error {
	return t.asNobody(func() error {
		fd := t.open("f", syscall.O_WRONLY, 0)
		t.pwrite(fd, "x", 0)
		t.close(fd)
		return nil
	})
}

var setidChecks = []check{
	setidRow("write by another clears setuid", 0o4777, "0777", writeAsNobody),
	setidRow("write by another clears setgid", 0o2777, "0777", writeAsNobody),
	setidRow("write by another clears both", 0o6777, "0777", writeAsNobody),
	setidRow("write by one of the group keeps setgid without execution", 0o2766, "02766", func(t *T) error {
		return t.as(nobody, []int{other}, func() error { t.pwrite(t.open("f", wronly, 0), "x", 0); return nil })
	}),
	setidRow("write by another keeps the sticky bit", 0o1777, "01777", writeAsNobody),
	setidRow("write by root keeps both", 0o6777, "06777", func(t *T) error {
		fd := t.open("f", syscall.O_WRONLY, 0)
		t.pwrite(fd, "x", 0)
		t.close(fd)
		return nil
	}),
	setidRow("truncate by another clears both", 0o6777, "0777", func(t *T) error {
		return t.asNobody(func() error { return syscall.Truncate("f", 1) })
	}),
	setidRow("ftruncate by another clears both", 0o6777, "0777", func(t *T) error {
		return t.asNobody(func() error { return syscall.Ftruncate(t.open("f", syscall.O_WRONLY, 0), 1) })
	}),
	setidRow("O_TRUNC by another clears both", 0o6777, "0777", func(t *T) error {
		return t.asNobody(func() error { return opens("f", syscall.O_WRONLY|syscall.O_TRUNC) })
	}),
	setidRow("fallocate by another clears both", 0o6777, "0777", func(t *T) error {
		return t.asNobody(func() error { return syscall.Fallocate(t.open("f", syscall.O_WRONLY, 0), 0, 0, 100) })
	}),
	setidRow("copy_file_range by another clears both", 0o6777, "0777", func(t *T) error {
		t.file("g", "abc")
		return t.asNobody(func() error {
			_, err := copyFileRange(t.open("g", syscall.O_RDONLY, 0), nil, t.open("f", syscall.O_WRONLY, 0), nil, 3)
			return err
		})
	}),
	setidRow("chown by root clears both", 0o6755, "0755", func(t *T) error { return syscall.Chown("f", 5, 6) }),
	setidRow("chown by root keeps setgid without execution", 0o2644, "02644", func(t *T) error {
		return syscall.Chown("f", 5, 6)
	}),
	setidRow("chown of the group by the owner clears both", 0o6755, "0755", func(t *T) error {
		return t.as(other, []int{other, 77}, func() error { return syscall.Chown("f", -1, 77) })
	}),
	setidRow("reading keeps both", 0o6755, "06755", func(t *T) error {
		t.contents("f")
		return nil
	}),
	setidRow("a new name keeps both", 0o6755, "06755", func(t *T) error {
		t.must("link", syscall.Link("f", "g"))
		return syscall.Rename("g", "h")
	}),
	{"chown of a folder keeps setgid", ok, func(t *T) error {
		t.mkdir("d", 0o2755)
		t.must("chown", syscall.Chown("d", 5, 6))
		t.equal("mode", t.mode("d"), "02755")
		return nil
	}},
	{"a file in a setgid folder has its group", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		t.must("chown", syscall.Chown("d", 0, 321))
		t.must("chmod", syscall.Chmod("d", 0o2777))
		t.must("as", t.asNobody(func() error { t.file("d/f", ""); return nil }))
		t.equal("group", t.stat("d/f").Gid, 321)
		t.equal("mode", t.mode("d/f"), "0644")
		return nil
	}},
	{"a folder in a setgid folder has its group and the bit", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		t.must("chown", syscall.Chown("d", 0, 321))
		t.must("chmod", syscall.Chmod("d", 0o2777))
		t.must("as", t.asNobody(func() error { return syscall.Mkdir("d/d", 0o755) }))
		t.equal("group", t.stat("d/d").Gid, 321)
		t.equal("mode", t.mode("d/d"), "02755")
		return nil
	}},
	{"pipes and links in a setgid folder have its group", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		t.must("chown", syscall.Chown("d", 0, 321))
		t.must("chmod", syscall.Chmod("d", 0o2777))
		t.must("as", t.asNobody(func() error {
			t.must("mkfifo", syscall.Mknod("d/p", syscall.S_IFIFO|0o600, 0))
			return syscall.Symlink("x", "d/l")
		}))
		t.equal("groups", [2]uint32{t.stat("d/p").Gid, t.stat("d/l").Gid}, "[321 321]")
		return nil
	}},
	{"setgid asked for in a setgid folder of a foreign group is dropped", ok, func(t *T) error {
		t.mkdir("d", 0o777)
		t.must("chown", syscall.Chown("d", 0, 321))
		t.must("chmod", syscall.Chmod("d", 0o2777))
		t.must("as", t.asNobody(func() error {
			t.open("d/f", syscall.O_CREAT|syscall.O_WRONLY, 0o2755)
			return nil
		}))
		t.equal("mode", t.mode("d/f"), "0755")
		return nil
	}},
}

func stickyFolder(t *T) {
	t.mkdir("d", 0o777)
	t.must("chown", syscall.Chown("d", other, other))
	t.must("chmod", syscall.Chmod("d", 0o1777))
	t.file("d/f", "")
	t.mkdir("d/e", 0o777)
}

var stickyChecks = []check{
	{"unlink by another", is(syscall.EPERM), func(t *T) error {
		stickyFolder(t)
		return t.asNobody(func() error { return syscall.Unlink("d/f") })
	}},
	{"rmdir by another", is(syscall.EPERM), func(t *T) error {
		stickyFolder(t)
		return t.asNobody(func() error { return syscall.Rmdir("d/e") })
	}},
	{"rename by another", is(syscall.EPERM), func(t *T) error {
		stickyFolder(t)
		return t.asNobody(func() error { return syscall.Rename("d/f", "d/g") })
	}},
	{"replaced by another", is(syscall.EPERM), func(t *T) error {
		stickyFolder(t)
		return t.asNobody(func() error { t.file("d/mine", ""); return syscall.Rename("d/mine", "d/f") })
	}},
	{"unlink by the owner of the file", ok, func(t *T) error {
		stickyFolder(t)
		t.must("chown", syscall.Chown("d/f", nobody, nobody))
		return t.asNobody(func() error { return syscall.Unlink("d/f") })
	}},
	{"unlink by the owner of the folder", ok, func(t *T) error {
		stickyFolder(t)
		return t.as(other, []int{other}, func() error { return syscall.Unlink("d/f") })
	}},
	{"rename by the owner of the file", ok, func(t *T) error {
		stickyFolder(t)
		t.must("chown", syscall.Chown("d/f", nobody, nobody))
		return t.asNobody(func() error { return syscall.Rename("d/f", "d/g") })
	}},
	{"without the bit anybody may", ok, func(t *T) error {
		stickyFolder(t)
		t.must("chmod", syscall.Chmod("d", 0o777))
		return t.asNobody(func() error { return syscall.Unlink("d/f") })
	}},
}
