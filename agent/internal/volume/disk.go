package volume

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sandlot/agent/internal/wire"
)

// diskPatience is how long a disk that the machine was given may take to be found.
const diskPatience = 20 * time.Second

// MountDisk mounts the file system of a disk that the machine was given while it runs.
func (v *Volumes) MountDisk(m *wire.MountDisk) error {
	path := filepath.Clean("/" + string(m.Path))
	if path == "/" || m.Serial == "" {
		return fail("mount", path, syscall.EINVAL)
	}
	// A machine without ACPI is told of no new devices.
	os.WriteFile("/sys/bus/pci/rescan", []byte("1"), 0)
	name := ""
	for end := time.Now().Add(diskPatience); ; {
		if name = bySerial(m.Serial); name != "" {
			break
		}
		if time.Now().After(end) {
			return fail("find", "the disk of "+path, syscall.ENXIO)
		}
		time.Sleep(5 * time.Millisecond) // the kernel tells of new disks only who listens for all
	}
	// The host has a scheduler of its own.
	os.WriteFile("/sys/block/"+name+"/queue/scheduler", []byte("none"), 0)
	if err := place(path, true); err != nil {
		return err
	}
	flags := uintptr(syscall.MS_NOATIME)
	if m.Flags&wire.MountDiskReadOnly != 0 {
		flags |= syscall.MS_RDONLY
	}
	// What is removed is given back to the host.
	if err := syscall.Mount("/dev/"+name, path, "ext4", flags, "noinit_itable,discard"); err != nil {
		return fail("mount", path, err)
	}
	syscall.Rmdir(path + "/lost+found") // databases want an empty folder; a repair makes it again
	v.mu.Lock()
	v.disks = append([]string{path}, v.disks...)
	v.mu.Unlock()
	return nil
}

// bySerial returns the name of the disk that has a serial number, or nothing.
func bySerial(serial string) string {
	found, _ := filepath.Glob("/sys/block/vd*/serial")
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(text)) == serial {
			return filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}

// closeDisks unmounts the disks, or at least writes what they have; no program runs any more.
func (v *Volumes) closeDisks() {
	v.mu.Lock()
	disks := v.disks
	v.disks = nil
	v.mu.Unlock()
	for _, path := range disks {
		if syscall.Unmount(path, 0) != nil {
			syscall.Sync()
			syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
		}
	}
}
