package session

import (
	"testing"
	"time"
)

func TestBusyLeavesOutWhatIsIdle(t *testing.T) {
	if got := busy([]byte("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9 9 9\n")); got != 63*tick {
		t.Errorf("%v, not %v", got, 63*tick)
	}
	if got := busy(nil); got != time.Duration(0) {
		t.Errorf("nothing is %v", got)
	}
}

func TestLinesOfMeminfo(t *testing.T) {
	text := []byte("MemTotal:        1024 kB\nSwapCached:  7 kB\nCached:   3 kB\n")
	if kib(text, "MemTotal:") != 1<<20 || kib(text, "Cached:") != 3<<10 || kib(text, "None:") != 0 {
		t.Error("a line is read wrongly")
	}
}
