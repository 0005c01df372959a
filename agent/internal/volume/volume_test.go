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

// Where a node may be mapped, what was written there is to be known before its holes are.
func TestSeeksPastMappings(t *testing.T) {
	one := &volume{}
	ask := func(op uint32, node, unique uint64, flags uint32, want bool) {
		t.Helper()
		r := request(op, node, 0)
		binary.LittleEndian.PutUint64(r[8:], unique)
		binary.LittleEndian.PutUint32(r[requestHeader:], flags)
		if got := one.seeksPastMappings(r); got != want {
			t.Errorf("request %d of node %d: %v", op, node, got)
		}
	}
	ask(opOpen, 7, 1, 0, false) // for reading
	ask(opOpen, 8, 2, readWrite, false)
	ask(opLseek, 7, 3, 0, false)
	ask(opLseek, 8, 4, 0, true)
	ask(opCreate, 1, 5, readWrite|0x40, false)
	ask(opCreate, 1, 6, 1|0x40, false) // for writing, which is not enough to map it
	answer := func(unique, node uint64, size int) {
		r := make([]byte, 200)
		binary.LittleEndian.PutUint64(r[replyHeader:], node)
		one.mappable.created(unique, r[:size])
	}
	answer(6, 10, 200)
	answer(5, 9, 200)
	answer(5, 11, 200) // answered already
	ask(opLseek, 9, 7, 0, true)
	ask(opLseek, 10, 8, 0, false)
	ask(opLseek, 11, 9, 0, false)
	ask(opCreate, 1, 10, readWrite, false)
	answer(10, 0, replyHeader) // it failed
	ask(opLseek, 0, 11, 0, false)
	for node := uint64(100); len(one.mappable.known) < mostMappable; node++ {
		ask(opOpen, node, 12, readWrite, false)
	}
	ask(opLseek, 7, 13, 0, true) // which may be is not known any more
}

// Only what no program waits for may wait itself.
func TestQuiet(t *testing.T) {
	for op, want := range map[uint32]bool{
		opForget: true, opBatchForget: true, opRelease: true, opReleasedir: true,
		opOpen: false, opFlush: false, opInterrupt: false, opSetlk: false, opLseek: false,
	} {
		if got := quiet(request(op, 1, 0)); got != want {
			t.Errorf("request %d: %v", op, got)
		}
	}
}
