package files

import (
	"strings"
	"syscall"
	"unsafe"

	"sandlot/agent/internal/wire"
)

// The upper layer of the root as a layer of an image: what overlayfs notes in its own ways becomes
// the whiteouts of the OCI image specification ("Image Layer Filesystem Changeset").

const (
	whiteoutPrefix = ".wh."
	opaqueMark     = ".wh..wh..opq"
	overlayPrefix  = "trusted.overlay."
	resolveNoXdev  = 0x01
)

type layer struct{}

// upperLayer sends the upper layer as an archive.
func (j *job) upperLayer(open func() (int, error)) error {
	fd, err := open()
	written := err != syscall.ENOENT // the first write makes it
	if err != nil && written {
		return about("/", err)
	}
	j.path = "/"
	j.stream.Send(&wire.OK{}, false)
	p := newPacker(j)
	p.layer = &layer{}
	err = nil
	if written {
		defer syscall.Close(fd)
		err = p.contents(fd, "")
	}
	if err == nil {
		err = p.end()
	}
	return j.ended(true, err)
}

// whiteout sends a removed name: overlayfs keeps a character device 0/0 in its place.
func (l *layer) whiteout(p *packer, kind byte, path string, st *syscall.Stat_t) bool {
	if kind != typeChar || st.Rdev != 0 {
		return false
	}
	at := strings.LastIndexByte(path, '/') + 1
	e := entry{name: path[:at] + whiteoutPrefix + path[at:], kind: typeFile, mtime: mtime(st)}
	p.header(&e)
	return true
}

// layerFolder sends a folder of the upper layer.
func (p *packer) layerFolder(fd int, path string, st *syscall.Stat_t) error {
	opaque, _ := xattr(fd, overlayPrefix+"opaque")
	redirect, redirected := xattr(fd, overlayPrefix+"redirect")
	e := p.describe(path+"/", st)
	e.xattrs = xattrs(fd)
	if err := p.header(&e); err != nil {
		return err
	}
	if opaque == "y" || redirected && redirect != "" {
		mark := entry{name: path + "/" + opaqueMark, kind: typeFile, mtime: mtime(st)}
		if err := p.header(&mark); err != nil {
			return err
		}
	}
	if !redirected || redirect == "" {
		return p.contents(fd, path+"/")
	}
	// A folder that was renamed: what lies below it is still in the image, under its old name. As
	// seen through the overlay it is whole.
	merged, err := openMerged(path)
	if err != nil {
		return about("/"+path, err)
	}
	defer syscall.Close(merged)
	whole := *p
	whole.layer = nil
	err = whole.contents(merged, path+"/")
	p.out = whole.out
	return err
}

// openMerged opens a folder of the root, but nothing that is mounted over it.
func openMerged(path string) (int, error) {
	root, err := openat(atCwd, "/", syscall.O_DIRECTORY|oPath, 0)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(root)
	return openResolved(root, path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, resolveInRoot|resolveNoXdev)
}

const maxXattr = 64 << 10

func xattr(fd int, name string) (string, bool) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return "", false
	}
	value := make([]byte, 256)
	for {
		n, err := call(syscall.SYS_FGETXATTR, uintptr(fd), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&value[0])), uintptr(len(value)), 0)
		if err == syscall.ERANGE && len(value) < maxXattr {
			value = make([]byte, maxXattr)
			continue
		}
		if err != nil {
			return "", false
		}
		return string(value[:n]), true
	}
}

// xattrs are the attributes of an open file that belong into an image.
func xattrs(fd int) map[string]string {
	list := make([]byte, 1024)
	n, err := call(syscall.SYS_FLISTXATTR, uintptr(fd), uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)), 0, 0)
	if err == syscall.ERANGE {
		list = make([]byte, maxXattr)
		n, err = call(syscall.SYS_FLISTXATTR, uintptr(fd), uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)), 0, 0)
	}
	if err != nil || n == 0 {
		return nil
	}
	found := map[string]string{}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, overlayPrefix) {
			continue
		}
		if value, ok := xattr(fd, name); ok {
			found[name] = value
		}
	}
	return found
}
