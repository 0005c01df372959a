package volume

import (
	"encoding/binary"
	"os"
	"strconv"
	"syscall"

	"sandlot/agent/internal/bulk"
	"sandlot/agent/internal/mux"
)

// answers takes the host's messages to the kernel, each whole in one write.
type answers struct {
	owner  *Volumes
	volume *volume // nil until it is mounted; nothing comes before
	stream *mux.Stream
	part   []byte
	whole  []byte
	first  bool
}

func (a *answers) Data(p []byte) {
	a.stream.Grant(len(p))
	if a.volume == nil {
		return
	}
	for len(p) > 0 {
		if len(a.part) > 0 || len(p) < replyHeader || len(p) < int(binary.LittleEndian.Uint32(p)) {
			p = a.gather(p)
			continue
		}
		size := max(int(binary.LittleEndian.Uint32(p)), replyHeader)
		if size > len(p) {
			return
		}
		a.write(p[:size])
		p = p[size:]
	}
}

// gather puts together a message that came in pieces; returns what is left of p.
func (a *answers) gather(p []byte) []byte {
	if missing := replyHeader - len(a.part); missing > 0 {
		n := min(missing, len(p))
		a.part = append(a.part, p[:n]...)
		if p = p[n:]; len(a.part) < replyHeader {
			return p
		}
	}
	size := int(binary.LittleEndian.Uint32(a.part))
	if cap(a.part) < size && size <= maxRequest+replyHeader {
		a.part = append(make([]byte, 0, size), a.part...)
	}
	n := min(size-len(a.part), len(p))
	if n > 0 {
		a.part = append(a.part, p[:n]...)
		p = p[n:]
	}
	if len(a.part) >= size {
		a.write(a.part)
		if a.part = a.part[:0]; cap(a.part) > 1<<16 {
			a.part = nil
		}
	}
	return p
}

func (a *answers) write(message []byte) {
	one := a.volume
	unique := binary.LittleEndian.Uint64(message[8:])
	if unique == 0 {
		one.notify(message)
		return
	}
	one.mappable.created(unique, message)
	if len(message) >= inline {
		// The kernel takes the pages of an answer as they are, and cannot take the window's.
		if len(a.whole) < len(message) {
			a.whole = make([]byte, max(len(message), 64<<10))
		}
		bulk.Copy(a.whole, message)
		message = a.whole[:len(message)]
	}
	errno := write(one.device, message)
	if errno == syscall.EFAULT { // a small one in the window
		errno = write(one.device, append([]byte(nil), message...))
	}
	if errno != 0 && errno != syscall.ENOENT {
		one.owner.log("an answer was refused: " + errno.Error())
		one.refuse(unique)
	} // ENOENT: nobody waits for this any more
	one.owner.mu.Lock()
	delete(one.pending, unique)
	one.owner.mu.Unlock()
	if a.first {
		a.first = false
		go one.owner.guarded(one.tune)
	}
}

// notify gives the kernel a notification. It may wait there for a page whose READ is not answered
// yet, so not who carries the answers does it.
func (one *volume) notify(message []byte) {
	one.notices.Lock()
	defer one.notices.Unlock()
	one.noted = append(one.noted, append([]byte(nil), message...))
	if !one.noting {
		one.noting = true
		go one.owner.guarded(one.note)
	}
}

func (one *volume) note() {
	for {
		one.notices.Lock()
		all := one.noted
		one.noted = nil
		if len(all) == 0 {
			one.noting = false
			one.notices.Unlock()
			return
		}
		one.notices.Unlock()
		for _, message := range all {
			syscall.Write(one.device, message)
		}
	}
}

// tune lets the kernel read as much at once as one request can carry, and keep back more of what is
// written than the hundredth that it allows file systems which programs serve: it made writers wait
// for requests of less than that.
func (one *volume) tune() {
	var s syscall.Stat_t
	if syscall.Stat(one.path, &s) != nil {
		return
	}
	minor := s.Dev&0xff | s.Dev>>12&0xfff00
	settings := "/sys/class/bdi/0:" + strconv.FormatUint(minor, 10)
	os.WriteFile(settings+"/read_ahead_kb", []byte(readahead), 0)
	if one.writeback {
		os.WriteFile(settings+"/max_ratio", []byte(dirtyShare), 0)
	}
}

func (a *answers) Fin() { a.Reset(false) }

// Reset: the host serves it no more. When that was a session's end another host may.
func (a *answers) Reset(lost bool) {
	a.owner.mu.Lock()
	if a.volume != nil && a.volume.stream == a.stream {
		a.volume.stream = nil
	}
	a.owner.mu.Unlock()
}
