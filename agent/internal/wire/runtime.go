package wire

// Messages about a runtime that is lent to the guest (section 13).
type (
	Lend   struct{}
	Borrow struct{ Pid, Uid uint64 }
)

func (*Lend) Kind() byte   { return 0x23 }
func (*Borrow) Kind() byte { return 0x63 }

func (*Lend) visit(visitor) {}

func (m *Borrow) visit(v visitor) {
	v.uint(1, &m.Pid)
	v.uint(2, &m.Uid)
}
