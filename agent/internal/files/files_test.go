package files

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHeadersAreReadByOthers(t *testing.T) {
	long := strings.Repeat("d/", 80) + "f"
	for _, e := range []entry{
		{name: "f", kind: typeFile, mode: 0o6755, uid: 1, gid: 2, size: 3, mtime: 1e18},
		{name: long, kind: typeFile, mode: 0o600, mtime: 1e18 + 1},
		{name: "\xff\n", kind: typeSym, mode: 0o777, target: long, mtime: -1},
		{name: "d/", kind: typeFolder, mode: 0o1777, uid: 1 << 30, gid: 1<<32 - 2, mtime: -5e9},
		{name: "big", kind: typeFile, size: 1 << 40, mtime: 9e18},
		{name: "dev", kind: typeChar, device: device(259, 70000)},
		{name: "x", kind: typeFile, xattrs: map[string]string{"user.k": "v=\n", "security.capability": "\x01"}},
		{name: strings.Repeat("n", 99), kind: typeLink, target: strings.Repeat("t", 101)},
	} {
		data := e.append(nil)
		if len(data)%record != 0 {
			t.Fatalf("%q: %d bytes", e.name, len(data))
		}
		h, err := tar.NewReader(bytes.NewReader(data)).Next()
		if err != nil {
			t.Fatalf("%q: %v", e.name, err)
		}
		if h.Name != e.name || h.Typeflag != e.kind || h.Mode != int64(e.mode) || h.Linkname != e.target ||
			h.Uid != int(e.uid) || h.Gid != int(e.gid) || h.Size != e.size || !h.ModTime.Equal(time.Unix(0, e.mtime)) {
			t.Errorf("%q is read as %+v", e.name, h)
		}
		if uint64(h.Devmajor) != major(e.device) || uint64(h.Devminor) != minor(e.device) {
			t.Errorf("%q has the device %d, %d", e.name, h.Devmajor, h.Devminor)
		}
		for name, value := range e.xattrs {
			if h.PAXRecords["SCHILY.xattr."+name] != value {
				t.Errorf("%q has the attributes %v", e.name, h.PAXRecords)
			}
		}
	}
}

func TestRecordsCountTheirOwnDigits(t *testing.T) {
	for size := range 1200 {
		r := appendRecord(nil, "k", strings.Repeat("v", size))
		length, _, _ := strings.Cut(string(r), " ")
		if length != itoa(len(r)) {
			t.Fatalf("%d bytes say %s", len(r), length)
		}
	}
}

func TestNamesInArchives(t *testing.T) {
	for raw, want := range map[string]string{
		"a": "a", "./a/": "a", "/etc/x": "etc/x", "a//b/./c": "a/b/c", "./": "", "..a": "..a",
	} {
		if got, ok := entryName(raw); got != want || !ok {
			t.Errorf("%q is %q, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{"..", "../a", "a/..", "a/../b", "a\x00b"} {
		if _, ok := entryName(raw); ok {
			t.Errorf("%q is accepted", raw)
		}
	}
}

func TestPaths(t *testing.T) {
	for p, want := range map[string][2]string{
		"/a/b": {"/a/", "b"}, "/a": {"/", "a"}, "/a/b/": {"/a/", "b"}, "/": {"/", "."}, "a": {".", "a"},
	} {
		if dir, name := split(p); dir != want[0] || name != want[1] {
			t.Errorf("%q is %q and %q", p, dir, name)
		}
	}
	for _, cwd := range []string{"", "/"} {
		if p, _ := absolute([]byte(cwd), []byte("a")); p != "/a" {
			t.Error(p)
		}
	}
	if p, _ := absolute([]byte("/w"), []byte("a/../b")); p != "/w/a/../b" {
		t.Error(p)
	}
	if _, err := absolute(nil, nil); err != syscall.ENOENT {
		t.Error(err)
	}
}

func TestRemovingDoesNotFollowLinks(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o755)
	os.Mkdir(filepath.Join(dir, "kept"), 0o755)
	os.WriteFile(filepath.Join(dir, "kept", "f"), nil, 0o644)
	os.Symlink("../../kept", filepath.Join(dir, "tree", "sub", "link"))
	for i := range 3000 {
		os.WriteFile(filepath.Join(dir, "tree", "sub", itoa(i)), nil, 0o644)
	}
	if err := remove(filepath.Join(dir, "tree"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kept", "f")); err != nil {
		t.Error(err)
	}
	if err := remove(filepath.Join(dir, "tree"), 1); err != syscall.ENOENT {
		t.Error(err)
	}
}

func TestFinalPathFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	os.Symlink("d/two", filepath.Join(dir, "one"))
	os.Symlink("../file", filepath.Join(dir, "d", "two"))
	os.Symlink("loop", filepath.Join(dir, "loop"))
	got, err := finalPath(filepath.Join(dir, "one"))
	if err != nil || filepath.Clean(got) != filepath.Join(dir, "file") {
		t.Error(got, err)
	}
	if _, err := finalPath(filepath.Join(dir, "loop")); err != syscall.ELOOP {
		t.Error(err)
	}
}

func TestWritingPastTheCache(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	fd, err := openat(atCwd, name, syscall.O_RDWR|syscall.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	data := make([]byte, 3*piece+77)
	for i := range data {
		data[i] = byte(i % 251)
	}
	s := sink{fd: fd}
	for rest := data; len(rest) > 0; {
		n, err := s.write(rest[:min(len(rest), piece)], len(rest) > piece)
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, data) {
		t.Error("what was written is not what is there", err)
	}
	if !resident(fd, 0, int64(len(data))) {
		t.Error("what was just read is in the cache")
	}
}
