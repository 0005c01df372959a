package files

import (
	"sort"
	"strconv"
	"syscall"
)

// Writing tar headers: ustar, and PAX records for what does not fit ("pax Interchange Format" in
// POSIX.1-2008). The standard library's writer makes ten times the work of it for each file,
// which an emulated machine feels.

const (
	record     = 512
	maxOctal11 = 1<<33 - 1
	maxOctal7  = 1<<21 - 1
)

const (
	typeFile   = '0'
	typeLink   = '1'
	typeSym    = '2'
	typeChar   = '3'
	typeBlock  = '4'
	typeFolder = '5'
	typeFifo   = '6'
)

// entry is one member of an archive.
type entry struct {
	name, target string
	kind         byte
	mode         uint32
	uid, gid     uint32
	size, mtime  int64
	device       uint64
	xattrs       map[string]string
}

// append adds the entry's header, and before it the PAX records that it needs.
func (e *entry) append(out []byte) []byte {
	records := e.records()
	if len(records) > 0 {
		head := entry{name: "././@PaxHeader", kind: 'x', mode: 0o644, size: int64(len(records))}
		out = head.ustar(out)
		out = append(out, records...)
		out = pad(out, len(records))
	}
	return e.ustar(out)
}

func pad(out []byte, size int) []byte {
	return append(out, zeros[:-size&(record-1)]...)
}

var zeros [64 << 10]byte

// records are the fields that have no room in a ustar header.
func (e *entry) records() []byte {
	var r []byte
	if len(e.name) > 100 {
		r = appendRecord(r, "path", e.name)
	}
	if len(e.target) > 100 {
		r = appendRecord(r, "linkpath", e.target)
	}
	if e.size > maxOctal11 {
		r = appendRecord(r, "size", strconv.FormatInt(e.size, 10))
	}
	if e.uid > maxOctal7 {
		r = appendRecord(r, "uid", strconv.FormatUint(uint64(e.uid), 10))
	}
	if e.gid > maxOctal7 {
		r = appendRecord(r, "gid", strconv.FormatUint(uint64(e.gid), 10))
	}
	if e.mtime < 0 || e.mtime%1e9 != 0 || e.mtime/1e9 > maxOctal11 {
		r = appendRecord(r, "mtime", decimalTime(e.mtime))
	}
	if len(e.xattrs) > 0 {
		names := make([]string, 0, len(e.xattrs))
		for name := range e.xattrs {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			r = appendRecord(r, "SCHILY.xattr."+name, e.xattrs[name])
		}
	}
	return r
}

func decimalTime(ns int64) string {
	sign := ""
	if ns < 0 {
		sign, ns = "-", -ns
	}
	fraction := strconv.FormatInt(ns%1e9+1e9, 10)[1:]
	return sign + strconv.FormatInt(ns/1e9, 10) + "." + fraction
}

// appendRecord adds "length key=value\n", whose length counts its own digits.
func appendRecord(to []byte, key, value string) []byte {
	rest := len(key) + len(value) + 3
	size := rest + len(strconv.Itoa(rest))
	if len(strconv.Itoa(size))+rest != size {
		size = rest + len(strconv.Itoa(size))
	}
	to = strconv.AppendInt(to, int64(size), 10)
	to = append(to, ' ')
	to = append(to, key...)
	to = append(to, '=')
	to = append(to, value...)
	return append(to, '\n')
}

func (e *entry) ustar(out []byte) []byte {
	at := len(out)
	out = append(out, zeros[:record]...)
	h := out[at:]
	copy(h[0:100], e.name)
	octal(h[100:108], uint64(e.mode&0o7777))
	octal(h[108:116], min(uint64(e.uid), maxOctal7))
	octal(h[116:124], min(uint64(e.gid), maxOctal7))
	octal(h[124:136], uint64(min(e.size, maxOctal11)))
	octal(h[136:148], uint64(min(max(e.mtime, 0)/1e9, maxOctal11)))
	h[156] = e.kind
	copy(h[157:257], e.target)
	copy(h[257:], "ustar\x0000")
	if e.device != 0 {
		octal(h[329:337], major(e.device))
		octal(h[337:345], minor(e.device))
	}
	sum := uint64(8 * ' ')
	for _, b := range h {
		sum += uint64(b)
	}
	octal(h[148:155], sum)
	h[155] = ' '
	return out
}

// octal fills a field with digits and a NUL.
func octal(field []byte, n uint64) {
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = byte('0' + n&7)
		n >>= 3
	}
}

func major(d uint64) uint64 { return d>>8&0xfff | d>>32&^0xfff }
func minor(d uint64) uint64 { return d&0xff | d>>12&^0xff&0xffffffff }

// device is a device number as mknod(2) takes it.
func device(major, minor int64) uint64 {
	a, i := uint64(major), uint64(minor)
	return i&0xff | a&0xfff<<8 | i&^0xff<<12 | a&^0xfff<<32
}

// kindOf is the archive's letter for a file's type; 0 for one that archives do not have.
func kindOf(mode uint32) byte {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return typeFile
	case syscall.S_IFLNK:
		return typeSym
	case syscall.S_IFDIR:
		return typeFolder
	case syscall.S_IFCHR:
		return typeChar
	case syscall.S_IFBLK:
		return typeBlock
	case syscall.S_IFIFO:
		return typeFifo
	}
	return 0
}
