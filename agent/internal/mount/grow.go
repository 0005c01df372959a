package mount

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	sectorSize  = 512
	ext4Resize  = 0x40086610 // EXT4_IOC_RESIZE_FS; source: Linux fs/ext4/ext4.h
	growingPace = 2 * time.Millisecond
)

// Grow grows the disk's file system to size bytes while it is mounted, as soon as the kernel knows
// that its device is that large. Nothing happens when it is that large already.
func (r *Root) Grow(size uint64, patience time.Duration) error {
	fd, err := syscall.Openat(r.old, strings.TrimPrefix(diskDir, "/"), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fail("open", "the disk", err)
	}
	defer syscall.Close(fd)
	var status syscall.Stat_t
	var system syscall.Statfs_t
	if err := syscall.Fstat(fd, &status); err != nil {
		return fail("stat", "the disk", err)
	}
	if err := syscall.Fstatfs(fd, &system); err != nil {
		return fail("statfs", "the disk", err)
	}
	if system.Bsize <= 0 {
		return fail("statfs", "the disk", syscall.EINVAL)
	}
	if err := waitForSize(sizePath(uint64(status.Dev)), size, patience); err != nil {
		return err
	}
	blocks := size / uint64(system.Bsize)
	// SAFETY: the kernel reads eight bytes, which stay where they are during the call.
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), ext4Resize, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fail("grow", "the disk", errno)
	}
	return nil
}

// sizePath is the file that says how large a block device is, in sectors.
func sizePath(device uint64) string {
	major := device>>8&0xfff | device>>32&0xfffff000
	minor := device&0xff | device>>12&0xffffff00
	return fmt.Sprintf("/sys/dev/block/%d:%d/size", major, minor)
}

// waitForSize waits until a file of sectors says at least size bytes.
func waitForSize(path string, size uint64, patience time.Duration) error {
	end := time.Now().Add(patience)
	for {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sectors, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return fail("read", path, syscall.EINVAL)
		}
		if sectors >= size/sectorSize {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the disk has %d bytes, not %d", sectors*sectorSize, size)
		}
		time.Sleep(growingPace) // the kernel tells nobody here
	}
}
