package bulk

const block = 64

// copyBlocks copies blocks of 64 bytes; at least one. The two must not overlap.
//
//go:noescape
func copyBlocks(to, from *byte, blocks uintptr)

func copyMuch(to, from []byte) {
	blocks := len(from) / block
	copyBlocks(&to[0], &from[0], uintptr(blocks))
	copy(to[blocks*block:], from[blocks*block:])
}
