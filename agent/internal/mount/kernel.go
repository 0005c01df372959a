package mount

import (
	"os"
	"syscall"
)

// part is a file system of the kernel's that every root has.
type part struct {
	path, kind, data string
	flags            uintptr
	mode             uint32 // of the mount point, where the image has none
	optional         bool
}

const quiet = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC

var parts = []part{
	{path: "/proc", kind: "proc", flags: quiet, mode: 0o555},
	{path: "/sys", kind: "sysfs", flags: quiet, mode: 0o555},
	{path: "/sys/fs/cgroup", kind: "cgroup2", data: "favordynmods", flags: quiet, optional: true},
	{path: "/dev", kind: "devtmpfs", flags: syscall.MS_NOSUID, data: "mode=755", mode: 0o755},
	{path: "/dev/pts", kind: "devpts", flags: syscall.MS_NOSUID | syscall.MS_NOEXEC,
		data: "newinstance,ptmxmode=0666,mode=620,gid=5", mode: 0o755},
	{path: "/dev/shm", kind: "tmpfs", flags: syscall.MS_NOSUID | syscall.MS_NODEV, data: "mode=1777", mode: 0o1777},
	{path: "/dev/mqueue", kind: "mqueue", flags: quiet, mode: 0o1777, optional: true},
	{path: "/run", kind: "tmpfs", flags: syscall.MS_NOSUID | syscall.MS_NODEV, data: "mode=755", mode: 0o755},
}

// tops are the parts that carry the others with them when they are moved.
var tops = []string{"/proc", "/sys", "/dev", "/run"}

var links = [][2]string{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
}

// stageKernelFiles mounts the parts below stageDir.
func stageKernelFiles() error {
	for _, p := range parts {
		path := stageDir + p.path
		if err := mountPoint(path, p.mode); err != nil && !p.optional {
			return err
		}
		if err := syscall.Mount(p.kind, path, p.kind, p.flags, p.data); err != nil && !p.optional {
			return fail("mount", p.path, err)
		}
	}
	for _, link := range links {
		os.Symlink(link[0], stageDir+link[1])
	}
	return nil
}

// moveKernelFiles brings the staged parts below the new root, which is still empty of processes.
func moveKernelFiles() error {
	for _, p := range parts {
		for _, top := range tops {
			if p.path != top {
				continue
			}
			if err := mountPoint(rootDir+top, p.mode); err != nil {
				return err
			}
			if err := syscall.Mount(stageDir+top, rootDir+top, "", syscall.MS_MOVE, ""); err != nil {
				return fail("move", top, err)
			}
		}
	}
	// The temporary folder is on the disk: what is in it outlives a stop, and needs no memory.
	if path := rootDir + "/tmp"; os.Mkdir(path, 0o777) == nil {
		syscall.Chmod(path, 0o1777)
	}
	return nil
}

// mountPoint sees to it that path is a directory and no way out of the new root: the image's
// links are absolute in its own eyes, not in the initramfs's.
func mountPoint(path string, mode uint32) error {
	info, err := os.Lstat(path)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return syscall.Chmod(path, mode)
}
