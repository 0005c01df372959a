package main

import (
	"fmt"
	"strings"
	"syscall"
)

var renameChecks = []check{
	{"a file", is(syscall.ENOENT), func(t *T) error {
		t.file("f", "abc")
		inode := t.stat("f").Ino
		t.must("rename", syscall.Rename("f", "g"))
		t.equal("contents", t.contents("g"), "abc")
		t.equal("inode", t.stat("g").Ino, inode)
		t.equal("names", t.names("."), "[g]")
		return exists("f")
	}},
	{"a folder with what is in it", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("d/e", 0o755)
		t.file("d/e/f", "abc")
		t.must("rename", syscall.Rename("d", "x"))
		t.equal("contents", t.contents("x/e/f"), "abc")
		t.refused("the old name", exists("d/e/f"), syscall.ENOENT)
		return nil
	}},
	{"into another folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("e", 0o755)
		t.file("d/f", "abc")
		t.must("rename", syscall.Rename("d/f", "e/g"))
		t.equal("contents", t.contents("e/g"), "abc")
		t.equal("names", fmt.Sprint(t.names("d"), t.names("e")), "[] [g]")
		return nil
	}},
	{"a folder into another one", ok, func(t *T) error {
		t.mkdir("a", 0o755)
		t.mkdir("b", 0o755)
		t.mkdir("a/d", 0o755)
		t.file("a/d/f", "abc")
		t.must("rename", syscall.Rename("a/d", "b/d"))
		t.equal("links", [2]uint64{t.links("a"), t.links("b")}, "[2 3]")
		fd := t.open("b/d/..", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		t.equal("its parent's inode", t.fstat(fd).Ino, t.stat("b").Ino)
		t.equal("contents", t.contents("b/d/f"), "abc")
		return nil
	}},
	{"over a file", ok, func(t *T) error {
		t.file("f", "new")
		t.file("g", "old, and longer")
		t.must("rename", syscall.Rename("f", "g"))
		t.equal("contents", t.contents("g"), "new")
		t.equal("names", t.names("."), "[g]")
		return nil
	}},
	{"over an open file", ok, func(t *T) error {
		t.file("f", "new")
		t.file("g", "old")
		fd := t.open("g", syscall.O_RDWR, 0)
		t.must("rename", syscall.Rename("f", "g"))
		t.equal("the old one by its descriptor", t.pread(fd, 9, 0), "old")
		t.equal("its links", t.fstat(fd).Nlink, 0)
		t.pwrite(fd, "OLD", 0)
		t.equal("the new one", t.contents("g"), "new")
		return nil
	}},
	{"an open file", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", syscall.O_RDWR, 0)
		t.must("rename", syscall.Rename("f", "g"))
		t.pwrite(fd, "X", 0)
		t.equal("contents", t.contents("g"), "Xbc")
		t.file("f", "other")
		t.pwrite(fd, "Y", 1)
		t.equal("contents", t.contents("g"), "XYc")
		t.equal("contents of the one that took its name", t.contents("f"), "other")
		return nil
	}},
	{"over one of several names", ok, func(t *T) error {
		t.file("f", "new")
		t.file("g", "old")
		t.must("link", syscall.Link("g", "h"))
		t.must("rename", syscall.Rename("f", "g"))
		t.equal("links", t.links("h"), 1)
		t.equal("contents", t.contents("h"), "old")
		return nil
	}},
	{"over an empty folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.file("d/f", "")
		t.mkdir("e", 0o755)
		t.must("rename", syscall.Rename("d", "e"))
		t.equal("names", t.names("e"), "[f]")
		return nil
	}},
	{"over a full folder", is(syscall.ENOTEMPTY, syscall.EEXIST), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("e", 0o755)
		t.file("e/f", "")
		return syscall.Rename("d", "e")
	}},
	{"a file over a folder", is(syscall.EISDIR), func(t *T) error {
		t.file("f", "")
		t.mkdir("d", 0o755)
		return syscall.Rename("f", "d")
	}},
	{"a folder over a file", is(syscall.ENOTDIR), func(t *T) error {
		t.file("f", "")
		t.mkdir("d", 0o755)
		return syscall.Rename("d", "f")
	}},
	{"a folder into itself", is(syscall.EINVAL), func(t *T) error { t.mkdir("d", 0o755); return syscall.Rename("d", "d/e") }},
	{"a folder below itself", is(syscall.EINVAL), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("d/e", 0o755)
		return syscall.Rename("d", "d/e/f")
	}},
	{"over an ancestor", is(syscall.ENOTEMPTY, syscall.EEXIST), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("d/e", 0o755)
		return syscall.Rename("d/e", "d")
	}},
	{"to itself", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("rename", syscall.Rename("f", "f"))
		t.equal("contents", t.contents("f"), "abc")
		return nil
	}},
	{"to another name of the same file does nothing", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("link", syscall.Link("f", "g"))
		t.must("rename", syscall.Rename("f", "g"))
		t.equal("names", t.names("."), "[f g]")
		t.equal("links", t.links("f"), 2)
		return nil
	}},
	{"of .", is(syscall.EBUSY, syscall.EINVAL), func(t *T) error { t.mkdir("d", 0o755); return syscall.Rename("d/.", "e") }},
	{"of ..", is(syscall.EBUSY, syscall.EINVAL), func(t *T) error { t.mkdir("d", 0o755); return syscall.Rename("d/..", "e") }},
	{"a file to a name with a slash", is(syscall.ENOTDIR), func(t *T) error { t.file("f", ""); return syscall.Rename("f", "g/") }},
	{"a folder to a name with a slash", ok, func(t *T) error { t.mkdir("d", 0o755); return syscall.Rename("d", "e/") }},
	{"a symbolic link, not what it names", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("rename", syscall.Rename("l", "m"))
		t.equal("type", t.stat("m").Mode&syscall.S_IFMT, syscall.S_IFLNK)
		t.equal("contents", t.contents("m"), "abc")
		return nil
	}},
	{"over a symbolic link, not what it names", ok, func(t *T) error {
		t.file("f", "abc")
		t.file("new", "new")
		t.must("symlink", syscall.Symlink("f", "l"))
		t.must("rename", syscall.Rename("new", "l"))
		t.equal("contents", t.contents("f"), "abc")
		t.equal("type", t.stat("l").Mode&syscall.S_IFMT, syscall.S_IFREG)
		return nil
	}},
	{"a folder over a link to a folder", is(syscall.ENOTDIR), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("e", 0o755)
		t.must("symlink", syscall.Symlink("e", "l"))
		return syscall.Rename("d", "l")
	}},
	{"a pipe", ok, func(t *T) error {
		t.must("mkfifo", syscall.Mknod("p", syscall.S_IFIFO|0o644, 0))
		t.must("rename", syscall.Rename("p", "q"))
		t.equal("type", t.stat("q").Mode&syscall.S_IFMT, syscall.S_IFIFO)
		return nil
	}},
	{"a working folder", ok, func(t *T) error {
		t.mkdir("d", 0o755)
		t.must("chdir", syscall.Chdir("d"))
		t.must("rename", syscall.Rename("../d", "../e"))
		t.file("f", "abc")
		t.equal("contents", t.contents("../e/f"), "abc")
		return nil
	}},
	{"to another file system", is(syscall.EXDEV), func(t *T) error { t.file("f", ""); return syscall.Rename("f", elsewhere(t)+"/x") }},
	{"case only", ok, func(t *T) error {
		t.file("name", "abc")
		t.must("rename", syscall.Rename("name", "NAME"))
		t.equal("names", t.names("."), "[NAME]")
		return nil
	}},
	{"back and forth many times", ok, func(t *T) error {
		t.file("a", "abc")
		for turn := 0; turn < 50; turn++ {
			t.must("rename", syscall.Rename("a", "b"))
			t.must("rename", syscall.Rename("b", "a"))
		}
		t.equal("contents", t.contents("a"), "abc")
		return nil
	}},
	{"the dance of an editor", ok, func(t *T) error {
		t.file("text", "first")
		for turn := 0; turn < 20; turn++ {
			t.file("text.new", fmt.Sprint("turn ", turn))
			fd := t.open("text.new", syscall.O_RDWR, 0)
			t.must("fsync", syscall.Fsync(fd))
			t.close(fd)
			t.must("rename", syscall.Rename("text", "text~"))
			t.must("rename", syscall.Rename("text.new", "text"))
			t.equal("contents", t.contents("text"), fmt.Sprint("turn ", turn))
			t.must("unlink", syscall.Unlink("text~"))
		}
		t.equal("names", t.names("."), "[text]")
		return nil
	}},
}

