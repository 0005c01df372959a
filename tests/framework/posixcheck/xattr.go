package main

import (
	"fmt"
	"strings"
	"syscall"
)

func (t *T) attribute(path, name string) string {
	buffer := make([]byte, 65536)
	n, err := syscall.Getxattr(path, name, buffer)
	t.must("getxattr "+name, err)
	return string(buffer[:n])
}

func valueRow(name, value string) check {
	return check{name, ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", syscall.Setxattr("f", "user.a", []byte(value), 0))
		t.equal("value", t.attribute("f", "user.a"), value)
		n, err := syscall.Getxattr("f", "user.a", nil)
		t.must("size", err)
		t.equal("size", n, len(value))
		return nil
	}}
}

func attributeNameRow(name, attribute string) check {
	return check{name, ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", syscall.Setxattr("f", attribute, []byte("v"), 0))
		t.equal("names", fmt.Sprintf("%q", t.attributes("f")), fmt.Sprintf("%q", []string{attribute}))
		t.equal("value", t.attribute("f", attribute), "v")
		return nil
	}}
}

func set(path, name, value string, flags int) error {
	return syscall.Setxattr(path, name, []byte(value), flags)
}

func get(path, name string) error {
	_, err := syscall.Getxattr(path, name, make([]byte, 100))
	return err
}

