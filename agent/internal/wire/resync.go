package wire

import "bytes"

// Magic opens a resync.
const Magic = "\x00sandlot-resync\xff"

// TokenSize is the size of a token and of a nonce.
const TokenSize = 16

const markSize = len(Magic) + TokenSize

// Scanner looks for MAGIC TOKEN in all that is read, whatever frames it lies across.
type Scanner struct {
	mark [markSize]byte
	tail []byte
}

// NewScanner returns a scanner for the first session: its token is zero.
func NewScanner() *Scanner {
	s := &Scanner{tail: make([]byte, 0, 2*markSize)}
	copy(s.mark[:], Magic)
	return s
}

// SetToken sets what must follow MAGIC from now on, and forgets what was read.
func (s *Scanner) SetToken(token []byte) {
	copy(s.mark[len(Magic):], token)
	s.tail = s.tail[:0]
}

// Find looks at the bytes that follow those of the last call, and returns the index in data
// just after the mark, or -1.
func (s *Scanner) Find(data []byte) int {
	kept := len(s.tail)
	if kept > 0 {
		// The mark may have begun in the last read: look at the seam alone.
		seam := append(s.tail, data[:min(len(data), markSize-1)]...)
		if at := bytes.Index(seam, s.mark[:]); at >= 0 {
			s.tail = s.tail[:0]
			return at + markSize - kept
		}
		s.tail = seam[:kept]
	}
	if at := bytes.Index(data, s.mark[:]); at >= 0 {
		s.tail = s.tail[:0]
		return at + markSize
	}
	if len(data) >= markSize-1 {
		s.tail = append(s.tail[:0], data[len(data)-markSize+1:]...)
		return -1
	}
	s.tail = append(s.tail, data...)
	if extra := len(s.tail) - (markSize - 1); extra > 0 {
		s.tail = s.tail[:copy(s.tail, s.tail[extra:])]
	}
	return -1
}
