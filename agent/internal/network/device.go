package network

import (
	"errors"
	"net/netip"
	"os"
	"syscall"
	"unsafe"
)

// The guest's side of its network. Nothing but the gate is on the other.
var (
	address4 = netip.MustParsePrefix("10.231.0.2/24")
	address6 = netip.MustParsePrefix("fd5a:6e64:6c6f:7400::2/64")
	// Router is where the default route leads, and where names are asked for.
	Router  = netip.MustParseAddr("10.231.0.1")
	router6 = netip.MustParseAddr("fd5a:6e64:6c6f:7400::1")
)

const (
	deviceName = "eth0"
	mtu        = 65535

	setInterface = 0x400454ca // TUNSETIFF
	flagTun      = 0x0001
	flagNoInfo   = 0x1000

	ipv6Transparent = 75
)

func wrap(what string, err error) error { return errors.New(what + ": " + err.Error()) }

// interfaceRequest is the kernel's ifreq.
type interfaceRequest struct {
	name  [16]byte
	value [24]byte
}

func named(name string) *interfaceRequest {
	r := &interfaceRequest{}
	copy(r.name[:], name)
	return r
}

func (r *interfaceRequest) ioctl(fd int, request uintptr) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(r)))
	if errno != 0 {
		return errno
	}
	return nil
}

// openDevice makes the network device. The file reads the packets that the guest sends, and
// packets that are written to it arrive in the guest.
func openDevice() (file *os.File, index int, err error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, wrap("/dev/net/tun", err)
	}
	request := named(deviceName)
	*(*uint16)(unsafe.Pointer(&request.value)) = flagTun | flagNoInfo
	if err := request.ioctl(fd, setInterface); err != nil {
		syscall.Close(fd)
		return nil, 0, wrap(deviceName, err)
	}
	index, err = bringUp()
	if err != nil {
		syscall.Close(fd)
		return nil, 0, wrap(deviceName, err)
	}
	return os.NewFile(uintptr(fd), deviceName), index, nil
}

func bringUp() (index int, err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	// What comes back from the gate has our own address. Nobody answers solicitations here.
	for path, value := range map[string]string{
		"ipv4/conf/eth0/accept_local":  "1",
		"ipv4/conf/eth0/rp_filter":     "0",
		"ipv6/conf/eth0/accept_ra":     "0",
		"ipv6/conf/eth0/accept_dad":    "0",
		"ipv6/conf/eth0/addr_gen_mode": "1",
	} {
		os.WriteFile("/proc/sys/net/"+path, []byte(value), 0)
	}
	request := named(deviceName)
	if err := request.ioctl(fd, syscall.SIOCGIFINDEX); err != nil {
		return 0, err
	}
	index = int(*(*int32)(unsafe.Pointer(&request.value)))
	*(*int32)(unsafe.Pointer(&request.value)) = mtu
	if err := request.ioctl(fd, syscall.SIOCSIFMTU); err != nil {
		return 0, err
	}
	request = named(deviceName)
	*(*uint16)(unsafe.Pointer(&request.value)) = syscall.IFF_UP
	return index, request.ioctl(fd, syscall.SIOCSIFFLAGS)
}

// configure gives the device its addresses, makes it the way to everywhere, and sends what the
// gate has let through to the sockets of the guest itself.
func configure(index int) error {
	n, err := openNetlink()
	if err != nil {
		return wrap("netlink", err)
	}
	defer n.close()
	const loopback = 1
	for _, side := range []struct {
		prefix netip.Prefix
		router netip.Addr
	}{{address4, Router}, {address6, router6}} {
		f := family(side.router)
		for _, step := range []error{
			n.address(index, side.prefix),
			n.route(f, index, side.router, syscall.RT_TABLE_MAIN),
			n.route(f, loopback, netip.Addr{}, tableGate),
			n.rule(f, number(attrFibMark, mark)),
			n.rule(f, attribute{attrFibIifname, append([]byte(deviceName), 0)}),
		} {
			if step != nil && (f == syscall.AF_INET || step != syscall.EOPNOTSUPP) {
				err = errors.Join(err, step)
			}
		}
	}
	return err
}

// listen opens the socket that takes over the connections of one family once they are let
// through, whatever their address is.
func listen(family int) (int, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if family == syscall.AF_INET {
		syscall.SetsockoptInt(fd, syscall.SOL_IP, syscall.IP_TRANSPARENT, 1)
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	} else {
		syscall.SetsockoptInt(fd, syscall.SOL_IPV6, ipv6Transparent, 1)
		syscall.SetsockoptInt(fd, syscall.SOL_IPV6, syscall.IPV6_V6ONLY, 1)
		err = syscall.Bind(fd, &syscall.SockaddrInet6{Addr: [16]byte{15: 1}})
	}
	if err == nil {
		err = syscall.Listen(fd, 4096)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}