var xattrChecks = []check{
	valueRow("a value", "value"),
	valueRow("no bytes", ""),
	valueRow("bytes of all kinds", pattern(256)),
	valueRow("1000 bytes", pattern(1000)),
	valueRow("3000 bytes", pattern(3000)),
	attributeNameRow("a name of 255 bytes", "user."+strings.Repeat("n", 250)),
	attributeNameRow("a name with a dot and a space", "user.a.b c"),
	attributeNameRow("a name that is not UTF-8", "user.\xff\xfe"),
	{"a name of 256 bytes", is(syscall.ERANGE), func(t *T) error { t.file("f", ""); return set("f", "user."+strings.Repeat("n", 251), "", 0) }},
	{"no name", is(syscall.ERANGE), func(t *T) error { t.file("f", ""); return set("f", "", "", 0) }},
	{"a name without its space", is(syscall.EOPNOTSUPP), func(t *T) error { t.file("f", ""); return set("f", "nowhere.a", "", 0) }},
	{"only the space of a name", is(syscall.EINVAL), func(t *T) error { t.file("f", ""); return set("f", "user.", "x", 0) }},
	{"a value over 64 KiB", is(syscall.E2BIG), func(t *T) error { t.file("f", ""); return set("f", "user.a", strings.Repeat("v", 65537), 0) }},
	{"get one that is not there", is(syscall.ENODATA), func(t *T) error { t.file("f", ""); return get("f", "user.a") }},
	{"remove one that is not there", is(syscall.ENODATA), func(t *T) error { t.file("f", ""); return syscall.Removexattr("f", "user.a") }},
	{"replaced", ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.a", "a long value", 0))
		t.must("setxattr", set("f", "user.a", "short", 0))
		t.equal("value", t.attribute("f", "user.a"), "short")
		return nil
	}},
	{"removed", is(syscall.ENODATA), func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.a", "1", 0))
		t.must("removexattr", syscall.Removexattr("f", "user.a"))
		t.equal("names", t.attributes("f"), "[]")
		return get("f", "user.a")
	}},
	{"CREATE a new one", ok, func(t *T) error { t.file("f", ""); return set("f", "user.a", "1", xattrCreate) }},
	{"CREATE one that is there", is(syscall.EEXIST), func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.a", "1", 0))
		err := set("f", "user.a", "2", xattrCreate)
		t.equal("value", t.attribute("f", "user.a"), "1")
		return err
	}},
	{"REPLACE one that is there", ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.a", "1", 0))
		t.must("setxattr", set("f", "user.a", "2", xattrReplace))
		t.equal("value", t.attribute("f", "user.a"), "2")
		return nil
	}},
	{"REPLACE one that is not there", is(syscall.ENODATA), func(t *T) error { t.file("f", ""); return set("f", "user.a", "1", xattrReplace) }},
	{"unknown flags", is(syscall.EINVAL), func(t *T) error { t.file("f", ""); return set("f", "user.a", "1", 8) }},
	{"several", ok, func(t *T) error {
		t.file("f", "")
		for number := 0; number < 20; number++ {
			t.must("setxattr", set("f", fmt.Sprint("user.n", number), fmt.Sprint("v", number), 0))
		}
		t.equal("names", len(t.attributes("f")), 20)
		for number := 0; number < 20; number++ {
			t.equal("value", t.attribute("f", fmt.Sprint("user.n", number)), fmt.Sprint("v", number))
		}
		return nil
	}},
	{"into a buffer that is too small", is(syscall.ERANGE), func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.a", "123456789", 0))
		_, err := syscall.Getxattr("f", "user.a", make([]byte, 3))
		return err
	}},
	{"listed into a buffer that is too small", is(syscall.ERANGE), func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.abcdef", "1", 0))
		_, err := syscall.Listxattr("f", make([]byte, 3))
		return err
	}},
	{"the size of the list", ok, func(t *T) error {
		t.file("f", "")
		before, err := syscall.Listxattr("f", nil)
		t.must("listxattr", err)
		t.must("setxattr", set("f", "user.abc", "1", 0))
		after, err := syscall.Listxattr("f", nil)
		t.must("listxattr", err)
		t.equal("more by", after-before, len("user.abc")+1)
		return nil
	}},
	{"of a folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("setxattr", set("d", "user.a", "1", 0))
		t.equal("value", t.attribute("d", "user.a"), "1")
		return nil
	}},
	{"by descriptor", ok, func(t *T) error {
		t.file("f", "")
		fd := t.open("f", rdonly, 0)
		t.must("fsetxattr", fsetxattr(fd, "user.a", []byte("123")))
		buffer := make([]byte, 9)
		n, err := fgetxattr(fd, "user.a", buffer)
		t.must("fgetxattr", err)
		t.equal("value", string(buffer[:n]), "123")
		return nil
	}},
	{"of an unlinked file", ok, func(t *T) error {
		t.file("f", "")
		fd := t.open("f", rdonly, 0)
		t.must("unlink", syscall.Unlink("f"))
		t.must("fsetxattr", fsetxattr(fd, "user.a", []byte("123")))
		n, err := fgetxattr(fd, "user.a", make([]byte, 9))
		t.must("fgetxattr", err)
		t.equal("size", n, 3)
		return nil
	}},
	{"through a symbolic link", ok, func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("setxattr", set("l", "user.a", "1", 0))
		t.equal("value", t.attribute("f", "user.a"), "1")
		return nil
	}},
	{"user's of a symbolic link itself", is(syscall.EPERM), func(t *T) error {
		t.must("symlink", syscall.Symlink("f", "l"))
		return lsetxattr("l", "user.a", []byte("1"))
	}},
	{"get of a symbolic link itself", is(syscall.ENODATA, syscall.EPERM, syscall.EOPNOTSUPP), func(t *T) error {
		t.must("symlink", syscall.Symlink("f", "l"))
		_, err := lgetxattr("l", "user.a", nil)
		return err
	}},
	{"user's of a pipe", is(syscall.EPERM), func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		return set("p", "user.a", "1", 0)
	}},
	{"trusted by root", ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "trusted.a", "1", 0))
		t.equal("value", t.attribute("f", "trusted.a"), "1")
		return nil
	}},
	{"trusted by another", is(syscall.EPERM), func(t *T) error {
		t.file("f", "")
		t.must("chmod", syscall.Chmod("f", 0o666))
		return t.asNobody(func() error { return set("f", "trusted.a", "1", 0) })
	}},
	{"security by root", ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "security.sandlot", "1", 0))
		t.equal("value", t.attribute("f", "security.sandlot"), "1")
		return nil
	}},
	{"a capability is cleared by a write", is(syscall.ENODATA), func(t *T) error {
		t.file("f", "abc")
		capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		t.must("setxattr", set("f", "security.capability", capability, 0))
		t.pwrite(t.open("f", wronly, 0), "x", 0)
		return get("f", "security.capability")
	}},
	{"they stay through rename and link", ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.a", "1", 0))
		t.must("rename", syscall.Rename("f", "g"))
		t.must("link", syscall.Link("g", "h"))
		t.equal("value", t.attribute("h", "user.a"), "1")
		return nil
	}},
	{"a new file has none", ok, func(t *T) error {
		t.file("f", "")
		t.must("setxattr", set("f", "user.a", "1", 0))
		t.must("unlink", syscall.Unlink("f"))
		t.file("f", "")
		t.equal("names", t.attributes("f"), "[]")
		return nil
	}},
	{"in a sticky folder by another", is(syscall.EPERM), func(t *T) error {
		t.mkdir("d", 0o1777)
		return t.asNobody(func() error { return set("d", "user.a", "1", 0) })
	}},
}
