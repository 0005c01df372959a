package volume

import (
	"encoding/binary"
	"sync"
	"syscall"
)

const (
	accessMode, readWrite = 3, 2
	// mostMappable is how many nodes that may be mapped are told apart.
	mostMappable  = 65536
	notifyInval   = 2
	invalidateEnd = replyHeader + 24
)

// nodes is a set of them, and of the CREATE requests that will tell theirs.
type nodes struct {
	mu      sync.Mutex
	known   map[uint64]struct{}
	creates map[uint64]struct{}
}

// seeksPastMappings notes which nodes may be mapped to be written to, and says whether a request is
// for the next data or hole of one: the kernel (Linux 6.1) does not write what was changed in a
// mapping before it asks, and programs would take it for a hole.
func (one *volume) seeksPastMappings(request []byte) bool {
	set := &one.mappable
	switch binary.LittleEndian.Uint32(request[4:]) {
	case opOpen:
		if opensBoth(request) {
			set.mu.Lock()
			set.add(binary.LittleEndian.Uint64(request[16:]))
			set.mu.Unlock()
		}
	case opCreate:
		if opensBoth(request) {
			set.mu.Lock()
			if set.creates == nil {
				set.creates = map[uint64]struct{}{}
			}
			if len(set.creates) < mostMappable {
				set.creates[binary.LittleEndian.Uint64(request[8:])] = struct{}{}
			}
			set.mu.Unlock()
		}
	case opLseek:
		set.mu.Lock()
		defer set.mu.Unlock()
		_, may := set.known[binary.LittleEndian.Uint64(request[16:])]
		return may || len(set.known) >= mostMappable
	}
	return false
}

func opensBoth(request []byte) bool {
	return len(request) >= requestHeader+4 &&
		binary.LittleEndian.Uint32(request[requestHeader:])&accessMode == readWrite
}

func (set *nodes) add(node uint64) {
	if set.known == nil {
		set.known = map[uint64]struct{}{}
	}
	if len(set.known) < mostMappable {
		set.known[node] = struct{}{}
	}
}

// created takes the node from the answer to a CREATE.
func (set *nodes) created(unique uint64, answer []byte) {
	set.mu.Lock()
	defer set.mu.Unlock()
	if _, waits := set.creates[unique]; !waits {
		return
	}
	delete(set.creates, unique)
	if len(answer) >= replyHeader+8 {
		set.add(binary.LittleEndian.Uint64(answer[replyHeader:]))
	}
}

// writeMapped has the kernel write what was changed in mappings of a node, which it does before it
// forgets the node's pages.
func (one *volume) writeMapped(node uint64) {
	notice := make([]byte, invalidateEnd)
	binary.LittleEndian.PutUint32(notice, invalidateEnd)
	binary.LittleEndian.PutUint32(notice[4:], notifyInval)
	binary.LittleEndian.PutUint64(notice[replyHeader:], node)
	syscall.Write(one.device, notice) // fails where it has none
}
