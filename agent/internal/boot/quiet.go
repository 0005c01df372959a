package boot

import (
	"os"
	"sort"
	"strconv"
)

// slack is how late the runtime's own watcher may wake, in nanoseconds.
const slack = "4000000"

// QuietRuntime lets the Go runtime's watching thread (sysmon) wake late. It sleeps for 20 µs at a
// time while anything happens, and each waking costs an emulated machine some 100 µs: half of what
// a command costs. It is the first thread that the runtime starts, so the lowest number after 1.
func QuietRuntime() {
	entries, err := os.ReadDir("/proc/1/task")
	if err != nil {
		return
	}
	var threads []int
	for _, entry := range entries {
		if number, err := strconv.Atoi(entry.Name()); err == nil && number > 1 {
			threads = append(threads, number)
		}
	}
	if len(threads) == 0 {
		return
	}
	sort.Ints(threads)
	os.WriteFile("/proc/"+strconv.Itoa(threads[0])+"/timerslack_ns", []byte(slack), 0)
}
