package wire

import (
	"encoding/binary"
	"errors"
	"strings"
)

// MaxFields bounds the fields of one record.
const MaxFields = 65536

const fieldHeader = 5

// A visitor is shown each field of a message: one to write it, one to read it. So a message's
// fields are listed once, and no reflection is needed.
type visitor interface {
	uint(tag byte, v *uint64)
	str(tag byte, v *string)
	bytes(tag byte, v *[]byte)
	bytesList(tag byte, v *[][]byte)
	strList(tag byte, v *[]string)
}

type encoder struct{ out []byte }

func (e *encoder) header(tag byte, size int) {
	e.out = append(e.out, tag)
	e.out = binary.BigEndian.AppendUint32(e.out, uint32(size))
}

func (e *encoder) uint(tag byte, v *uint64) {
	if *v != 0 {
		e.header(tag, 8)
		e.out = binary.BigEndian.AppendUint64(e.out, *v)
	}
}

func (e *encoder) str(tag byte, v *string) {
	if *v != "" {
		e.header(tag, len(*v))
		e.out = append(e.out, *v...)
	}
}

func (e *encoder) bytes(tag byte, v *[]byte) {
	if len(*v) != 0 {
		e.header(tag, len(*v))
		e.out = append(e.out, *v...)
	}
}

func (e *encoder) bytesList(tag byte, v *[][]byte) {
	for _, item := range *v {
		e.header(tag, len(item))
		e.out = append(e.out, item...)
	}
}

func (e *encoder) strList(tag byte, v *[]string) {
	for _, item := range *v {
		e.header(tag, len(item))
		e.out = append(e.out, item...)
	}
}

// decoder walks over a record that check has found sound, once for each field asked for.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) check() error {
	count := 0
	for rest := d.data; len(rest) > 0; count++ {
		if len(rest) < fieldHeader {
			return errors.New("a record ends inside a field header")
		}
		size := binary.BigEndian.Uint32(rest[1:])
		if uint64(size) > uint64(len(rest)-fieldHeader) {
			return errors.New("a field runs past the record's end")
		}
		rest = rest[fieldHeader+int(size):]
	}
	if count > MaxFields {
		return errors.New("a record has too many fields")
	}
	return nil
}

func (d *decoder) each(tag byte, found func(value []byte)) {
	for rest := d.data; len(rest) > 0; {
		end := fieldHeader + int(binary.BigEndian.Uint32(rest[1:]))
		if rest[0] == tag {
			found(rest[fieldHeader:end])
		}
		rest = rest[end:]
	}
}

func (d *decoder) one(tag byte) ([]byte, bool) {
	var value []byte
	count := 0
	d.each(tag, func(v []byte) { value, count = v, count+1 })
	if count > 1 {
		d.err = errors.New("a field is given twice")
	}
	return value, count > 0
}

func (d *decoder) uint(tag byte, v *uint64) {
	value, ok := d.one(tag)
	if !ok {
		return
	}
	if len(value) != 8 {
		d.err = errors.New("a number has not 8 bytes")
		return
	}
	*v = binary.BigEndian.Uint64(value)
}

func (d *decoder) str(tag byte, v *string) {
	if value, ok := d.one(tag); ok {
		*v = strings.ToValidUTF8(string(value), "\uFFFD")
	}
}

func (d *decoder) bytes(tag byte, v *[]byte) {
	if value, ok := d.one(tag); ok {
		*v = append([]byte(nil), value...)
	}
}

func (d *decoder) bytesList(tag byte, v *[][]byte) {
	d.each(tag, func(value []byte) { *v = append(*v, append([]byte(nil), value...)) })
}

func (d *decoder) strList(tag byte, v *[]string) {
	d.each(tag, func(value []byte) { *v = append(*v, strings.ToValidUTF8(string(value), "\uFFFD")) })
}
