package mux

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"sandlot/agent/internal/wire"
)

func pair(t *testing.T) (int, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	host := os.NewFile(uintptr(fds[1]), "host")
	t.Cleanup(func() { host.Close() })
	return fds[0], host
}

// What does not fit is written when the other end has read, and both directions are waited for.
func TestPortWaits(t *testing.T) {
	fd, host := pair(t)
	p, err := newPort(fd)
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
	done := make(chan error)
	go func() {
		for left := make([]byte, size); len(left) > 0; {
			n, err := p.write(left)
			if err != nil {
				done <- err
				return
			}
			left = left[n:]
		}
		done <- nil
	}()
	if n, err := io.CopyN(io.Discard, host, size); err != nil {
		t.Fatalf("%d bytes came: %v", n, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		buffer := make([]byte, 10)
		n, _ := p.read(buffer)
		read <- string(buffer[:n])
	}()
	host.Write([]byte("here"))
	if got := <-read; got != "here" {
		t.Errorf("read %q", got)
	}
}

// What is laid wakes nobody, and goes along with the next frame, at a flush, or late by itself.
func TestLaid(t *testing.T) {
	fd, host := pair(t)
	conn, err := New(fd, nil, nil, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	go conn.writeLoop()
	s := &Stream{conn: conn, id: 1, credit: 100, Ready: make(chan struct{}, 1)}
	frame := wire.HeaderSize + 4
	came := func(frames int) {
		t.Helper()
		host.SetReadDeadline(time.Now().Add(patience))
		if n, err := io.CopyN(io.Discard, host, int64(frames*frame)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	lay := func() {
		t.Helper()
		if n, err := s.Lay([]byte("four")); n != 4 || err != nil {
			t.Fatalf("%d %v", n, err)
		}
		select {
		case <-conn.wake:
			t.Fatal("the writer was woken")
		default:
		}
	}
	lay()
	s.Flush(false)
	came(1)
	lay()
	if n, err := s.Offer([]byte("four")); n != 4 || err != nil {
		t.Fatalf("%d %v", n, err)
	}
	came(2)
	lay()
	lay()
	s.Flush(true)
	s.Flush(true)
	came(2)
	// The writer may have taken them along before the time that they had.
	left := func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return conn.late != nil || len(conn.out) > 0
	}
	for end := time.Now().Add(patience); left(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("something is left")
		}
	}
}
