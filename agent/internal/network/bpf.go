package network

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"unsafe"
)

// mark is on the sockets of connections that the gate has let through: they are routed over lo.
const mark = 0x53616e64

// Numbers of the kernel's BPF interface. Source: include/uapi/linux/bpf.h.
const (
	mapCreate  = 0
	mapUpdate  = 2
	progLoad   = 5
	progAttach = 8
	linkCreate = 28

	mapTypeSockmap    = 15
	progTypeSockOps   = 13
	progTypeSkLookup  = 30
	attachSockOps     = 3
	attachSkLookup    = 36
	helperMapLookup   = 1
	helperSetsockopt  = 49
	helperSkRelease   = 86
	helperSkAssign    = 124
	activeEstablished = 4

	skLookupFamily   = 8
	skLookupProtocol = 12
	skLookupLocal4   = 40
	skLookupLocal6   = 44
	skLookupIfindex  = 64
)

var sysBPF = map[string]uintptr{"amd64": 321, "arm64": 280}[runtime.GOARCH]

// instruction packs one instruction of the virtual machine.
func instruction(op byte, dst, src byte, offset int16, immediate int32) [8]byte {
	var i [8]byte
	i[0], i[1] = op, dst|src<<4
	binary.LittleEndian.PutUint16(i[2:], uint16(offset))
	binary.LittleEndian.PutUint32(i[4:], uint32(immediate))
	return i
}

func load(dst, src byte, offset int16) [8]byte   { return instruction(0x61, dst, src, offset, 0) }
func storeW(offset int16, value int32) [8]byte   { return instruction(0x62, 10, 0, offset, value) }
func set(dst byte, value int32) [8]byte          { return instruction(0xb7, dst, 0, 0, value) }
func move(dst, src byte) [8]byte                 { return instruction(0xbf, dst, src, 0, 0) }
func add(dst byte, value int32) [8]byte          { return instruction(0x07, dst, 0, 0, value) }
func call(helper int32) [8]byte                  { return instruction(0x85, 0, 0, 0, helper) }
func jumpNot(dst byte, v int32, n int16) [8]byte { return instruction(0x55, dst, 0, n, v) }
func jumpIs(dst byte, v int32, n int16) [8]byte  { return instruction(0x15, dst, 0, n, v) }
func jump(n int16) [8]byte                       { return instruction(0x05, 0, 0, n, 0) }
func leave() [8]byte                             { return instruction(0x95, 0, 0, 0, 0) }

// word is an address's four bytes as a load from the kernel's structures gives them.
func word(bytes []byte) int32 { return int32(binary.LittleEndian.Uint32(bytes)) }

// lookup gives a connection that comes back from the gate to the listener of its family, which
// lies in the map under 0 (IPv4) or 1 (IPv6). Everything else is looked up as always, also what is
// sent to the device's own addresses: it never left the guest.
func lookup(sockets, ifindex int) [][8]byte {
	four, six := address4.Addr().AsSlice(), address6.Addr().AsSlice()
	const pass = 31 // where the last two instructions are
	return [][8]byte{
		0: move(6, 1),
		load(2, 6, skLookupIfindex),
		2: jumpNot(2, int32(ifindex), pass-3),
		load(2, 6, skLookupProtocol),
		4: jumpNot(2, protocolTCP, pass-5),
		load(2, 6, skLookupFamily),
		6: jumpIs(2, syscall.AF_INET, 15-7),
		load(2, 6, skLookupLocal6+12),
		8: jumpNot(2, word(six[12:]), 13-9),
		load(2, 6, skLookupLocal6),
		10: jumpNot(2, word(six), 13-11),
		load(2, 6, skLookupLocal6+4),
		12: jumpIs(2, word(six[4:]), pass-13),
		13: storeW(-4, 1),
		14: jump(18 - 15),
		15: load(2, 6, skLookupLocal4),
		16: jumpIs(2, word(four), pass-17),
		storeW(-4, 0),
		18: instruction(0x18, 1, 1, 0, int32(sockets)), // a map's descriptor, in two parts
		19: {},
		move(2, 10),
		add(2, -4),
		call(helperMapLookup),
		23: jumpIs(0, 0, pass-24),
		move(7, 0),
		move(1, 6),
		move(2, 7),
		set(3, 0),
		call(helperSkAssign),
		// The socket is ours until it is let go of.
		move(1, 7),
		call(helperSkRelease),
		pass: set(0, 1),
		leave(),
	}
}

