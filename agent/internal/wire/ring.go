package wire

import "errors"

// Ring is the writer's book-keeping of one half of the window (section 4). The zero Ring has no
// room at all.
type Ring struct {
	size  int
	next  int
	used  int
	spans []span
	first int
}

// A span is what one payload takes: its bytes, and the bytes left out before it at the end.
type span struct{ length, skipped int }

// NewRing returns an empty ring of size bytes.
func NewRing(size int) Ring { return Ring{size: size} }

// Reset forgets everything that is outstanding.
func (r *Ring) Reset() { r.next, r.used, r.spans, r.first = 0, 0, r.spans[:0], 0 }

// Room is the size of the largest piece that Allocate can give now.
func (r *Ring) Room() int {
	free := r.size - r.used
	atEnd := r.size - r.next
	if free <= atEnd {
		return free
	}
	return max(atEnd, free-atEnd)
}

// Allocate takes length bytes in one piece and returns their offset.
func (r *Ring) Allocate(length int) (int, bool) {
	free := r.size - r.used
	skipped := 0
	if length > r.size-r.next {
		skipped = r.size - r.next
	}
	if length <= 0 || length+skipped > free {
		return 0, false
	}
	offset := r.next
	if skipped > 0 {
		offset = 0
	}
	r.next = offset + length
	if r.next == r.size {
		r.next = 0
	}
	r.used += length + skipped
	if r.first > 64 && r.first*2 > len(r.spans) {
		r.spans = r.spans[:copy(r.spans, r.spans[r.first:])]
		r.first = 0
	}
	r.spans = append(r.spans, span{length, skipped})
	return offset, true
}

// Shrink gives back what the latest allocation did not need; to nothing undoes it.
func (r *Ring) Shrink(length int) {
	last := &r.spans[len(r.spans)-1]
	give := last.length - length
	r.used -= give
	if length > 0 {
		r.next -= give
		if r.next < 0 {
			r.next += r.size
		}
		last.length = length
		return
	}
	r.used -= last.skipped
	r.next -= give + last.skipped
	if r.next < 0 {
		r.next += r.size
	}
	r.spans = r.spans[:len(r.spans)-1]
}

// Free takes back whole payloads, in order.
func (r *Ring) Free(length int) error {
	for length > 0 {
		if r.first == len(r.spans) {
			return errors.New("more is freed than is outstanding")
		}
		s := r.spans[r.first]
		if s.length > length {
			return errors.New("part of a shared payload is freed")
		}
		length -= s.length
		r.used -= s.length + s.skipped
		r.first++
	}
	if r.first == len(r.spans) {
		r.spans, r.first = r.spans[:0], 0
	}
	return nil
}
