// Package boot brings up the machine from the initramfs: kernel modules, the first file systems,
// the port and the window.
package boot

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Console is where the agent says what went wrong: nobody else is there to be told.
type Console struct{ fd int }

// Say writes one line.
func (c *Console) Say(text string) {
	syscall.Write(c.fd, []byte("agent: "+text+"\r\n"))
}

// OpenConsole mounts the kernel's file systems of the initramfs and opens the console there.
func OpenConsole() *Console {
	c := &Console{fd: 2}
	problems := []error{
		mount("dev", "/dev", "devtmpfs", syscall.MS_NOSUID, ""),
		mount("proc", "/proc", "proc", 0, ""),
		mount("sys", "/sys", "sysfs", 0, ""),
		// Without favordynmods every move into a group waits for an RCU grace period: 8 ms an exec.
		mount("cgroup", "/sys/fs/cgroup", "cgroup2", 0, "favordynmods"),
	}
	if fd, err := syscall.Open("/dev/console", syscall.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0); err == nil {
		c.fd = fd
	}
	for _, err := range problems {
		if err != nil {
			c.Say(err.Error())
		}
	}
	return c
}

func mount(source, target, kind string, flags uintptr, data string) error {
	os.MkdirAll(target, 0o755)
	err := syscall.Mount(source, target, kind, flags, data)
	if err != nil && err != syscall.EBUSY {
		return errors.New("mount " + target + ": " + err.Error())
	}
	return nil
}

// LoadModules loads /modules/NNN-name.ko in the order of their names.
func LoadModules(c *Console) {
	paths, _ := filepath.Glob("/modules/*.ko")
	for _, path := range paths {
		if err := loadModule(path); err != nil && err != syscall.EEXIST {
			c.Say(path + ": " + err.Error())
		}
	}
}

func loadModule(path string) error {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	empty := [1]byte{}
	_, _, errno := syscall.Syscall(finitModule[runtime.GOARCH], uintptr(fd), uintptr(unsafe.Pointer(&empty)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

var finitModule = map[string]uintptr{"amd64": 313, "arm64": 273}

// Loopback brings up lo; the kernel gives it its addresses then.
func Loopback() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	request := struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP}
	copy(request.name[:], "lo")
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

// OpenPort waits for the channel's port and opens it.
func OpenPort(name string) int {
	for {
		paths, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, path := range paths {
			text, _ := os.ReadFile(path)
			if strings.TrimSpace(string(text)) != name {
				continue
			}
			device := "/dev/" + filepath.Base(filepath.Dir(path))
			fd, err := syscall.Open(device, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
			if err == nil {
				return fd
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// Window maps the shared memory that the kernel command line names; nil if it names none.
func Window() ([]byte, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	size, address, err := parseWindow(string(line))
	if err != nil || size == 0 {
		return nil, err
	}
	// Without O_SYNC: the memory is cached like any other.
	fd, err := syscall.Open("/dev/mem", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	return syscall.Mmap(fd, address, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

func parseWindow(line string) (size int, address int64, err error) {
	for word := range strings.FieldsSeq(line) {
		value, found := strings.CutPrefix(word, "sandlot.window=")
		if !found {
			continue
		}
		sizeText, addressText, _ := strings.Cut(value, "@")
		if size, err = strconv.Atoi(sizeText); err != nil {
			return 0, 0, err
		}
		address, err = strconv.ParseInt(addressText, 10, 64)
		if err != nil || size <= 0 || size%2 != 0 {
			return 0, 0, errors.New("sandlot.window is wrong: " + value)
		}
	}
	return size, address, nil
}
