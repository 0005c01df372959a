// Package mount puts together the root that the processes see, and takes it down.
package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const blkFlsBuf = 0x1261

// Where the parts are mounted in the initramfs.
const (
	imageDir = "/image"
	diskDir  = "/disk"
	rootDir  = "/root"
)

// Root is a mounted root.
type Root struct {
	old int // the initramfs, from which the disk is still in reach
}

// Mount mounts the image and the disk and makes an overlay of both the root of the agent.
func Mount(imageDevice, imageType, diskDevice, diskType string) (*Root, error) {
	old, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail("open", "/", err)
	}
	undo, err := mountParts(imageDevice, imageType, diskDevice, diskType)
	if err == nil {
		err = kernelFiles()
	}
	if err == nil {
		err = enter()
	}
	if err != nil {
		syscall.Unmount(rootDir, syscall.MNT_DETACH)
		for _, dir := range undo {
			syscall.Unmount(dir, syscall.MNT_DETACH)
		}
		syscall.Close(old)
		return nil, err
	}
	return &Root{old: old}, nil
}

func mountParts(imageDevice, imageType, diskDevice, diskType string) (undo []string, err error) {
	image, err := device(imageDevice)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{imageDir, diskDir, rootDir} {
		os.MkdirAll(dir, 0o755)
	}
	if err := syscall.Mount(image, imageDir, imageType, syscall.MS_RDONLY|syscall.MS_NOATIME, ""); err != nil {
		return nil, fail("mount", image, err)
	}
	undo = []string{imageDir}
	if diskDevice == "" {
		err = syscall.Mount("tmpfs", diskDir, "tmpfs", syscall.MS_NOATIME, "mode=755")
	} else {
		var disk string
		if disk, err = device(diskDevice); err != nil {
			return undo, err
		}
		data := ""
		if diskType == "ext4" {
			data = "noinit_itable" // else a thread writes zeros to the whole disk
		}
		err = syscall.Mount(disk, diskDir, diskType, syscall.MS_NOATIME, data)
	}
	if err != nil {
		return undo, fail("mount", "disk "+diskDevice, err)
	}
	undo = []string{diskDir, imageDir}
	prepareUpper()
	// Directories of the image can be renamed like any others (redirect_dir), files of both layers
	// keep one device number (xino), and a file is either wholly above or wholly below (metacopy).
	// The layers belong together for good, so nothing needs an index.
	options := "lowerdir=" + imageDir + ",upperdir=" + diskDir + "/upper,workdir=" + diskDir + "/work" +
		",redirect_dir=on,index=off,metacopy=off,xino=auto"
	if err := syscall.Mount("overlay", rootDir, "overlay", syscall.MS_NOATIME, options); err != nil {
		return undo, fail("mount", "overlay", err)
	}
	return undo, nil
}

// prepareUpper sees to it that the upper layer exists and, since the root directory itself comes
// from there, that a new one looks like the image's. New disks bring both folders: to write to a
// cold file system would cost an emulated machine 18 ms.
func prepareUpper() {
	const mark = diskDir + "/work/work" // made by the first overlay
	var image, upper, seen syscall.Stat_t
	if syscall.Lstat(mark, &seen) == nil || syscall.Stat(imageDir, &image) != nil {
		return
	}
	if syscall.Stat(diskDir+"/upper", &upper) != nil {
		os.Mkdir(diskDir+"/work", 0o700)
		os.Mkdir(diskDir+"/upper", 0o755)
		syscall.Stat(diskDir+"/upper", &upper)
	}
	if upper.Uid != image.Uid || upper.Gid != image.Gid {
		os.Chown(diskDir+"/upper", int(image.Uid), int(image.Gid))
	}
	if upper.Mode&0o7777 != image.Mode&0o7777 {
		syscall.Chmod(diskDir+"/upper", image.Mode&0o7777)
	}
}

// device returns a block device's path, with its caches dropped: the template that this machine
// was restored from saw other contents behind it.
func device(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return "", fail("open", "device "+name, syscall.EINVAL)
	}
	path := "/dev/" + name
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fail("open", path, err)
	}
	defer syscall.Close(fd)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), blkFlsBuf, 0); errno != 0 {
		return "", fail("flush", path, errno)
	}
	return path, nil
}

// enter makes the new root the root of every thread of the agent.
func enter() error {
	if err := syscall.Chdir(rootDir); err != nil {
		return fail("chdir", rootDir, err)
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		syscall.Chdir("/")
		return fail("move", rootDir, err)
	}
	if err := syscall.Chroot("."); err != nil {
		return fail("chroot", rootDir, err)
	}
	return syscall.Chdir("/")
}

// Close writes everything to the disk and makes it read-only. The overlay stays mounted, since
// the agent itself lives in it.
func (r *Root) Close() error {
	syscall.Sync()
	readOnly := uintptr(syscall.MS_REMOUNT | syscall.MS_RDONLY)
	first := syscall.Mount("", "/", "", readOnly, "")
	if err := syscall.Fchdir(r.old); err != nil {
		return err
	}
	err := syscall.Mount("", strings.TrimPrefix(diskDir, "/"), "", readOnly, "")
	syscall.Chdir("/")
	syscall.Sync()
	return errors.Join(first, err)
}

func fail(verb, what string, err error) error {
	return &os.PathError{Op: verb, Path: filepath.Clean(what), Err: err}
}
