package wire

// Messages about the network (section 10). Addresses have 4 or 16 bytes.
type (
	Network struct{}
	Dial    struct{ Port, Flags uint64 }
	Connect struct {
		Source     []byte
		SourcePort uint64
		Target     []byte
		TargetPort uint64
		Pid        uint64
		Process    []byte
	}
	Datagram struct {
		Port       uint64
		Remote     []byte
		RemotePort uint64
		Data       []byte
	}
	Unreachable struct {
		Port       uint64
		Remote     []byte
		RemotePort uint64
		Errno      uint64
	}
)

func (*Network) Kind() byte     { return 0x0b }
func (*Dial) Kind() byte        { return 0x0c }
func (*Connect) Kind() byte     { return 0x60 }
func (*Datagram) Kind() byte    { return 0x61 }
func (*Unreachable) Kind() byte { return 0x62 }

func (*Network) visit(visitor) {}

// DialOwn: on the guest's own address only, not on loopback.
const DialOwn = 1

func (m *Dial) visit(v visitor) {
	v.uint(1, &m.Port)
	v.uint(2, &m.Flags)
}

func (m *Connect) visit(v visitor) {
	v.bytes(1, &m.Source)
	v.uint(2, &m.SourcePort)
	v.bytes(3, &m.Target)
	v.uint(4, &m.TargetPort)
	v.uint(5, &m.Pid)
	v.bytes(6, &m.Process)
}

func (m *Datagram) visit(v visitor) {
	v.uint(1, &m.Port)
	v.bytes(2, &m.Remote)
	v.uint(3, &m.RemotePort)
	v.bytes(4, &m.Data)
}

func (m *Unreachable) visit(v visitor) {
	v.uint(1, &m.Port)
	v.bytes(2, &m.Remote)
	v.uint(3, &m.RemotePort)
	v.uint(4, &m.Errno)
}
