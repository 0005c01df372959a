package network

import "testing"

func TestAnIdleConnectionKeepsNoMemory(t *testing.T) {
	r := newRelay()
	r.Data(make([]byte, 60_000))
	r.buffer.Drop(60_000)
	if r.buffer.Cap() == 0 {
		t.Fatal("what is in use gives its memory back at once, and has to get it again")
	}
	s := &standing{relays: map[*relay]struct{}{r: {}}, looking: true}
	s.look()
	if r.buffer.Cap() == 0 {
		t.Error("it was used since the last look")
	}
	s.look()
	if r.buffer.Cap() != 0 {
		t.Error("it keeps memory though it is idle")
	}
	r.Data([]byte("x"))
	s.look()
	s.look()
	if r.buffer.Len() != 1 {
		t.Error("what waits to be read was dropped")
	}
	s.remove(r)
	s.look()
	if s.looking {
		t.Error("nothing stands, and it is still looked at")
	}
}
