package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxMessage bounds a message's record on its way to the guest.
const MaxMessage = 4 << 20

// MessageHeader is the size of a message's header.
const MessageHeader = 5

// Flags, and the scopes of Signal.
const (
	ExecTTY      = 1
	ExecDetached = 2
	ExecStdin    = 4

	ExitedTimedOut = 1
	ExitedOOM      = 2

	ScopeProcess = 0
	ScopeGroup   = 1
	ScopeAll     = 2
)

// Message is one of the types below.
type Message interface {
	Kind() byte
	visit(v visitor)
}

// The messages of section 6.
type (
	Configure struct {
		TimeNs              uint64
		Entropy             []byte
		Hostname, MachineID string
		Pids                uint64
	}
	MountRoot struct {
		ImageDevice, DiskDevice, DiskType string
		Flags                             uint64
	}
	Stage struct{ ImageDevice, ImageType, DiskDevice, DiskType, OtherDevice string }
	Exec  struct {
		Process       uint64
		Argv, Env     [][]byte
		Cwd           []byte
		User          string
		Flags         uint64
		Rows, Columns uint64
		Limits        []string
		TimeoutMs     uint64
	}
	Stdio    struct{ Process, Descriptor, Flags uint64 }
	Clock    struct{ TimeNs uint64 }
	Shutdown struct{ GraceMs, Signal, Process uint64 }
	Signal   struct{ Number, Scope uint64 }
	Resize   struct{ Rows, Columns uint64 }
	OK       struct{}
	Failed   struct {
		Code, Text string
		Errno      uint64
		Path       []byte
	}
	Started struct{ Pid uint64 }
	Exited  struct{ Code, Signal, UserUs, SystemUs, PeakBytes, Flags, WallUs uint64 }
)

// MountRootReadOnly lets nobody write to the root.
const MountRootReadOnly = 1

func (*Configure) Kind() byte { return 0x01 }
func (*MountRoot) Kind() byte { return 0x02 }
func (*Exec) Kind() byte      { return 0x03 }
func (*Stdio) Kind() byte     { return 0x04 }
func (*Clock) Kind() byte     { return 0x05 }
func (*Shutdown) Kind() byte  { return 0x06 }
func (*Stage) Kind() byte     { return 0x07 }
func (*Signal) Kind() byte    { return 0x21 }
func (*Resize) Kind() byte    { return 0x22 }
func (*OK) Kind() byte        { return 0x80 }
func (*Failed) Kind() byte    { return 0x81 }
func (*Started) Kind() byte   { return 0x82 }
func (*Exited) Kind() byte    { return 0x83 }

func (m *Configure) visit(v visitor) {
	v.uint(1, &m.TimeNs)
	v.bytes(2, &m.Entropy)
	v.str(3, &m.Hostname)
	v.str(4, &m.MachineID)
	v.uint(5, &m.Pids)
}

func (m *MountRoot) visit(v visitor) {
	v.str(1, &m.ImageDevice)
	v.str(2, &m.DiskDevice)
	v.str(3, &m.DiskType)
	v.uint(4, &m.Flags)
}

func (m *Stage) visit(v visitor) {
	v.str(1, &m.ImageDevice)
	v.str(2, &m.ImageType)
	v.str(3, &m.DiskDevice)
	v.str(4, &m.DiskType)
	v.str(5, &m.OtherDevice)
}

func (m *Exec) visit(v visitor) {
	v.uint(1, &m.Process)
	v.bytesList(2, &m.Argv)
	v.bytesList(3, &m.Env)
	v.bytes(4, &m.Cwd)
	v.str(5, &m.User)
	v.uint(6, &m.Flags)
	v.uint(7, &m.Rows)
	v.uint(8, &m.Columns)
	v.strList(9, &m.Limits)
	v.uint(10, &m.TimeoutMs)
}

func (m *Stdio) visit(v visitor) {
	v.uint(1, &m.Process)
	v.uint(2, &m.Descriptor)
	v.uint(3, &m.Flags)
}

func (m *Clock) visit(v visitor) { v.uint(1, &m.TimeNs) }

func (m *Shutdown) visit(v visitor) {
	v.uint(1, &m.GraceMs)
	v.uint(2, &m.Signal)
	v.uint(3, &m.Process)
}

func (m *Signal) visit(v visitor) {
	v.uint(1, &m.Number)
	v.uint(2, &m.Scope)
}

func (m *Resize) visit(v visitor) {
	v.uint(1, &m.Rows)
	v.uint(2, &m.Columns)
}

func (*OK) visit(visitor) {}

func (m *Failed) visit(v visitor) {
	v.str(1, &m.Code)
	v.str(2, &m.Text)
	v.uint(3, &m.Errno)
	v.bytes(4, &m.Path)
}

func (m *Started) visit(v visitor) { v.uint(1, &m.Pid) }

func (m *Exited) visit(v visitor) {
	v.uint(1, &m.Code)
	v.uint(2, &m.Signal)
	v.uint(3, &m.UserUs)
	v.uint(4, &m.SystemUs)
	v.uint(5, &m.PeakBytes)
	v.uint(6, &m.Flags)
	v.uint(7, &m.WallUs)
}

func newMessage(kind byte) Message {
	switch kind {
	case 0x01:
		return &Configure{}
	case 0x02:
		return &MountRoot{}
	case 0x03:
		return &Exec{}
	case 0x04:
		return &Stdio{}
	case 0x05:
		return &Clock{}
	case 0x06:
		return &Shutdown{}
	case 0x07:
		return &Stage{}
	case 0x21:
		return &Signal{}
	case 0x22:
		return &Resize{}
	case 0x80:
		return &OK{}
	case 0x81:
		return &Failed{}
	case 0x82:
		return &Started{}
	case 0x83:
		return &Exited{}
	}
	if f := more[kind]; f != nil {
		return f()
	}
	return newFileMessage(kind)
}

// Encode returns the message with its header.
func Encode(m Message) []byte {
	e := encoder{out: make([]byte, MessageHeader, 128)}
	m.visit(&e)
	e.out[0] = m.Kind()
	binary.BigEndian.PutUint32(e.out[1:], uint32(len(e.out)-MessageHeader))
	return e.out
}

// TakeMessage cuts one message from the start of data. With no error and no message more bytes
// are needed. The message shares no memory with data.
func TakeMessage(data []byte) (Message, int, error) {
	if len(data) < MessageHeader {
		return nil, 0, nil
	}
	size := binary.BigEndian.Uint32(data[1:])
	if size > MaxMessage {
		return nil, 0, errors.New("a message is too long")
	}
	end := MessageHeader + int(size)
	if len(data) < end {
		return nil, 0, nil
	}
	m, err := Decode(data[0], data[MessageHeader:end])
	return m, end, err
}

// Decode parses a message's record.
func Decode(kind byte, record []byte) (Message, error) {
	m := newMessage(kind)
	if m == nil {
		return nil, fmt.Errorf("unknown message kind 0x%02x", kind)
	}
	d := decoder{data: record}
	if err := d.check(); err != nil {
		return nil, err
	}
	m.visit(&d)
	return m, d.err
}
