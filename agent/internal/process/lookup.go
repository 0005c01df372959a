package process

import (
	"bytes"
	"strings"
	"syscall"

	"sandlot/agent/internal/identity"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment adds what a program may expect to be there.
func environment(given [][]byte, user identity.User, terminal bool) []string {
	env := make([]string, 0, len(given)+5)
	for _, pair := range given {
		// The kernel takes anything, but an entry with a zero byte would end the whole start.
		if bytes.IndexByte(pair, 0) < 0 && bytes.IndexByte(pair, '=') > 0 {
			env = append(env, string(pair))
		}
	}
	add := func(name, value string) {
		if _, there := variable(env, name); !there && value != "" && strings.IndexByte(value, 0) < 0 {
			env = append(env, name+value)
		}
	}
	add("PATH=", defaultPath)
	add("HOME=", user.Home)
	add("USER=", user.Name)
	add("LOGNAME=", user.Name)
	if terminal {
		add("TERM=", "xterm-256color")
	}
	return env
}

// variable finds the value of `NAME=`.
func variable(env []string, name string) (string, bool) {
	for _, pair := range env {
		if value, found := strings.CutPrefix(pair, name); found {
			return value, true
		}
	}
	return "", false
}

func checkDirectory(path string) *failure {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	if err == nil && st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return fail("no-cwd", strings.ToValidUTF8(path, "\uFFFD"), err)
	}
	return nil
}

// findProgram finds argv[0], by PATH if there is no slash in it. What the user may not execute is
// found out by the kernel.
func findProgram(argv [][]byte, env []string, cwd string) (string, *failure) {
	if len(argv) == 0 || len(argv[0]) == 0 {
		return "", fail("not-found", "no program is named", nil)
	}
	name := string(argv[0])
	shown := strings.ToValidUTF8(name, "\uFFFD")
	if strings.IndexByte(name, '/') >= 0 {
		at := name
		if name[0] != '/' {
			at = cwd + "/" + name
		}
		if err := executable(at); err != nil {
			return "", programError(shown, err)
		}
		return name, nil
	}
	path, _ := variable(env, "PATH=")
	failed := error(syscall.ENOENT)
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		at := candidate
		if dir[0] != '/' {
			at = cwd + "/" + candidate
		}
		err := executable(at)
		if err == nil {
			return candidate, nil
		}
		if err == syscall.EACCES {
			failed = err
		}
	}
	return "", programError(shown, failed)
}

func executable(path string) error {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Mode&0o111 == 0 {
		return syscall.EACCES
	}
	return nil
}

func programError(name string, err error) *failure {
	if err == syscall.ENOENT || err == syscall.ENOTDIR {
		return fail("not-found", name, err)
	}
	return fail("not-executable", name, err)
}
