package process

import (
	"strconv"
	"strings"

	"sandlot/agent/internal/spawn"
)

// The numbers are the same on x86-64 and arm64.
var resources = map[string]int{
	"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7,
	"memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13,
	"rtprio": 14, "rttime": 15,
}

const unlimited = 1<<64 - 1

// parseLimit parses `name=soft[:hard]`.
func parseLimit(text string) (spawn.Limit, bool) {
	name, values, found := strings.Cut(text, "=")
	resource, known := resources[name]
	if !found || !known {
		return spawn.Limit{}, false
	}
	softText, hardText, hasHard := strings.Cut(values, ":")
	soft, ok := limitValue(softText)
	hard := soft
	if ok && hasHard {
		hard, ok = limitValue(hardText)
	}
	return spawn.Limit{Resource: resource, Soft: soft, Hard: hard}, ok && soft <= hard
}

func limitValue(text string) (uint64, bool) {
	if text == "unlimited" {
		return unlimited, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

func parseLimits(texts []string) ([]spawn.Limit, bool) {
	var limits []spawn.Limit
	for _, text := range texts {
		l, ok := parseLimit(text)
		if !ok {
			return nil, false
		}
		limits = append(limits, l)
	}
	return limits, true
}
