package main

import (
	"strings"
	"syscall"
)

// pathChecks: what every call that takes a path says of a path that leads nowhere.
func pathChecks() []check {
	type call struct {
		name  string
		does  func(path string) error
		kinds string // f: follows a last symbolic link; n: the last name need not be there
	}
	var st syscall.Stat_t
	now := syscall.Timespec{Nsec: utimeNow}
	calls := []call{
		{"stat", func(p string) error { return syscall.Stat(p, &st) }, "f"},
		{"lstat", func(p string) error { return syscall.Lstat(p, &st) }, ""},
		{"access", func(p string) error { return syscall.Access(p, 0) }, "f"},
		{"open", func(p string) error { return opens(p, syscall.O_RDONLY) }, "f"},
		{"creat", func(p string) error { return opens(p, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC) }, "fn"},
		{"chmod", func(p string) error { return syscall.Chmod(p, 0o600) }, "f"},
		{"chown", func(p string) error { return syscall.Chown(p, 1, 1) }, "f"},
		{"lchown", func(p string) error { return syscall.Lchown(p, 1, 1) }, ""},
		{"chdir", syscall.Chdir, "f"},
		{"truncate", func(p string) error { return syscall.Truncate(p, 1) }, "f"},
		{"utimensat", func(p string) error { return utimes(p, now, now) }, "f"},
		{"readlink", func(p string) error { _, err := syscall.Readlink(p, make([]byte, 64)); return err }, ""},
		{"unlink", syscall.Unlink, ""},
		{"rmdir", syscall.Rmdir, ""},
		{"mkdir", func(p string) error { return syscall.Mkdir(p, 0o755) }, "n"},
		{"mkfifo", func(p string) error { return syscall.Mknod(p, syscall.S_IFIFO|0o644, 0) }, "n"},
		{"mknod", func(p string) error { return syscall.Mknod(p, syscall.S_IFREG|0o644, 0) }, "n"},
		{"symlink", func(p string) error { return syscall.Symlink("x", p) }, "n"},
		{"link from", func(p string) error { return syscall.Link(p, "new") }, ""},
		{"link to", func(p string) error { return syscall.Link("file", p) }, "n"},
		{"rename from", func(p string) error { return syscall.Rename(p, "new") }, ""},
		{"rename to", func(p string) error { return syscall.Rename("file", p) }, "n"},
		{"getxattr", func(p string) error { _, err := syscall.Getxattr(p, "user.a", nil); return err }, "f"},
		{"setxattr", func(p string) error { return syscall.Setxattr(p, "user.a", []byte("1"), 0) }, "f"},
		{"listxattr", func(p string) error { _, err := syscall.Listxattr(p, nil); return err }, "f"},
		{"removexattr", func(p string) error { return syscall.Removexattr(p, "user.a") }, "f"},
		{"statfs", func(p string) error { var s syscall.Statfs_t; return syscall.Statfs(p, &s) }, "f"},
	}
	nothing := func(*T) {}
	file := func(t *T) { t.file("file", "") }
	circle := func(t *T) {
		t.must("symlink", syscall.Symlink("loop2", "loop"))
		t.must("symlink", syscall.Symlink("loop", "loop2"))
	}
	dangling := func(t *T) { t.must("symlink", syscall.Symlink("missing/there", "dangling")) }
	shut := func(t *T) {
		t.mkdir("shut", 0o777)
		t.file("shut/file", "")
		t.must("chmod", syscall.Chmod("shut", 0))
	}
	faults := []struct {
		name, path string
		want       outcome
		only       func(kinds string) bool
		set        func(t *T) // what has to be there
	}{
		{"a missing name", "missing", is(syscall.ENOENT), func(k string) bool { return !strings.Contains(k, "n") }, nothing},
		{"a missing folder", "missing/x", is(syscall.ENOENT), nil, nothing},
		{"a file as folder", "file/x", is(syscall.ENOTDIR), nil, file},
		{"a name of 256 bytes", strings.Repeat("n", 256), is(syscall.ENAMETOOLONG), nil, nothing},
		{"a folder of 256 bytes", strings.Repeat("n", 256) + "/x", is(syscall.ENAMETOOLONG), nil, nothing},
		{"a path of 4096 bytes", strings.Repeat("./", 2047) + "xx", is(syscall.ENAMETOOLONG), nil, nothing},
		{"links in a circle as folder", "loop/x", is(syscall.ELOOP), nil, circle},
		{"links in a circle", "loop", is(syscall.ELOOP), func(k string) bool { return strings.Contains(k, "f") }, circle},
		{"a link to nowhere", "dangling", is(syscall.ENOENT), func(k string) bool { return k == "f" }, dangling},
		{"a file with a slash", "file/", is(syscall.ENOTDIR), func(k string) bool { return k == "f" }, file},
		{"a folder shut to the caller", "shut/file", is(syscall.EACCES), nil, shut},
	}
	checks := []check{}
	for _, each := range calls {
		for _, fault := range faults {
			if fault.only != nil && !fault.only(each.kinds) {
				continue
			}
			twoNames := each.name == "link to" || each.name == "rename to"
			checks = append(checks, check{each.name + ": " + fault.name, fault.want, func(t *T) error {
				fault.set(t)
				if twoNames && exists("file") != nil {
					t.file("file", "")
				}
				if fault.want.allows(syscall.EACCES) {
					t.must("chmod", syscall.Chmod(".", 0o777))
					if twoNames {
						t.must("chown", syscall.Chown("file", nobody, nobody))
					}
					return t.asNobody(func() error { return each.does(fault.path) })
				}
				return each.does(fault.path)
			}})
		}
	}
	return checks
}
