package session

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"sandlot/agent/internal/wire"
)

// tick is the kernel's USER_HZ, which is 100 on every Linux of ours.
const tick = 10 * time.Millisecond

// measure reads what the guest uses.
func (v *Server) measure() *wire.Measured {
	memory, _ := os.ReadFile("/proc/meminfo")
	m := &wire.Measured{
		MemoryTotal: kib(memory, "MemTotal:"), MemoryAvailable: kib(memory, "MemAvailable:"),
		Cached: kib(memory, "Cached:"), Processors: uint64(runtime.NumCPU()),
	}
	m.MemoryUsed = m.MemoryTotal - min(m.MemoryTotal, m.MemoryAvailable)
	stat, _ := os.ReadFile("/proc/stat")
	m.CPUUs = uint64(busy(stat).Microseconds())
	uptime, _ := os.ReadFile("/proc/uptime")
	if fields := bytes.Fields(uptime); len(fields) > 0 {
		seconds, _ := strconv.ParseFloat(string(fields[0]), 64)
		m.UptimeUs = uint64(seconds * 1e6)
	}
	m.Processes, m.ProcessLimit, m.OOMKills = v.Groups.Counts()
	var disk syscall.Statfs_t
	if syscall.Statfs("/", &disk) == nil {
		m.DiskTotal, m.DiskFree = disk.Blocks*uint64(disk.Bsize), disk.Bavail*uint64(disk.Bsize)
	}
	return m
}

// kib finds a line of /proc/meminfo; in bytes.
func kib(text []byte, name string) uint64 {
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) >= 2 && string(fields[0]) == name {
			n, _ := strconv.ParseUint(string(fields[1]), 10, 64)
			return n << 10
		}
	}
	return 0
}

// busy is the time that all processors together have worked: all but idle and waiting for a disk.
func busy(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var ticks uint64
	for i, text := range bytes.Fields(line) {
		n, _ := strconv.ParseUint(string(text), 10, 64)
		if i >= 1 && i <= 8 && i != 4 && i != 5 {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick
}
