package network

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// Who connects is noted by two BPF programs of the guest's kernel, so that nothing has to be
// searched: connect(2) leaves its process under the socket's cookie, and when the socket has its
// port, just before the first packet, it is moved to where the gate finds it by that packet.

const (
	mapLookupAndDelete = 21
	mapTypeLRUHash     = 9
	progTypeSockAddr   = 18
	attachConnect4     = 10
	attachConnect6     = 11
	helperMapUpdate    = 2
	helperPidTgid      = 14
	helperCookie       = 46
	tcpConnect         = 3 // BPF_SOCK_OPS_TCP_CONNECT_CB

	opsFamily     = 20
	opsRemote4    = 24
	opsRemote6    = 32
	opsRemotePort = 64
	opsLocalPort  = 68

	// maxOwners bounds each map; the kernel drops the oldest.
	maxOwners = 1024
	// maxName is more than the kernel keeps of a process's name.
	maxName = 32
)

// owners says which process has begun a connection.
type owners struct {
	byCookie, byPort int
	proc             int // the folder, as it was before the guest's root
}

// openOwners makes the maps; without them nobody is known.
func openOwners() (*owners, error) {
	o := &owners{}
	var err error
	if o.proc, err = syscall.Open("/proc", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if o.byCookie, err = createMap(mapTypeLRUHash, 8, 8, maxOwners); err != nil {
		return nil, err
	}
	o.byPort, err = createMap(mapTypeLRUHash, keySize, 8, maxOwners)
	return o, err
}

// keySize: the guest's port, the remote one as the kernel has it, and the last four bytes of the
// remote address.
const keySize = 12

func key(guest, remote netip.AddrPort) [keySize]byte {
	var k [keySize]byte
	binary.LittleEndian.PutUint32(k[0:], uint32(guest.Port()))
	binary.BigEndian.PutUint16(k[6:], remote.Port())
	address := remote.Addr().AsSlice()
	copy(k[8:], address[len(address)-4:])
	return k
}

// of tells who opened the connection, once; 0 where that is not known.
func (o *owners) of(guest, remote netip.AddrPort) (pid uint64, name []byte) {
	if o == nil {
		return 0, nil
	}
	k, value := key(guest, remote), [8]byte{}
	attributes := make([]byte, 32)
	little := binary.LittleEndian
	little.PutUint32(attributes, uint32(o.byPort))
	little.PutUint64(attributes[8:], uint64(uintptr(unsafe.Pointer(&k))))
	little.PutUint64(attributes[16:], uint64(uintptr(unsafe.Pointer(&value))))
	_, err := bpf(mapLookupAndDelete, attributes)
	runtime.KeepAlive(&k)
	runtime.KeepAlive(&value)
	if err != nil {
		return 0, nil
	}
	pid = little.Uint64(value[:])
	fd, err := syscall.Openat(o.proc, strconv.FormatUint(pid, 10)+"/comm", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return pid, nil
	}
	defer syscall.Close(fd)
	var text [maxName]byte
	n, _ := syscall.Read(fd, text[:])
	return pid, bytes.TrimSuffix(text[:max(n, 0)], []byte("\n"))
}

// loadMap puts a map into a register, in two instructions.
func loadMap(dst byte, fd int) [2][8]byte {
	return [2][8]byte{instruction(0x18, dst, 1, 0, int32(fd)), {}}
}

func store(offset int16, src byte) [8]byte     { return instruction(0x63, 10, src, offset, 0) }
func storeLong(offset int16, src byte) [8]byte { return instruction(0x7b, 10, src, offset, 0) }
func loadLong(dst, src byte) [8]byte           { return instruction(0x79, dst, src, 0, 0) }
func shiftRight(dst byte, by int32) [8]byte    { return instruction(0x77, dst, 0, 0, by) }

// noteConnect leaves the process that calls connect(2) under its socket's cookie.
func (o *owners) noteConnect() [][8]byte {
	table := loadMap(1, o.byCookie)
	return [][8]byte{
		call(helperCookie),
		storeLong(-8, 0),
		call(helperPidTgid),
		shiftRight(0, 32),
		storeLong(-16, 0),
		table[0], table[1],
		move(2, 10),
		add(2, -8),
		move(3, 10),
		add(3, -16),
		set(4, 0),
		call(helperMapUpdate),
		set(0, 1),
		leave(),
	}
}

// notePort moves it to the port that the socket has got by now; r6 is the context, and what
// comes behind it returns.
func (o *owners) notePort() [][8]byte {
	cookies, ports := loadMap(1, o.byCookie), loadMap(1, o.byPort)
	const end = 28
	return [][8]byte{
		0: move(1, 6),
		call(helperCookie),
		storeLong(-8, 0),
		cookies[0], cookies[1],
		move(2, 10),
		add(2, -8),
		call(helperMapLookup),
		8: jumpIs(0, 0, end-8), // behind the last one
		loadLong(7, 0),
		storeLong(-16, 7),
		load(2, 6, opsLocalPort),
		store(-28, 2),
		load(2, 6, opsRemotePort),
		store(-24, 2),
		load(2, 6, opsFamily),
		16: jumpIs(2, syscall.AF_INET, 2),
		load(2, 6, opsRemote6+12),
		jump(1),
		19: load(2, 6, opsRemote4),
		store(-20, 2),
		ports[0], ports[1],
		move(2, 10),
		add(2, -28),
		move(3, 10),
		add(3, -16),
		set(4, 0),
		end: call(helperMapUpdate),
	}
}

// attach puts the programs of connect(2) on the group of all processes.
func (o *owners) attach(group int) error {
	for _, kind := range []uint32{attachConnect4, attachConnect6} {
		program, err := loadProgram(progTypeSockAddr, kind, o.noteConnect())
		if err != nil {
			return wrap("bpf connect", err)
		}
		if err := attachTo(group, program, kind); err != nil {
			return wrap("bpf connect attachment", err)
		}
	}
	return nil
}
