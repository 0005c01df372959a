package wire

import "sandlot/agent/internal/bulk"

// Buffer is a first-in first-out buffer of bytes that grows up to its limit. It is not safe for
// use by several goroutines at once.
type Buffer struct {
	data  []byte
	start int
	size  int
	limit int
	// Hold keeps the memory of an empty buffer until Release: what flows fills it again at once.
	Hold bool
}

const firstBuffer = 4096

// NewBuffer returns an empty buffer; limit is a power of two.
func NewBuffer(limit int) Buffer { return Buffer{limit: limit} }

// Len is how many bytes are in it.
func (b *Buffer) Len() int { return b.size }

// Cap is how much memory it has.
func (b *Buffer) Cap() int { return len(b.data) }

// Put appends as much as there is room for and says how much that was.
func (b *Buffer) Put(p []byte) int {
	p = p[:min(len(p), b.limit-b.size)]
	b.grow(b.size + len(p))
	if len(p) == 0 {
		return 0
	}
	at := (b.start + b.size) & (len(b.data) - 1)
	n := bulk.Copy(b.data[at:], p)
	bulk.Copy(b.data, p[n:])
	b.size += len(p)
	return len(p)
}

// Keep appends all of p and drops the oldest bytes that no longer fit.
func (b *Buffer) Keep(p []byte) {
	p = p[max(0, len(p)-b.limit):]
	if over := b.size + len(p) - b.limit; over > 0 {
		b.Drop(over)
	}
	b.Put(p)
}

// Front is the oldest bytes that lie in one piece.
func (b *Buffer) Front() []byte {
	return b.data[b.start:min(b.start+b.size, len(b.data))]
}

// Drop takes n bytes away from the front. An empty buffer gives its memory back.
func (b *Buffer) Drop(n int) {
	b.size -= n
	if b.size == 0 {
		b.start = 0
		if !b.Hold {
			b.Release()
		}
		return
	}
	b.start = (b.start + n) & (len(b.data) - 1)
}

// Release gives the memory of an empty buffer back, if it is much.
func (b *Buffer) Release() {
	if b.size == 0 && !b.Small() {
		b.data = nil
	}
}

// Free gives all memory of an empty buffer back.
func (b *Buffer) Free() {
	if b.size == 0 {
		b.data = nil
	}
}

// Small says whether the buffer has too little memory to give back.
func (b *Buffer) Small() bool { return len(b.data) <= 16*firstBuffer }

func (b *Buffer) grow(need int) {
	if need <= len(b.data) {
		return
	}
	size := max(firstBuffer, len(b.data))
	for size < need {
		size *= 2
	}
	bigger := make([]byte, size)
	n := copy(bigger, b.Front())
	copy(bigger[n:], b.data[:b.size-n])
	b.data, b.start = bigger, 0
}