var renameat2Checks = []check{
	{"no flags", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("renameat2", renameat2("f", "g", 0))
		t.equal("contents", t.contents("g"), "abc")
		return nil
	}},
	{"NOREPLACE to a free name", ok, func(t *T) error {
		t.file("f", "abc")
		t.must("renameat2", renameat2("f", "g", renameNoReplace))
		t.equal("contents", t.contents("g"), "abc")
		return nil
	}},
	{"NOREPLACE to a taken name", is(syscall.EEXIST), func(t *T) error {
		t.file("f", "f")
		t.file("g", "g")
		err := renameat2("f", "g", renameNoReplace)
		t.equal("contents", t.contents("f")+t.contents("g"), "fg")
		return err
	}},
	{"NOREPLACE to an empty folder", is(syscall.EEXIST), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("e", 0o755)
		return renameat2("d", "e", renameNoReplace)
	}},
	{"NOREPLACE to a dangling link", is(syscall.EEXIST), func(t *T) error {
		t.file("f", "")
		t.must("symlink", syscall.Symlink("x", "l"))
		return renameat2("f", "l", renameNoReplace)
	}},
	{"EXCHANGE of two files", ok, func(t *T) error {
		t.file("f", "f")
		t.file("g", "g")
		inodes := [2]uint64{t.stat("g").Ino, t.stat("f").Ino}
		t.must("renameat2", renameat2("f", "g", renameExchange))
		t.equal("contents", t.contents("f")+t.contents("g"), "gf")
		t.equal("inodes", [2]uint64{t.stat("f").Ino, t.stat("g").Ino}, inodes)
		return nil
	}},
	{"EXCHANGE of a file and a folder", ok, func(t *T) error {
		t.file("f", "f")
		t.mkdir("d", 0o755)
		t.file("d/x", "x")
		t.must("renameat2", renameat2("f", "d", renameExchange))
		t.equal("contents", t.contents("d")+t.contents("f/x"), "fx")
		return nil
	}},
	{"EXCHANGE between folders", ok, func(t *T) error {
		t.mkdir("a", 0o755)
		t.mkdir("b", 0o755)
		t.mkdir("a/d", 0o755)
		t.file("b/f", "f")
		t.must("renameat2", renameat2("a/d", "b/f", renameExchange))
		t.equal("contents", t.contents("a/d"), "f")
		t.equal("links", [2]uint64{t.links("a"), t.links("b")}, "[2 3]")
		return nil
	}},
	{"EXCHANGE with a missing name", is(syscall.ENOENT), func(t *T) error { t.file("f", ""); return renameat2("f", "g", renameExchange) }},
	{"EXCHANGE with an ancestor", is(syscall.EINVAL), func(t *T) error {
		t.mkdir("d", 0o755)
		t.mkdir("d/e", 0o755)
		return renameat2("d", "d/e", renameExchange)
	}},
	{"EXCHANGE of open files", ok, func(t *T) error {
		t.file("f", "f")
		t.file("g", "g")
		one := t.open("f", syscall.O_RDWR, 0)
		t.must("renameat2", renameat2("f", "g", renameExchange))
		t.pwrite(one, "F", 0)
		t.equal("contents", t.contents("f")+t.contents("g"), "gF")
		return nil
	}},
	{"NOREPLACE and EXCHANGE", is(syscall.EINVAL), func(t *T) error {
		t.file("f", "")
		t.file("g", "")
		return renameat2("f", "g", renameNoReplace|renameExchange)
	}},
	{"an unknown flag", is(syscall.EINVAL), func(t *T) error { t.file("f", ""); return renameat2("f", "g", 1<<20) }},
}

