// Package wire is the channel's byte formats, without input or output: frames, records, messages,
// the resync, and the rings' book-keeping. The specification is protocol/README.md.
package wire

import (
	"encoding/binary"
	"errors"
)

// Frame types.
const (
	Data       = 0
	Credit     = 1
	Ping       = 2
	GoAway     = 3
	Shared     = 4
	SharedFree = 5
)

// Frame flags.
const (
	Syn = 1
	Ack = 2
	Fin = 4
	Rst = 8
)

// Limits of section 3 and 4.
const (
	HeaderSize    = 12
	MaxPayload    = 64 << 10
	MaxShared     = 1 << 20
	InitialCredit = 256 << 10
	MaxCredit     = 16 << 20
	MaxStreams    = 16384
	MaxOwed       = 256 << 10
)

// ErrShort says that the bytes end before the frame does.
var ErrShort = errors.New("the frame is not complete")

// Frame is one frame. Payload points into the buffer that it was parsed from.
type Frame struct {
	Type    uint8
	Flags   uint16
	Stream  uint32
	Length  uint32
	Offset  uint32
	Payload []byte
}

// AppendHeader appends a frame's header, and for SHARED its offset.
func AppendHeader(to []byte, f Frame) []byte {
	to = append(to, 0, f.Type)
	to = binary.BigEndian.AppendUint16(to, f.Flags)
	to = binary.BigEndian.AppendUint32(to, f.Stream)
	to = binary.BigEndian.AppendUint32(to, f.Length)
	if f.Type == Shared {
		to = binary.BigEndian.AppendUint32(to, f.Offset)
	}
	return to
}

// AppendFrame appends a whole frame.
func AppendFrame(to []byte, f Frame) []byte {
	return append(AppendHeader(to, f), f.Payload...)
}

// Parse takes one frame from the start of data and says how many bytes it had.
func Parse(data []byte) (Frame, int, error) {
	if len(data) < HeaderSize {
		return Frame{}, 0, ErrShort
	}
	f := Frame{
		Type:   data[1],
		Flags:  binary.BigEndian.Uint16(data[2:]),
		Stream: binary.BigEndian.Uint32(data[4:]),
		Length: binary.BigEndian.Uint32(data[8:]),
	}
	switch {
	case data[0] != 0:
		return f, 0, errors.New("unknown frame version")
	case f.Type > SharedFree:
		return f, 0, errors.New("unknown frame type")
	case f.Flags&^15 != 0:
		return f, 0, errors.New("unknown frame flags")
	}
	size := HeaderSize
	switch f.Type {
	case Data:
		if f.Length > MaxPayload {
			return f, 0, errors.New("a payload is too long")
		}
		size += int(f.Length)
		if len(data) < size {
			return f, 0, ErrShort
		}
		f.Payload = data[HeaderSize:size]
	case Shared:
		if f.Length < 1 || f.Length > MaxShared {
			return f, 0, errors.New("a shared payload has a wrong length")
		}
		size += 4
		if len(data) < size {
			return f, 0, ErrShort
		}
		f.Offset = binary.BigEndian.Uint32(data[HeaderSize:])
	}
	return f, size, nil
}
