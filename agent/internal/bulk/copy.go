// Package bulk moves large payloads.
package bulk

const much = 2048

// Copy copies as much of from as fits, as the built-in copy does, between memory that does not
// overlap. The runtime's own way uses instructions that an emulator is slow at: plain ones are half
// as fast again there, and no slower elsewhere.
func Copy(to, from []byte) int {
	n := min(len(to), len(from))
	if n < much {
		return copy(to, from)
	}
	copyMuch(to[:n], from[:n])
	return n
}
