// Package identity is who the machine is, and who its users are.
package identity

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"syscall"
)

// The image's files are hostile: neither their size nor what is in them is believed.
const (
	maxFile   = 1 << 20
	maxGroups = 1024
)

// User is what a process runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Name     string
	Home     string
}

// ErrNoUser says that a name is not in the files, or not a number either.
var ErrNoUser = errors.New("no such user or group")

// Lookup finds `name|uid[:group|gid]` in the root's files; empty is root.
func Lookup(spec string) (User, error) {
	if spec == "" {
		// The common case needs no files of the image.
		return User{Name: "root", Home: "/root"}, nil
	}
	return find(spec, readSmall("/etc/passwd"), readSmall("/etc/group"))
}

func readSmall(path string) string {
	// Not a pipe or a device, which could make the agent wait.
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return ""
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(descriptor(fd), maxFile))
	return string(text)
}

type descriptor int

func (d descriptor) Read(p []byte) (int, error) {
	n, err := syscall.Read(int(d), p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func number(text string) (uint32, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	// The largest is not an id: it means "leave as it is" to the kernel.
	return uint32(n), err == nil && n < 1<<32-1
}

func find(spec, passwd, group string) (User, error) {
	who, groupSpec, hasGroup := strings.Cut(spec, ":")
	user := User{Home: "/"}
	id, numeric := number(who)
	known := false
	eachLine(passwd, func(f []string) bool {
		if len(f) < 6 {
			return false
		}
		uid, ok := number(f[2])
		gid, okGroup := number(f[3])
		if !ok || !okGroup || f[0] != who && (!numeric || uid != id) {
			return false
		}
		user = User{UID: uid, GID: gid, Name: f[0], Home: f[5]}
		known = true
		return true
	})
	switch {
	case known:
	case numeric:
		user.UID = id
		if id == 0 {
			user.Name, user.Home = "root", "/root"
		}
	default:
		return User{}, ErrNoUser
	}
	if user.Home == "" {
		user.Home = "/"
	}
	if hasGroup {
		gid, ok := groupID(groupSpec, group)
		if !ok {
			return User{}, ErrNoUser
		}
		user.GID = gid
	}
	user.Groups = memberships(user.Name, user.GID, group)
	return user, nil
}

func groupID(spec, group string) (uint32, bool) {
	id, ok := uint32(0), false
	eachLine(group, func(f []string) bool {
		if len(f) >= 3 && f[0] == spec {
			id, ok = number(f[2])
		}
		return ok
	})
	if !ok {
		id, ok = number(spec)
	}
	return id, ok
}

func memberships(name string, gid uint32, group string) []uint32 {
	groups := []uint32{gid}
	if name == "" {
		return groups
	}
	eachLine(group, func(f []string) bool {
		if len(f) < 4 {
			return false
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if id, ok := number(f[2]); ok && strings.TrimSpace(member) == name && id != gid {
				groups = append(groups, id)
				break
			}
		}
		return len(groups) >= maxGroups
	})
	return groups
}

// eachLine calls found with the fields of each line until it says that it has enough.
func eachLine(text string, found func(fields []string) bool) {
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if found(strings.Split(line, ":")) {
			return
		}
	}
}
