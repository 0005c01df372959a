package process

import (
	"testing"

	"sandlot/agent/internal/identity"
	"sandlot/agent/internal/spawn"
)

func TestParseLimit(t *testing.T) {
	for text, want := range map[string]spawn.Limit{
		"nofile=64":                     {Resource: 7, Soft: 64, Hard: 64},
		"nofile=64:128":                 {Resource: 7, Soft: 64, Hard: 128},
		"core=0:unlimited":              {Resource: 4, Soft: 0, Hard: unlimited},
		"as=unlimited":                  {Resource: 9, Soft: unlimited, Hard: unlimited},
		"rttime=1:18446744073709551615": {Resource: 15, Soft: 1, Hard: unlimited},
	} {
		if got, ok := parseLimit(text); !ok || got != want {
			t.Errorf("%s: %+v %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "nofile", "nofile=", "nofile=-1", "nofile=2:1", "nofile=unlimited:5", "NOFILE=1", "x=1", "nofile=1:", "nofile=1:2:3"} {
		if got, ok := parseLimit(text); ok {
			t.Errorf("%q is accepted: %+v", text, got)
		}
	}
}

func TestEnvironmentAddsOnlyWhatIsMissing(t *testing.T) {
	user := identity.User{Name: "u", Home: "/home/u"}
	env := environment([][]byte{[]byte("HOME=/x"), []byte("PATHS=1"), []byte("bad"), []byte("a\x00=1")}, user, true)
	for name, want := range map[string]string{"HOME=": "/x", "PATH=": defaultPath, "USER=": "u", "LOGNAME=": "u", "TERM=": "xterm-256color"} {
		if got, _ := variable(env, name); got != want {
			t.Errorf("%s%s", name, got)
		}
	}
	if len(env) != 6 {
		t.Error(env)
	}
}
