package wire

// Messages about volumes (section 12).
type (
	Mount struct {
		Volume string
		Path   []byte
		Flags  uint64
		Mode   uint64
	}
	Unmount struct {
		Volume string
		Flags  uint64
	}
	Nudge struct {
		Volume  string
		Changes [][]byte
	}
	MountDisk struct {
		Path   []byte
		Serial string
		Flags  uint64
	}
)

// Flags of Mount and Unmount.
const (
	MountReadOnly  = 1
	MountAgain     = 2 // go on with one that a saved machine had
	MountWriteback = 4 // the guest's kernel keeps what is written for a while
	MountNoFlush   = 8 // closing a descriptor means nothing to the host but for its locks

	UnmountDetach = 1

	MountDiskReadOnly = 1
)

func (*Mount) Kind() byte     { return 0x0f }
func (*Unmount) Kind() byte   { return 0x50 }
func (*Nudge) Kind() byte     { return 0x51 }
func (*MountDisk) Kind() byte { return 0x53 }

func (m *MountDisk) visit(v visitor) {
	v.bytes(1, &m.Path)
	v.str(2, &m.Serial)
	v.uint(3, &m.Flags)
}

func (m *Mount) visit(v visitor) {
	v.str(1, &m.Volume)
	v.bytes(2, &m.Path)
	v.uint(3, &m.Flags)
	v.uint(4, &m.Mode)
}

func (m *Unmount) visit(v visitor) {
	v.str(1, &m.Volume)
	v.uint(2, &m.Flags)
}

func (m *Nudge) visit(v visitor) {
	v.str(1, &m.Volume)
	v.bytesList(2, &m.Changes)
}
