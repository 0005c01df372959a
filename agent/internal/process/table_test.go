package process

import (
	"syscall"
	"testing"
	"time"

	"sandlot/agent/internal/cgroup"
	"sandlot/agent/internal/spawn"
)

// reaped has the table reap until there are so many ends that nobody has claimed.
func reaped(t *testing.T, table *Table, want int) {
	t.Helper()
	for over := time.Now().Add(10 * time.Second); time.Now().Before(over); time.Sleep(time.Millisecond) {
		table.Reap()
		if len(table.strays) == want {
			return
		}
	}
	t.Fatalf("%d ends, not %d", len(table.strays), want)
}

func child(t *testing.T) int {
	t.Helper()
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(null)
	pid, err := spawn.Start(&spawn.Program{
		Path: "/bin/sh", Argv: []string{"sh", "-c", "exit 3"}, Dir: "/", Files: [3]int{null, null, null}, Group: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestAnEndThatIsSeenBeforeTheBeginningIsKept(t *testing.T) {
	table := NewTable(&cgroup.Tree{}, -1, func(string) {})
	birth := table.expect()
	slow := table.expect()
	pid := child(t)
	reaped(t, table, 1)
	if end := table.born(birth, pid); end == nil || end.status.ExitStatus() != 3 {
		t.Fatal(end)
	}
	pid = child(t)
	reaped(t, table, 1)
	late := table.expect() // its process has the same id, after all others were used
	if end := table.born(late, pid); end != nil {
		t.Fatal("that was another one's end")
	}
	child(t)
	reaped(t, table, 1)
	if table.born(slow, 0) != nil || len(table.strays) != 0 {
		t.Fatal("ends are kept for nobody")
	}
}
