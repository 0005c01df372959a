package wire

// Messages about saving the machine (section 11).
type (
	Freeze struct{ Flags uint64 }
	Thaw   struct {
		Restored []byte
		Env      [][]byte
		BootID   string
	}
	Grow struct{ Size uint64 }
)

// FreezeSync asks for everything to be written to the disk first.
const FreezeSync = 1

func (*Freeze) Kind() byte { return 0x0d }
func (*Thaw) Kind() byte   { return 0x0e }
func (*Grow) Kind() byte   { return 0x20 }

func (m *Freeze) visit(v visitor) { v.uint(1, &m.Flags) }

func (m *Grow) visit(v visitor) { v.uint(1, &m.Size) }

func (m *Thaw) visit(v visitor) {
	v.bytes(1, &m.Restored)
	v.bytesList(2, &m.Env)
	v.str(3, &m.BootID)
}
