package identity

import (
	"slices"
	"strings"
	"testing"
)

const passwd = "# users\nroot:x:0:0:root:/root:/bin/sh\nbroken\nu:x:1000:1001::/home/u:/bin/sh\nbad:x:-1:0::/:\nmax:x:4294967295:0::/:\nhomeless:x:5:5:::\n"
const group = "root:x:0:\nusers:x:1001:\nwheel:x:10:root, u\nextra:x:11:u\nshort\n"

func TestFind(t *testing.T) {
	for spec, want := range map[string]User{
		"root":     {0, 0, []uint32{0, 10}, "root", "/root"},
		"u":        {1000, 1001, []uint32{1001, 10, 11}, "u", "/home/u"},
		"1000":     {1000, 1001, []uint32{1001, 10, 11}, "u", "/home/u"},
		"u:wheel":  {1000, 10, []uint32{10, 11}, "u", "/home/u"},
		"4242":     {4242, 0, []uint32{0}, "", "/"},
		"4242:77":  {4242, 77, []uint32{77}, "", "/"},
		"homeless": {5, 5, []uint32{5}, "homeless", "/"},
	} {
		got, err := find(spec, passwd, group)
		if err != nil || got.UID != want.UID || got.GID != want.GID || got.Name != want.Name || got.Home != want.Home || !slices.Equal(got.Groups, want.Groups) {
			t.Errorf("%s: %+v %v", spec, got, err)
		}
	}
	for _, spec := range []string{"nobody", "u:none", "bad", "max", "-1", "4294967295", "99999999999", ":", "u:"} {
		if got, err := find(spec, passwd, group); err == nil {
			t.Errorf("%q is found: %+v", spec, got)
		}
	}
}

func TestHostileFilesAreBounded(t *testing.T) {
	var many strings.Builder
	for range 5000 {
		many.WriteString("g:x:7:u\n")
	}
	user, err := find("u", passwd, many.String())
	if err != nil || len(user.Groups) > maxGroups {
		t.Error(len(user.Groups), err)
	}
	if _, err := find("u", strings.Repeat(":", 1<<20)+"\n"+strings.Repeat("\n", 1<<10), ""); err == nil {
		t.Error("a user is found in nonsense")
	}
}

func TestMissingHosts(t *testing.T) {
	if got := missingHosts("127.0.0.1 localhost box\n", "box"); got != "" {
		t.Errorf("%q", got)
	}
	if got := missingHosts("# box\n127.0.0.1 localhost", "box"); got != "\n127.0.1.1\tbox\n" {
		t.Errorf("%q", got)
	}
	if got := missingHosts("", "box"); !strings.Contains(got, "127.0.0.1\tlocalhost\n") || got[0] == '\n' {
		t.Errorf("%q", got)
	}
}
