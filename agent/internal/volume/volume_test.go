package volume

import (
	"encoding/binary"
	"testing"
)

func request(op uint32, node uint64, flags uint32) []byte {
	r := make([]byte, 88)
	binary.LittleEndian.PutUint32(r, uint32(len(r)))
	binary.LittleEndian.PutUint32(r[4:], op)
	binary.LittleEndian.PutUint64(r[16:], node)
	binary.LittleEndian.PutUint32(r[lockFlags:], flags)
	return r
}

// A FLUSH is the host's where a lock may end with it.
func TestFlushOfLockedNodes(t *testing.T) {
	one := &volume{locked: map[uint64]struct{}{}}
	ask := func(op uint32, node uint64, flags uint32, want bool) {
		t.Helper()
		if got := one.idleFlush(request(op, node, flags)); got != want {
			t.Errorf("request %d of node %d: %v", op, node, got)
		}
	}
	ask(opFlush, 7, 0, true)
	ask(opSetlk, 7, lockFlock, false) // ends with the open file
	ask(opFlush, 7, 0, true)
	ask(opSetlkw, 7, 0, false)
	ask(opFlush, 7, 0, false)
	ask(opFlush, 8, 0, true)
	ask(opSetlk, 8, 0, false)
	ask(opFlush, 8, 0, false)
	for node := uint64(100); len(one.locked) < mostLocked; node++ {
		ask(opSetlk, node, 0, false)
	}
	ask(opFlush, 9, 0, false) // which have locks is not known any more
}
