package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// A verdict is what is printed of a check.
type verdict struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why"`
	Took int    `json:"took_us"`
}

func everything() []check {
	groups := []struct {
		name string
		rows []check
	}{
		{"path", pathChecks()},
		{"chmod", chmodChecks}, {"chown", chownChecks}, {"umask", umaskChecks},
		{"setid", setidChecks}, {"sticky", stickyChecks}, {"access", accessChecks},
		{"mkdir", mkdirChecks}, {"rmdir", rmdirChecks}, {"link", linkChecks},
		{"unlink", unlinkChecks}, {"symlink", symlinkChecks}, {"rename", renameChecks},
		{"renameat2", renameat2Checks}, {"name", nameChecks()}, {"node", nodeChecks},
		{"open", openChecks}, {"append", appendChecks}, {"tmpfile", tmpfileChecks},
		{"direct", directChecks}, {"io", ioChecks}, {"sync", syncChecks},
		{"truncate", truncateChecks}, {"fallocate", fallocateChecks}, {"seek", seekChecks},
		{"copy", copyChecks}, {"large", largeChecks}, {"mmap", mmapChecks},
		{"times", timesChecks()}, {"utimensat", utimensChecks},
		{"stat", statChecks}, {"statfs", statfsChecks}, {"readdir", readdirChecks},
		{"flock", flockChecks}, {"posixlock", posixLockChecks}, {"ofdlock", ofdLockChecks},
		{"xattr", xattrChecks},
	}
	all := []check{}
	for _, group := range groups {
		for _, row := range group.rows {
			row.name = group.name + "/" + strings.ReplaceAll(row.name, " ", "-")
			all = append(all, row)
		}
	}
	return all
}

func listCommand(string, []string) error {
	for _, each := range everything() {
		fmt.Println(each.name)
	}
	return nil
}

func checkCommand(path string, arguments []string) error {
	pattern, keep := "", false
	err := options("check", arguments, func(flags *flag.FlagSet) {
		flags.StringVar(&pattern, "run", "", "only those whose name matches")
		flags.BoolVar(&keep, "keep", false, "leave what the checks made")
	})
	if err != nil {
		return err
	}
	only, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	syscall.Umask(0)
	whole, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	base := fmt.Sprintf("%s/posix-%d", whole, os.Getpid())
	if err := os.Mkdir(base, 0o755); err != nil {
		return err
	}
	lines := bufio.NewWriterSize(os.Stdout, 4096)
	defer lines.Flush()
	output := json.NewEncoder(lines)
	output.SetEscapeHTML(false)
	for number, each := range everything() {
		if !only.MatchString(each.name) {
			continue
		}
		folder := fmt.Sprintf("%s/%d", base, number)
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		began := time.Now()
		why := judged(each, base, folder)
		took := int(time.Since(began).Microseconds())
		if !keep {
			if err := os.RemoveAll(folder); err != nil && why == "" {
				why = "its folder cannot be removed: " + err.Error()
			}
		}
		if err := output.Encode(verdict{each.name, why == "", why, took}); err != nil {
			return err
		}
	}
	if keep {
		return nil
	}
	return os.RemoveAll(base)
}

// judged runs a check; why it failed, or nothing.
func judged(c check, base, folder string) (why string) {
	t := &T{base: base, dir: folder}
	defer func() { t.end(why == "") }()
	defer func() {
		switch caught := recover().(type) {
		case nil:
		case failure:
			why = string(caught)
		default:
			why = fmt.Sprintf("the check itself broke: %v", caught)
		}
	}()
	err := alone(folder, func() {}, func() error { return c.run(t) })
	if !c.want.allows(err) {
		return fmt.Sprintf("%s, not %s", said(err), c.want)
	}
	return ""
}
