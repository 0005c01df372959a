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
	"sync"
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
	// What a check left is removed while the next one runs, but for those that look at how full it is.
	var removals sync.WaitGroup
	var failed error
	finished := make(chan done, 16)
	go func() {
		for one := range finished {
			if err := remove(one.folder); err != nil && one.verdict.OK {
				one.verdict.OK, one.verdict.Why = false, "its folder cannot be removed: "+err.Error()
			}
			if err := output.Encode(one.verdict); err != nil {
				failed = err
			}
			removals.Done()
		}
	}()
	for number, each := range everything() {
		if !only.MatchString(each.name) {
			continue
		}
		folder := fmt.Sprintf("%s/%d", base, number)
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		if strings.HasPrefix(each.name, "statfs/") {
			removals.Wait()
		}
		began := time.Now()
		why := judged(each, base, folder)
		took := int(time.Since(began).Microseconds())
		one := done{verdict{each.name, why == "", why, took}, folder}
		if keep {
			err = output.Encode(one.verdict)
		} else {
			removals.Add(1)
			finished <- one
		}
		if err != nil {
			return err
		}
	}
	close(finished)
	removals.Wait()
	if keep || failed != nil {
		return failed
	}
	return os.RemoveAll(base)
}

// A done check has a folder that is to be removed before its verdict is known.
type done struct {
	verdict verdict
	folder  string
}

// remove takes a folder away with what is in it. It lists each folder once, and so finds what a
// listing leaves out.
func remove(path string) error {
	names, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, each := range names {
		name := path + "/" + each.Name()
		if each.IsDir() {
			err = remove(name)
		} else {
			err = syscall.Unlink(name)
		}
		if err != nil {
			return err
		}
	}
	return syscall.Rmdir(path)
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
