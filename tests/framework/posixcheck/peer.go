package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A peer is another process that does to files what it is told, a line for each step:
//
//	open FLAGS PATH | close | write TEXT | map TEXT | contents | flock HOW | lock CMD TYPE START LENGTH | exit
type peer struct {
	t       *T
	program *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	dead    bool
}

// idle are those that an earlier check has no use for any more; to start one takes long.
var idle []*peer

// peer gives one that has nothing open.
func (t *T) peer() *peer {
	if count := len(idle); count > 0 {
		p := idle[count-1]
		idle = idle[:count-1]
		p.t = t
		t.peers = append(t.peers, p)
		return p
	}
	p := &peer{t: t, program: exec.Command("/proc/self/exe", "peer")}
	p.program.Dir = "/"
	p.program.Stderr = os.Stderr
	var err error
	p.in, err = p.program.StdinPipe()
	t.must("pipe", err)
	out, err := p.program.StdoutPipe()
	t.must("pipe", err)
	p.out = bufio.NewReader(out)
	t.must("start", p.program.Start())
	t.peers = append(t.peers, p)
	return p
}

// begin tells it to do something; answer waits for how that ended.
func (p *peer) begin(format string, arguments ...any) {
	_, err := fmt.Fprintf(p.in, format+"\n", arguments...)
	p.t.must("peer", err)
}

func (p *peer) answer() string {
	late := time.AfterFunc(patience, func() { p.program.Process.Kill() })
	defer late.Stop()
	line, err := p.out.ReadString('\n')
	p.t.must("peer", err)
	return strings.TrimSpace(line)
}

// says is what it answers to a step: an error's name, success, or what was asked for.
func (p *peer) says(format string, arguments ...any) string {
	p.begin(format, arguments...)
	return p.answer()
}

func (p *peer) open(name string) { p.opens(name, rdwr) }

func (p *peer) opens(name string, flags int) {
	p.t.equal("open by the peer", p.says("open %d %s/%s", flags, p.t.dir, name), "success")
}

// kill ends it with no chance to release anything; it is gone when this returns.
func (p *peer) kill() {
	p.dead = true
	p.program.Process.Kill()
	p.program.Wait()
}

// release keeps it for the next check, when it still does what it is told.
func (p *peer) release(well bool) {
	defer func() {
		if recover() != nil { // it gives no answer
			p.kill()
		}
	}()
	if !p.dead && well {
		p.says("close")
		idle = append(idle, p)
	} else if !p.dead {
		p.kill()
	}
}

// peerCommand is the other process.
func peerCommand(string, []string) error {
	fd := -1
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		var err error
		reply := func() string { return said(err) }
		switch verb {
		case "open":
			number, name, _ := strings.Cut(rest, " ")
			flags, _ := strconv.Atoi(number)
			fd, err = syscall.Open(name, flags|syscall.O_CLOEXEC, 0o644)
		case "close":
			err = syscall.Close(fd)
			fd = -1
		case "write":
			_, err = syscall.Write(fd, []byte(rest))
		case "map":
			var memory []byte
			memory, err = syscall.Mmap(fd, 0, 4096, protBoth, syscall.MAP_SHARED)
			copy(memory, rest)
		case "contents":
			buffer := make([]byte, 4096)
			var n int
			n, err = syscall.Pread(fd, buffer, 0)
			if err == nil {
				reply = func() string { return string(buffer[:n]) }
			}
		case "flock":
			var how int
			fmt.Sscan(rest, &how)
			err = syscall.Flock(fd, how)
		case "lock":
			lock := syscall.Flock_t{}
			var command int
			fmt.Sscan(rest, &command, &lock.Type, &lock.Start, &lock.Len)
			err = syscall.FcntlFlock(uintptr(fd), command, &lock)
			if err == syscall.EDEADLK { // the one that waits for us may go on
				syscall.Close(fd)
				fd = -1
			}
			if err == nil && (command == syscall.F_GETLK || command == ofdGetlk) {
				reply = func() string { return locked(lock) }
			}
		case "exit":
			os.Exit(0)
		}
		fmt.Println(reply())
	}
	return nil
}

// locked is a lock that was asked for, in words: type, start, length, process.
func locked(lock syscall.Flock_t) string {
	if lock.Type == syscall.F_UNLCK {
		return "free"
	}
	kind := map[int16]string{syscall.F_RDLCK: "read", syscall.F_WRLCK: "write"}[lock.Type]
	return fmt.Sprint(kind, " ", lock.Start, " ", lock.Len, " ", lock.Pid)
}
