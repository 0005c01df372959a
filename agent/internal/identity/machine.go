package identity

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"sandlot/agent/internal/network"
)

const (
	rndAddEntropy  = 0x40085203
	rndReseedCRNG  = 0x5207
	maxHosts       = 1 << 20
	maxEntropySize = 4096
)

// SetClock sets the real-time clock.
func SetClock(ns uint64) error {
	spec := syscall.NsecToTimespec(int64(ns))
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_SETTIME, 0, uintptr(unsafe.Pointer(&spec)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// AddEntropy mixes in bytes that only this machine has, and makes the kernel use them at once:
// two machines restored from one image must not draw the same numbers.
func AddEntropy(entropy []byte) error {
	entropy = entropy[:min(len(entropy), maxEntropySize)]
	fd, err := syscall.Open("/dev/urandom", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if len(entropy) > 0 {
		var pool struct {
			bits, size int32
			data       [maxEntropySize]byte
		}
		pool.bits, pool.size = int32(8*len(entropy)), int32(len(entropy))
		copy(pool.data[:], entropy)
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), rndAddEntropy, uintptr(unsafe.Pointer(&pool))); errno != 0 {
			return errno
		}
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), rndReseedCRNG, 0); errno != 0 {
		return errno
	}
	return nil
}

// own is where the files of this machine's identity lie; they are mounted over the image's. To
// write into the image's would be an emulated machine's slow first write to its disk, and two
// machines with one disk's contents must differ in them.
const own = "/run/sandlot"

// MountFiles puts the host name and the machine id into /etc of a root that was just entered.
// What the image says itself of other hosts stays. Errors do not matter: an /etc that is no
// directory is the image's choice.
func MountFiles(hostname, machineID string) {
	os.Mkdir(own, 0o755)
	for _, f := range files(hostname, machineID) {
		source, target := own+"/"+f.name, "/etc/"+f.name
		writeOwn(source, f.text, f.mode)
		if behind := linkToRun(target); behind != "" {
			// As distributions with a resolver of their own have it: nothing is there yet.
			os.MkdirAll(filepath.Dir(behind), 0o755)
			writeOwn(behind, f.text, f.mode)
		} else if mountPoint(target) {
			syscall.Mount(source, target, "", syscall.MS_BIND, "")
		}
	}
}

// WriteFiles changes what MountFiles has mounted, in a machine that was called `before`.
func WriteFiles(hostname, machineID, before string) {
	for _, f := range files(hostname, machineID) {
		if f.name == "hosts" && before != hostname {
			f.text = strings.Replace(f.text, ownLine(before), "", 1)
		}
		writeOwn("/etc/"+f.name, f.text, f.mode)
	}
}

type file struct {
	name, text string
	mode       uint32
}

func files(hostname, machineID string) []file {
	all := []file{{"resolv.conf", "nameserver " + network.Router.String() + "\n", 0o644}}
	if machineID != "" {
		all = append(all, file{"machine-id", machineID + "\n", 0o444})
	}
	if hostname == "" {
		return all
	}
	all = append(all, file{"hostname", hostname + "\n", 0o644})
	hosts := readSmall("/etc/hosts")
	if len(hosts) < maxHosts {
		all = append(all, file{"hosts", hosts + missingHosts(hosts, hostname), 0o644})
	}
	return all
}

// linkToRun is what a link leads to, when that is below /run, which is new in every machine.
func linkToRun(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	target = filepath.Clean(target)
	if !strings.HasPrefix(target, "/run/") || strings.HasPrefix(target, own+"/") {
		return ""
	}
	return target
}

// mountPoint says whether a regular file is at path, and makes one where there is nothing.
func mountPoint(path string) bool {
	var st syscall.Stat_t
	err := syscall.Lstat(path, &st)
	if err == syscall.ENOENT {
		os.Mkdir("/etc", 0o755)
		fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, 0o644)
		if err != nil {
			return false
		}
		syscall.Close(fd)
		return true
	}
	return err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG
}

// SetBootID lets the kernel's id of this boot look like another one: a restored machine began here.
func SetBootID(id string) {
	const shown = "/proc/sys/kernel/random/boot_id"
	source := own + "/boot_id"
	os.Mkdir(own, 0o755)
	syscall.Unmount(shown, 0) // of an earlier restore
	syscall.Unlink(source)
	writeOwn(source, id+"\n", 0o444)
	syscall.Mount(source, shown, "", syscall.MS_BIND, "")
}

// WriteRestored says, to programs that look for it, that they run in a restored machine.
func WriteRestored(text []byte) error {
	os.Mkdir(own, 0o755)
	partial := own + "/.restored"
	syscall.Unlink(partial)
	if err := os.WriteFile(partial, text, 0o644); err != nil {
		return err
	}
	return os.Rename(partial, own+"/restored")
}

// missingHosts is what must be added to a hosts file for localhost and the host's own name.
func missingHosts(hosts, hostname string) string {
	local, own := false, false
	for line := range strings.SplitSeq(hosts, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for i, word := range strings.Fields(line) {
			local = local || i > 0 && word == "localhost"
			own = own || i > 0 && word == hostname
		}
	}
	more := ""
	if !local {
		more += "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	}
	if !own {
		more += ownLine(hostname)
	}
	if more != "" && hosts != "" && !strings.HasSuffix(hosts, "\n") {
		more = "\n" + more
	}
	return more
}

func ownLine(hostname string) string { return "127.0.1.1\t" + hostname + "\n" }

// writeOwn writes a regular file, or one that is not there yet; nothing else.
func writeOwn(path, text string, mode uint32) {
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) == nil && st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return
	}
	// An old machine-id is read-only, but root may write to it all the same.
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, mode)
	if err != nil {
		return
	}
	syscall.Write(fd, []byte(text))
	syscall.Close(fd)
}
