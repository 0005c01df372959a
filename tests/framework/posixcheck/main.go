// Command posix asks a mounted file system whether it behaves like one. It is static, needs no
// other program, and runs as root on any path:
//
//	posix check PATH [-run REGEX]          the table of checks, a JSON line for each
//	posix list                             their names
//	posix exercise PATH -seed N -operations N -size N [-brisk]   random operations on a file's bytes
//	posix tree PATH -seed N -operations N                random operations on names
//	posix torture PATH -name N -processes N -records N   appends and counters by many processes
//	posix bare PATH                        mount the ext4 disk of this machine once more, here
//	posix judge PATH -names A,B -processes N -records N  whether all of them are there
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

type command func(path string, arguments []string) error

var commands = map[string]command{
	"check":    checkCommand,
	"list":     listCommand,
	"exercise": exerciseCommand,
	"tree":     treeCommand,
	"torture":  tortureCommand,
	"judge":    judgeCommand,
	"bare":     bareCommand,
	"peer":     peerCommand,
	"writer":   writerCommand,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: posix check|list|exercise|tree|torture|judge|bare PATH ...")
		os.Exit(2)
	}
	path, rest := ".", os.Args[2:]
	if len(rest) > 0 {
		path, rest = rest[0], rest[1:]
	}
	if err := commands[os.Args[1]](path, rest); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// options reads the flags that follow the path; the seed is the time's where none is given.
func options(name string, arguments []string, define func(*flag.FlagSet)) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	define(flags)
	return flags.Parse(arguments)
}

// bareCommand shows a sandbox's disk without the overlay that its programs see it through.
func bareCommand(path string, _ []string) error {
	disks, err := filepath.Glob("/dev/vd?")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for _, disk := range disks {
		if err = syscall.Mount(disk, path, "ext4", 0, ""); err == nil {
			return nil
		}
	}
	return fmt.Errorf("none of %v can be mounted as ext4: %v", disks, err)
}

func anySeed() int64 { return time.Now().UnixNano() % 1_000_000_000 }
