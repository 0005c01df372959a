package bulk

import (
	"bytes"
	"testing"
)

func TestCopyIsThatOfTheLanguage(t *testing.T) {
	from := make([]byte, 9000)
	for i := range from {
		from[i] = byte(i * 7)
	}
	for _, size := range []int{0, 1, 63, 64, 2047, 2048, 2049, 4096, 5000, 8191} {
		for _, shift := range []int{0, 1, 15, 64} {
			to, want := make([]byte, 9000), make([]byte, 9000)
			n := Copy(to[shift:shift+size], from[3:])
			if m := copy(want[shift:shift+size], from[3:]); n != m || !bytes.Equal(to, want) {
				t.Fatalf("size %d, shift %d: %d", size, shift, n)
			}
		}
	}
	if n := Copy(make([]byte, 9000), from[:2500]); n != 2500 {
		t.Fatal(n)
	}
}
