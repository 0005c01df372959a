package spawn

import (
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// run starts a program and returns what it says, once it has ended.
func run(t *testing.T, p *Program) (string, error) {
	t.Helper()
	reads, writes, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	defer reads.Close()
	p.Files = [3]int{int(null.Fd()), int(writes.Fd()), int(writes.Fd())}
	p.Group = -1
	if p.Dir == "" {
		p.Dir = "/"
	}
	pid, err := Start(p)
	writes.Close()
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(reads)
	if err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
		t.Fatalf("%v, status %x: %s", err, status, text)
	}
	return string(text), nil
}

func shell(script string) *Program {
	return &Program{Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: []string{"A=b"}}
}

func TestProgramIsGivenWhatItExpects(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := shell("echo $A; pwd; readlink /proc/self/fd/* | grep -c /etc/passwd; grep SigBlk /proc/self/status; ulimit -Sn; ulimit -St; readlink /proc/self/fd/0")
	p.Dir = dir
	private, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	p.Limits = []Limit{{0, 77, 88}}
	text, err := run(t, p)
	want := "b\n" + dir + "\n0\nSigBlk:\t0000000000000000\n1024\n77\n/dev/null\n"
	if err != nil || text != want {
		t.Fatalf("%v\n%s", err, text)
	}
}

func TestWhyThereIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	for want, p := range map[syscall.Errno]*Program{
		syscall.ENOENT:  {Path: file + ".none", Argv: []string{"x"}},
		syscall.ENOEXEC: {Path: file, Argv: []string{"x"}},
		syscall.ENOTDIR: {Path: "/bin/sh", Argv: []string{"x"}, Dir: file},
		syscall.EINVAL:  {Path: "/bin/sh\x00", Argv: []string{"x"}},
	} {
		if _, err := run(t, p); err != want {
			t.Errorf("%v instead of %v", err, want)
		}
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("child %d is left: %v", pid, err)
	}
}

// A file with a lease on it is opened when its holder lets go of it: here this very process, that
// has one processor and starts the program in the file.
func TestItsParentGoesOnMeanwhile(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGIO)
	defer signal.Stop(broken)
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETLEASE, syscall.F_WRLCK); errno != 0 {
		t.Fatal(errno)
	}
	begun := time.Now()
	waited := make(chan time.Duration, 1)
	go func() {
		<-broken
		waited <- time.Since(begun)
		syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETLEASE, syscall.F_UNLCK)
	}()
	pid, err := Start(&Program{Path: path, Argv: []string{path}, Dir: "/", Files: [3]int{fd, fd, fd}, Group: -1})
	// The kernel takes away what is not let go of, after lease-break-time: 45 s.
	if long := <-waited; long > 20*time.Second {
		t.Errorf("its parent stood still for %s", long)
	}
	if err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 7 {
		t.Fatalf("%v, status %x", err, status)
	}
}

func TestManyAtOnceWhileMemoryIsCollected(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 25 {
				garbage := strings.Repeat("x", 1<<16)
				if text, err := run(t, shell("echo $A")); err != nil || text != "b\n" {
					t.Error(err, text)
				}
				runtime.KeepAlive(garbage)
				runtime.GC()
			}
		}()
	}
	all.Wait()
}