// nameChecks: names are bytes, and all come back as they were given.
func nameChecks() []check {
	odd := []struct{ name, is string }{
		{"255 bytes", strings.Repeat("n", 255)}, {"254 bytes", strings.Repeat("n", 254)},
		{"a newline", "a\nb"}, {"only a newline", "\n"}, {"a space at the end", "a "}, {"only spaces", "   "},
		{"a tab and a bell", "\t\a"}, {"bytes that are not UTF-8", "\xff\xfe\x80"}, {"a lone continuation", "a\x80b"},
		{"a surrogate half", "\xed\xa0\x80"}, {"UTF-8 of four bytes", "🐼"}, {"85 characters of three bytes", strings.Repeat("界", 85)},
		{"a composed letter", "\u00e9"}, {"a decomposed letter", "e\u0301"}, {"a dash", "-rf"}, {"three dots", "..."},
		{"a dot at the end", "a."}, {"two dots and more", "..a"}, {"a hidden name", ".hidden"}, {"a backslash", "a\\b"},
		{"quotes", "'\"`"}, {"a star", "*?[x]"}, {"a colon", "a:b"}, {"a percent sign", "%00%2f"}, {"every byte but two", everyByte()},
		{"a whiteout", ".wh.name"}, {"an opaque mark", ".wh..wh..opq"}, {"a name of FUSE's", ".fuse_hidden0000000100000001"},
		{"a device of DOS", "CON"}, {"one byte", "x"},
	}
	checks := []check{}
	for _, each := range odd {
		name := each.is
		checks = append(checks, check{each.name, ok, func(t *T) error {
			t.file(name, "abc")
			t.equal("names", fmt.Sprintf("%q", t.names(".")), fmt.Sprintf("%q", []string{name}))
			t.equal("contents", t.contents(name), "abc")
			t.must("rename", syscall.Rename(name, "plain"))
			t.must("rename", syscall.Rename("plain", name))
			t.must("unlink", syscall.Unlink(name))
			t.must("mkdir", syscall.Mkdir(name, 0o755))
			t.file(name+"/"+name, "abc")
			t.must("symlink", syscall.Symlink(name, "l"))
			t.equal("contents", t.contents("l/"+name), "abc")
			return nil
		}})
	}
	return append(checks,
		check{"composed and decomposed are two", ok, func(t *T) error {
			t.file("\u00e9", "1")
			t.file("e\u0301", "2")
			t.equal("contents", t.contents("\u00e9")+t.contents("e\u0301"), "12")
			return nil
		}},
		check{"upper and lower case are two", ok, func(t *T) error {
			t.file("a", "1")
			t.file("A", "2")
			t.equal("contents", t.contents("a")+t.contents("A"), "12")
			return nil
		}},
		check{"256 bytes of UTF-8", is(syscall.ENAMETOOLONG), func(t *T) error {
			return opens(strings.Repeat("é", 128), syscall.O_CREAT|syscall.O_WRONLY)
		}},
		check{"a path of many long names", ok, func(t *T) error {
			path := ""
			for part := 0; part < 14; part++ {
				path += strings.Repeat("p", 255) + "/"
				t.must("mkdir", syscall.Mkdir(path, 0o755))
			}
			t.file(path+"f", "abc")
			t.equal("contents", t.contents(path+"f"), "abc")
			return nil
		}},
		check{"slashes in a row", ok, func(t *T) error {
			t.mkdir("d", 0o755)
			t.file("d//./f", "abc")
			t.equal("contents", t.contents("d/.//../d///f"), "abc")
			return nil
		}},
	)
}

func everyByte() string {
	all := []byte{}
	for each := 1; each < 256; each++ {
		if each != '/' {
			all = append(all, byte(each))
		}
	}
	return string(all)
}
