package boot

import "testing"

func TestParseWindow(t *testing.T) {
	size, address, err := parseWindow("quiet sandlot.window=16777216@536870912 x=1\n")
	if err != nil || size != 16<<20 || address != 512<<20 {
		t.Error(size, address, err)
	}
	if size, _, err := parseWindow("quiet"); size != 0 || err != nil {
		t.Error("a window out of nothing")
	}
	for _, line := range []string{"sandlot.window=", "sandlot.window=1@0", "sandlot.window=-2@0", "sandlot.window=x@0", "sandlot.window=2"} {
		if _, _, err := parseWindow(line); err == nil {
			t.Errorf("%s is accepted", line)
		}
	}
}
