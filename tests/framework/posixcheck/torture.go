package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Several processes, of several machines, append to one file and count in others:
//
//	records          each appends records of a fixed size: none may be lost, torn or twice
//	count-fcntl ...  each adds one under a lock: the sum must be right
//
// A record carries the name of its machine, the number of its process and its own number.

const recordSize = 128

var lockKinds = []string{"fcntl", "ofd", "flock"}

type torture struct {
	name, names        string
	processes, records int
}

func (o *torture) read(command string, arguments []string) error {
	return options(command, arguments, func(flags *flag.FlagSet) {
		flags.StringVar(&o.name, "name", "one", "of this machine")
		flags.StringVar(&o.names, "names", "one", "of all machines, with commas")
		flags.IntVar(&o.processes, "processes", 4, "of each machine")
		flags.IntVar(&o.records, "records", 200, "of each process")
	})
}

// tortureCommand starts the processes and waits for them.
func tortureCommand(path string, arguments []string) error {
	var o torture
	if err := o.read("torture", arguments); err != nil {
		return err
	}
	writers := []*exec.Cmd{}
	for number := 0; number < o.processes; number++ {
		writer := exec.Command("/proc/self/exe", "writer", path, "-name", fmt.Sprint(o.name, ".", number), "-records", fmt.Sprint(o.records))
		writer.Stdout, writer.Stderr = os.Stdout, os.Stderr
		if err := writer.Start(); err != nil {
			return err
		}
		writers = append(writers, writer)
	}
	var failed error
	for _, writer := range writers {
		if err := writer.Wait(); err != nil {
			failed = fmt.Errorf("a writer: %w", err)
		}
	}
	return failed
}

// writerCommand is one of the processes.
func writerCommand(path string, arguments []string) error {
	var o torture
	if err := o.read("writer", arguments); err != nil {
		return err
	}
	fd, err := syscall.Open(path+"/records", creat|wronly|syscall.O_APPEND|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open: %s", said(err))
	}
	counters := map[string]int{}
	for _, kind := range lockKinds {
		if counters[kind], err = syscall.Open(path+"/count-"+kind, creat|rdwr|syscall.O_CLOEXEC, 0o644); err != nil {
			return fmt.Errorf("open: %s", said(err))
		}
	}
	for number := 0; number < o.records; number++ {
		n, err := syscall.Write(fd, record(o.name, number))
		if err != nil || n != recordSize {
			return fmt.Errorf("append: %d bytes, %s", n, said(err))
		}
		for _, kind := range lockKinds {
			if err := addOne(kind, counters[kind]); err != nil {
				return fmt.Errorf("%s: %s", kind, said(err))
			}
		}
	}
	return nil
}

// record is a line that says whether it is whole.
func record(name string, number int) []byte {
	text := fmt.Sprintf("%s %d ", name, number)
	text += strings.Repeat(string(rune('a'+number%26)), recordSize-len(text)-10)
	return fmt.Appendf(nil, "%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

func locking(kind string, fd int, take bool) error {
	for {
		err := lockOnce(kind, fd, take)
		if err != syscall.EINTR {
			return err
		}
	}
}

func lockOnce(kind string, fd int, take bool) error {
	const ofdWait = 38
	how, flockHow := int16(free), unlock
	if take {
		how, flockHow = writeLock, exclusive
	}
	switch kind {
	case "fcntl":
		return lock(fd, syscall.F_SETLKW, how, 0, 0)
	case "ofd":
		return lock(fd, ofdWait, how, 0, 0)
	default:
		return syscall.Flock(fd, flockHow)
	}
}

func addOne(kind string, fd int) error {
	if err := locking(kind, fd, true); err != nil {
		return err
	}
	count, err := counted(fd)
	if err != nil {
		return err
	}
	if _, err := syscall.Pwrite(fd, fmt.Appendf(nil, "%020d", count+1), 0); err != nil {
		return err
	}
	return locking(kind, fd, false)
}

func counted(fd int) (int, error) {
	buffer := make([]byte, 40)
	n, err := syscall.Pread(fd, buffer, 0)
	if err != nil || n == 0 {
		return 0, err
	}
	if n != 20 {
		return 0, fmt.Errorf("a count of %d bytes", n)
	}
	return strconv.Atoi(string(buffer[:n]))
}

// judgeCommand looks at what all machines have left.
func judgeCommand(path string, arguments []string) error {
	var o torture
	if err := o.read("judge", arguments); err != nil {
		return err
	}
	names := strings.Split(o.names, ",")
	total := len(names) * o.processes * o.records
	contents, err := os.ReadFile(path + "/records")
	if err != nil {
		return err
	}
	if len(contents) != total*recordSize {
		return fmt.Errorf("%d bytes of records, not %d: %d records of %d", len(contents), total*recordSize, len(contents)/recordSize, total)
	}
	next := map[string]int{}
	for at := 0; at < len(contents); at += recordSize {
		one := string(contents[at : at+recordSize])
		fields := strings.Fields(one)
		if len(fields) != 4 {
			return fmt.Errorf("a torn record at %d: %q", at, one)
		}
		number, err := strconv.Atoi(fields[1])
		if err != nil || one != string(record(fields[0], number)) {
			return fmt.Errorf("a torn record at %d: %q", at, one)
		}
		if number != next[fields[0]] {
			return fmt.Errorf("record %d of %s at %d: number %d was next", number, fields[0], at, next[fields[0]])
		}
		next[fields[0]]++
	}
	for _, name := range names {
		for number := 0; number < o.processes; number++ {
			writer := fmt.Sprint(name, ".", number)
			if next[writer] != o.records {
				return fmt.Errorf("%d records of %s, not %d", next[writer], writer, o.records)
			}
		}
	}
	for _, kind := range lockKinds {
		fd, err := syscall.Open(path+"/count-"+kind, rdonly|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("count-%s: %s", kind, said(err))
		}
		count, err := counted(fd)
		if err != nil || count != total {
			return fmt.Errorf("count-%s is %d, not %d: %s", kind, count, total, said(err))
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int{"records": total})
}
