package process

import (
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

type limit struct {
	resource   int
	soft, hard uint64
}

// The numbers are the same on x86-64 and arm64.
var resources = map[string]int{
	"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7,
	"memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13,
	"rtprio": 14, "rttime": 15,
}

const unlimited = 1<<64 - 1

// parseLimit parses `name=soft[:hard]`.
func parseLimit(text string) (limit, bool) {
	name, values, found := strings.Cut(text, "=")
	resource, known := resources[name]
	if !found || !known {
		return limit{}, false
	}
	softText, hardText, hasHard := strings.Cut(values, ":")
	soft, ok := limitValue(softText)
	hard := soft
	if ok && hasHard {
		hard, ok = limitValue(hardText)
	}
	return limit{resource, soft, hard}, ok && soft <= hard
}

func limitValue(text string) (uint64, bool) {
	if text == "unlimited" {
		return unlimited, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

func parseLimits(texts []string) ([]limit, bool) {
	var limits []limit
	for _, text := range texts {
		l, ok := parseLimit(text)
		if !ok {
			return nil, false
		}
		limits = append(limits, l)
	}
	return limits, true
}

// setLimit sets another process's limit.
func setLimit(pid int, l limit) error {
	value := [2]uint64{l.soft, l.hard}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(l.resource),
		uintptr(unsafe.Pointer(&value)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