// watch marks a socket as soon as its connection stands, before it sends anything more; note is what
// is done when it is about to send its first packet.
func watch(note [][8]byte) [][8]byte {
	code := [][8]byte{
		move(6, 1),
		load(2, 6, 0),
		jumpIs(2, activeEstablished, int16(len(note))+2),
		jumpNot(2, tcpConnect, int16(len(note))+9),
	}
	code = append(code, note...)
	return append(code, [][8]byte{
		jump(8),
		move(1, 6),
		storeW(-4, mark),
		set(2, syscall.SOL_SOCKET),
		set(3, syscall.SO_MARK),
		move(4, 10),
		add(4, -4),
		set(5, 4),
		call(helperSetsockopt),
		set(0, 1),
		leave(),
	}...)
}

func bpf(command uintptr, attributes []byte) (int, error) {
	n, _, errno := syscall.Syscall(sysBPF, command, uintptr(unsafe.Pointer(&attributes[0])), uintptr(len(attributes)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func loadProgram(kind, attach uint32, code [][8]byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	attributes := make([]byte, 72)
	little := binary.LittleEndian
	little.PutUint32(attributes[0:], kind)
	little.PutUint32(attributes[4:], uint32(len(code)))
	little.PutUint64(attributes[8:], uint64(uintptr(unsafe.Pointer(&code[0]))))
	little.PutUint64(attributes[16:], uint64(uintptr(unsafe.Pointer(&license[0]))))
	little.PutUint32(attributes[68:], attach)
	fd, err := bpf(progLoad, attributes)
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	return fd, err
}

func createMap(kind, key, value, most uint32) (int, error) {
	attributes := make([]byte, 20)
	for i, number := range []uint32{kind, key, value, most, 0} {
		binary.LittleEndian.PutUint32(attributes[4*i:], number)
	}
	return bpf(mapCreate, attributes)
}

// attachTo attaches a program to a control group.
func attachTo(group, program int, kind uint32) error {
	attributes := make([]byte, 20)
	for i, number := range []uint32{uint32(group), uint32(program), kind, 0, 0} {
		binary.LittleEndian.PutUint32(attributes[4*i:], number)
	}
	_, err := bpf(progAttach, attributes)
	return err
}

// steer loads and attaches both programs. The descriptors stay open: the programs live as long.
func steer(listeners [2]int, ifindex, group int, note [][8]byte) error {
	little := binary.LittleEndian
	sockets, err := createMap(mapTypeSockmap, 4, 8, 2)
	if err != nil {
		return wrap("bpf map", err)
	}
	for i, fd := range listeners {
		if fd < 0 {
			continue
		}
		key, value := [4]byte{byte(i)}, [8]byte{}
		little.PutUint64(value[:], uint64(fd))
		attributes := make([]byte, 32)
		little.PutUint32(attributes, uint32(sockets))
		little.PutUint64(attributes[8:], uint64(uintptr(unsafe.Pointer(&key))))
		little.PutUint64(attributes[16:], uint64(uintptr(unsafe.Pointer(&value))))
		_, err := bpf(mapUpdate, attributes)
		runtime.KeepAlive(&key)
		runtime.KeepAlive(&value)
		if err != nil {
			return wrap("bpf map of sockets", err)
		}
	}
	program, err := loadProgram(progTypeSkLookup, attachSkLookup, lookup(sockets, ifindex))
	if err != nil {
		return wrap("bpf sk_lookup", err)
	}
	namespace, err := syscall.Open("/proc/self/ns/net", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return wrap("network namespace", err)
	}
	defer syscall.Close(namespace)
	attributes := make([]byte, 16)
	for i, value := range []uint32{uint32(program), uint32(namespace), attachSkLookup, 0} {
		little.PutUint32(attributes[4*i:], value)
	}
	if _, err := bpf(linkCreate, attributes); err != nil {
		return wrap("bpf sk_lookup link", err)
	}
	// Without the second program all packets of a connection go through the gate: slow, but right.
	program, err = loadProgram(progTypeSockOps, 0, watch(note))
	if err != nil {
		return wrap("bpf sock_ops", err)
	}
	if err := attachTo(group, program, attachSockOps); err != nil {
		return wrap("bpf sock_ops attachment", err)
	}
	return nil
}
