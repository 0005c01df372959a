package process

import (
	"bytes"
	"testing"
)

func filled(t *testing.T, limit int64, pieces ...string) *journal {
	t.Helper()
	j := newJournal(&pool{most: limit})
	for i, p := range pieces {
		j.append(byte(i%2+1), []byte(p))
	}
	return j
}

// all is what a watcher gets that begins at an offset.
func all(j *journal, from uint64) (text string, first uint64) {
	w := &watcher{at: from}
	first = from
	for begun := false; ; begun = true {
		m := j.piece(w)
		if m == nil {
			return text, first
		}
		if !begun {
			first = m.Offset
		}
		text += string(m.Data)
		w.at += uint64(len(m.Data))
	}
}

func TestAJournalKeepsBothDescriptorsInOrder(t *testing.T) {
	j := filled(t, 1<<30, "one ", "two ", "three")
	if text, first := all(j, 0); text != "one two three" || first != 0 {
		t.Errorf("%q from %d", text, first)
	}
	if text, _ := all(j, 5); text != "wo three" {
		t.Errorf("from the middle: %q", text)
	}
	if text, _ := all(j, 99); text != "" {
		t.Errorf("beyond the end: %q", text)
	}
}

func TestAJournalDropsTheOldestAndSaysSo(t *testing.T) {
	j := newJournal(&pool{most: 1 << 30})
	line := bytes.Repeat([]byte("x"), 10_000)
	for range 300 {
		j.append(1, line)
	}
	text, first := all(j, 0)
	if first != 3_000_000-journalLimit || len(text) != journalLimit {
		t.Errorf("%d bytes from %d", len(text), first)
	}
	if j.held > 3*journalLimit || j.pool.used.Load() != j.held {
		t.Errorf("%d bytes are held, the pool knows of %d", j.held, j.pool.used.Load())
	}
	j.forget()
	if text, _ := all(j, 0); text != "" || j.held != 0 || j.pool.used.Load() != 0 {
		t.Errorf("%d bytes of a forgotten journal are left, %d held", len(text), j.held)
	}
}

func TestManySmallPiecesCostNoMoreThanTheirBytes(t *testing.T) {
	j := newJournal(&pool{most: 1 << 30})
	for i := range 400_000 {
		j.append(byte(i%2+1), []byte("a")) // each on another descriptor than the last
	}
	if j.held > 2*journalLimit+2*chunkSize {
		t.Errorf("%d bytes are held", j.held)
	}
}

func TestAFullPoolMakesJournalsShort(t *testing.T) {
	p := &pool{most: 1 << 20}
	p.used.Store(2 << 20)
	j := newJournal(p)
	for range 100 {
		j.append(1, bytes.Repeat([]byte("y"), 8192))
	}
	if text, _ := all(j, 0); len(text) != journalFloor {
		t.Errorf("%d bytes are kept", len(text))
	}
}
