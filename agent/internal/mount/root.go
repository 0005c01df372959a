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

// Where the parts are mounted in the initramfs. The image's file system and the disk have the
// root of the processes one level down, so that both, and the overlay, can be mounted before
// anybody knows which image it will be.
const (
	imageDir  = "/image"
	diskDir   = "/disk"
	mergedDir = "/merged"
	stageDir  = "/stage"
	rootDir   = "/root"
	rootName  = "/root" // the directory in each of the first three
)

// Root is a mounted root.
type Root struct {
	old int // the initramfs, from which the disk is still in reach
}

// Devices are the names in /dev of the image, of the writable disk, and of the one that is used
// instead of it, and their file systems.
type Devices struct{ Image, ImageType, Disk, DiskType, Other string }

// Stage mounts everything that does not depend on the image: an image's file system, the disk,
// the overlay of both, and the kernel's file systems. It is done once, before the machine is
// saved: mounting runs much code, which an emulator has to translate again in every restored
// machine. The top directory of the overlay must not be read before the image is there: what is
// not found would be remembered.
func Stage(d Devices) error {
	for _, dir := range []string{imageDir, diskDir, mergedDir, stageDir, rootDir} {
		os.MkdirAll(dir, 0o755)
	}
	image, err := device(d.Image)
	if err != nil {
		return err
	}
	if err := syscall.Mount(image, imageDir, d.ImageType, syscall.MS_RDONLY|syscall.MS_NOATIME, ""); err != nil {
		return fail("mount", image, err)
	}
	if err := mountDisk(d); err != nil {
		return err
	}
	if err := stageKernelFiles(); err != nil {
		return err
	}
	syscall.Sync()
	for _, name := range []string{d.Image, d.Disk, d.Other} {
		plainQueue(name)
	}
	// What was read of these devices so far is not what will be behind them.
	for _, name := range []string{d.Image, d.Other} {
		if err := flush("/dev/" + name); err != nil {
			return err
		}
	}
	return nil
}

// mountDisk mounts the disk and the overlay, over those that are there, which are left alone:
// what is behind the staged disk's device is not what was mounted.
func mountDisk(d Devices) error {
	disk, err := device(d.Disk)
	if err != nil {
		return err
	}
	data := ""
	if d.DiskType == "ext4" {
		// Else a thread writes zeros to the whole disk. What is removed is given back to the host.
		data = "noinit_itable,discard"
	}
	if err := syscall.Mount(disk, diskDir, d.DiskType, syscall.MS_NOATIME, data); err != nil {
		return fail("mount", "disk "+d.Disk, err)
	}
	os.Mkdir(diskDir+"/work", 0o700)
	os.Mkdir(diskDir+"/upper", 0o755)
	// Directories of the image can be renamed like any others (redirect_dir), files of both layers
	// keep one device number (xino), and a file is either wholly above or wholly below (metacopy).
	// The layers belong together for good, so nothing needs an index.
	options := "lowerdir=" + imageDir + ",upperdir=" + diskDir + "/upper,workdir=" + diskDir + "/work" +
		",redirect_dir=on,index=off,metacopy=off,xino=auto"
	if err := syscall.Mount("overlay", mergedDir, "overlay", syscall.MS_NOATIME, options); err != nil {
		syscall.Unmount(diskDir, 0)
		return fail("mount", "overlay", err)
	}
	return nil
}

// Mount makes the image that now lies behind the staged device the root of the agent. With d.Disk
// empty the staged disk is used, which must be as it was when it was staged; else that one is
// mounted.
func Mount(d Devices) (*Root, error) {
	old, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail("open", "/", err)
	}
	if d.Disk != "" {
		err = mountDisk(d)
	}
	if err == nil {
		if err = syscall.Mount(mergedDir+rootName, rootDir, "", syscall.MS_BIND, ""); err != nil {
			err = fail("mount", "the image's root", err)
		}
	}
	if err == nil {
		if err = moveKernelFiles(); err == nil {
			err = enter()
		}
	}
	if err != nil {
		syscall.Close(old)
		return nil, err
	}
	return &Root{old: old}, nil
}

// device returns a block device's path.
func device(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return "", fail("open", "device "+name, syscall.EINVAL)
	}
	return "/dev/" + name, nil
}

// flush drops what the kernel has read of a block device.
func flush(path string) error {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fail("open", path, err)
	}
	defer syscall.Close(fd)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), blkFlsBuf, 0); errno != 0 {
		return fail("flush", path, errno)
	}
	return nil
}

// plainQueue takes the kernel's scheduling off a virtual disk: the host has its own.
func plainQueue(name string) {
	os.WriteFile("/sys/block/"+name+"/queue/scheduler", []byte("none"), 0)
	os.WriteFile("/sys/block/"+name+"/queue/wbt_lat_usec", []byte("0"), 0)
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

// Upper opens the part of the overlay's upper layer that the processes see.
func (r *Root) Upper() (int, error) {
	upper := strings.TrimPrefix(diskDir, "/") + "/upper" + rootName
	return syscall.Openat(r.old, upper, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
}

// Close writes everything to the disk and makes it read-only. The overlay stays mounted, since
// the agent itself lives in it.
func (r *Root) Close() error { return r.ReadOnly() }

// ReadOnly lets nobody write to the root from now on. What is mounted in it stays as it is.
func (r *Root) ReadOnly() error {
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
