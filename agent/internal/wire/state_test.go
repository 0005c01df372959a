package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestScannerFindsTheMarkAcrossAnyReads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		token := bytes.Repeat([]byte{byte(round)}, TokenSize)
		// Noise that begins like the mark, again and again.
		var stream []byte
		for range random.IntN(6) {
			stream = append(stream, Magic[:random.IntN(len(Magic)+1)]...)
			stream = append(stream, make([]byte, random.IntN(40))...)
		}
		stream = append(append(stream, Magic...), token...)
		end := bytes.Index(stream, append([]byte(Magic), token...)) + markSize
		stream = append(stream, make([]byte, random.IntN(100))...)
		s := NewScanner()
		s.SetToken(token)
		found := -1
		for at := 0; at < len(stream) && found < 0; {
			n := min(1+random.IntN(50), len(stream)-at)
			if i := s.Find(stream[at : at+n]); i >= 0 {
				found = at + i
			}
			at += n
		}
		if found != end {
			t.Fatalf("round %d: found at %d, not %d", round, found, end)
		}
	}
}

func TestScannerWantsItsOwnToken(t *testing.T) {
	s := NewScanner()
	s.SetToken(bytes.Repeat([]byte{7}, TokenSize))
	if s.Find(append([]byte(Magic), make([]byte, TokenSize)...)) >= 0 {
		t.Error("another session's token is taken")
	}
}

// The model of a ring: the pieces that are outstanding must not overlap, and must lie inside.
func TestRingPiecesNeverOverlap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		size := 1 + random.IntN(200)
		r := NewRing(size)
		type piece struct{ offset, length int }
		var out []piece
		for range 400 {
			switch random.IntN(4) {
			case 0: // free some, in order
				sum := 0
				for n := random.IntN(len(out) + 1); n > 0; n-- {
					sum += out[0].length
					out = out[1:]
				}
				if err := r.Free(sum); err != nil {
					t.Fatal(err)
				}
			case 1: // a piece that turns out smaller, or not to be needed
				before, room := r, r.Room()
				offset, ok := r.Allocate(1 + random.IntN(size))
				if !ok {
					break
				}
				length := random.IntN(r.spans[len(r.spans)-1].length + 1)
				r.Shrink(length)
				if length > 0 {
					out = append(out, piece{offset, length})
				} else if r.Room() != room || r.next != before.next || r.used != before.used {
					t.Fatal("an undone allocation leaves a trace")
				}
			default:
				length, room := 1+random.IntN(size), r.Room()
				offset, ok := r.Allocate(length)
				if ok != (length <= room) {
					t.Fatalf("room %d, but %d is allocated: %v", room, length, ok)
				}
				if ok {
					out = append(out, piece{offset, length})
				}
			}
			taken := make([]bool, size)
			for _, p := range out {
				for i := p.offset; i < p.offset+p.length; i++ {
					if taken[i] {
						t.Fatal("two pieces overlap")
					}
					taken[i] = true
				}
			}
		}
	}
}

func TestRingRefusesWrongSums(t *testing.T) {
	r := NewRing(100)
	r.Allocate(10)
	if r.Free(5) == nil {
		t.Error("half a payload is freed")
	}
	r = NewRing(100)
	r.Allocate(10)
	if r.Free(11) == nil {
		t.Error("more than is outstanding is freed")
	}
	if _, ok := new(Ring).Allocate(1); ok {
		t.Error("a ring of no size gives room")
	}
}

func TestBufferIsAQueueOfTheNewest(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	const limit = 1 << 14
	for range 50 {
		b := NewBuffer(limit)
		var model []byte
		for step := range 200 {
			p := bytes.Repeat([]byte{byte(step)}, random.IntN(limit+limit/4))
			switch random.IntN(3) {
			case 0:
				n := b.Put(p)
				if n != min(len(p), limit-len(model)) {
					t.Fatal("Put takes another amount")
				}
				model = append(model, p[:n]...)
			case 1:
				b.Keep(p)
				model = append(model, p...)
				model = model[max(0, len(model)-limit):]
			default:
				front := b.Front()
				n := random.IntN(len(front) + 1)
				if !bytes.Equal(front[:n], model[:n]) {
					t.Fatal("other bytes come out")
				}
				b.Drop(n)
				model = model[n:]
			}
			if b.Len() != len(model) || len(model) > 0 && len(b.Front()) == 0 {
				t.Fatalf("%d bytes, not %d", b.Len(), len(model))
			}
		}
	}
}
