package volume

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"sandlot/agent/internal/wire"
)

func (v *Volumes) mount(m *wire.Mount) (*volume, error) {
	path := filepath.Clean("/" + string(m.Path))
	if path == "/" {
		return nil, fail("mount", path, syscall.EBUSY)
	}
	mode := uint32(m.Mode)
	if err := place(path, mode&syscall.S_IFMT == syscall.S_IFDIR); err != nil {
		return nil, err
	}
	device, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail("open", "/dev/fuse", err)
	}
	options := "fd=" + strconv.Itoa(device) + ",rootmode=" + strconv.FormatUint(uint64(mode), 8) +
		",user_id=0,group_id=0,default_permissions,allow_other"
	if err := syscall.Mount("sandlot", path, "fuse.sandlot", syscall.MS_NOATIME, options); err != nil {
		syscall.Close(device)
		return nil, fail("mount", path, err)
	}
	one := &volume{
		owner: v, path: path, device: device, file: os.NewFile(uintptr(device), "/dev/fuse"), pending: map[uint64]struct{}{}, root: -1,
		locked:    map[uint64]struct{}{},
		writeback: m.Flags&wire.MountWriteback != 0, readonly: m.Flags&wire.MountReadOnly != 0,
	}
	one.hold()
	if one.readonly {
		// Over itself: what programs see cannot be written to, and a nudge can be.
		err = syscall.Mount(path, path, "", syscall.MS_BIND, "")
		if err == nil {
			flags := uintptr(syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_RDONLY | syscall.MS_NOATIME)
			err = syscall.Mount("", path, "", flags, "")
		}
		if err != nil {
			one.unmount(syscall.MNT_DETACH)
			one.file.Close()
			return nil, fail("mount", path, err)
		}
	}
	return one, nil
}

// hold keeps the volume itself in reach, whatever is mounted over it.
func (one *volume) hold() {
	if fd, err := syscall.Open(one.path, oPath|syscall.O_CLOEXEC, 0); err == nil {
		one.root = fd
	}
}

// unmount takes the mounts away.
func (one *volume) unmount(flags int) error {
	if one.readonly {
		if err := syscall.Unmount(one.path, flags); err != nil && err != syscall.EINVAL {
			return err
		}
	}
	if one.root >= 0 {
		syscall.Close(one.root)
		one.root = -1
	}
	err := syscall.Unmount(one.path, flags)
	if err == syscall.EINVAL { // somebody else has done it
		err = nil
	}
	if err != nil {
		one.hold()
		if one.readonly {
			syscall.Mount(one.path, one.path, "", syscall.MS_BIND, "")
			syscall.Mount("", one.path, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY|syscall.MS_NOATIME, "")
		}
	}
	return err
}

// place makes what a volume is mounted on: a folder, or a file for the volume of one file.
func place(path string, folder bool) error {
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err == nil {
		file.Close()
	}
	return err
}
