// Package session answers the host's requests.
package session

import (
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"sandlot/agent/internal/cgroup"
	"sandlot/agent/internal/identity"
	"sandlot/agent/internal/lend"
	"sandlot/agent/internal/mount"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/network"
	"sandlot/agent/internal/process"
	"sandlot/agent/internal/volume"
	"sandlot/agent/internal/wire"
)

// Server is what requests act upon.
type Server struct {
	Table  *process.Table
	Groups *cgroup.Tree
	Gate   *network.Gate // nil where the kernel has no network
	Log    func(string)

	Volumes *volume.Volumes
	Lending lend.Lending

	mu        sync.Mutex
	root      *mount.Root
	mounting  bool
	release   func() // ends a freeze
	hostname  string
	machineID string
}

// Accept takes a new stream: its first message says what it is for.
func (v *Server) Accept(s *mux.Stream) mux.Handler {
	return &request{server: v, stream: s}
}

// configure runs in the reading goroutine: the clock should be set without delay.
func (v *Server) configure(s *mux.Stream, m *wire.Configure) {
	err := identity.SetClock(m.TimeNs)
	if e := identity.AddEntropy(m.Entropy); e != nil && err == nil {
		err = e
	}
	if m.Hostname != "" {
		if e := syscall.Sethostname([]byte(m.Hostname)); e != nil && err == nil {
			err = e
		}
	}
	v.Groups.Limit(m.Pids)
	v.mu.Lock()
	before := v.hostname
	v.hostname, v.machineID = m.Hostname, m.MachineID
	mounted := v.root != nil
	v.mu.Unlock()
	if mounted {
		identity.WriteFiles(m.Hostname, m.MachineID, before)
	}
	answer(s, err)
}

func (v *Server) clock(s *mux.Stream, m *wire.Clock) {
	answer(s, identity.SetClock(m.TimeNs))
}

func (v *Server) mountRoot(s *mux.Stream, m *wire.MountRoot) {
	v.mu.Lock()
	busy := v.root != nil || v.mounting
	v.mounting = true
	v.mu.Unlock()
	if busy {
		s.Send(&wire.Failed{Code: "busy", Text: "the root is mounted already"}, true)
		return
	}
	root, err := mount.Mount(mount.Devices{Image: m.ImageDevice, Disk: m.DiskDevice, DiskType: m.DiskType})
	v.mu.Lock()
	v.mounting = false
	v.root = root
	hostname, machineID := v.hostname, v.machineID
	v.mu.Unlock()
	if err == nil {
		identity.MountFiles(hostname, machineID)
		if m.Flags&wire.MountRootReadOnly != 0 {
			err = root.ReadOnly()
		}
	}
	if err == nil {
		v.Table.SetMounted()
	}
	answer(s, err)
}

// stage prepares a machine that is about to be saved.
func (v *Server) stage(s *mux.Stream, m *wire.Stage) {
	answer(s, mount.Stage(mount.Devices{
		Image: m.ImageDevice, ImageType: m.ImageType, Disk: m.DiskDevice, DiskType: m.DiskType,
		Other: m.OtherDevice,
	}))
}

func (v *Server) mounted() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.root != nil
}

// upper opens the folder that holds what was written over the image. What is still running is ended
// first: a layer is what a command has left behind, and nobody may write to it while it is read.
func (v *Server) upper() (int, error) {
	v.Groups.Kill()
	v.waitEmpty(5 * time.Second)
	v.mu.Lock()
	root := v.root
	v.mu.Unlock()
	return root.Upper()
}

// shutdown ends everything that runs, and leaves the disk as if it had been unmounted.
func (v *Server) shutdown(s *mux.Stream, m *wire.Shutdown) {
	v.Table.Close()
	if !v.Table.EndWith(m.Process, m.Signal) {
		syscall.Kill(-1, syscall.SIGTERM)
	}
	syscall.Kill(-1, syscall.SIGCONT)
	v.waitEmpty(time.Duration(min(m.GraceMs, 1<<40)) * time.Millisecond)
	v.Groups.Kill()
	v.waitEmpty(5 * time.Second)
	v.Table.Settle(2 * time.Second) // how each job ended is told before the machine's end
	v.Volumes.Close(10 * time.Second)
	v.mu.Lock()
	root := v.root
	v.mu.Unlock()
	var err error
	if root != nil {
		err = root.Close()
	} else {
		syscall.Sync()
	}
	answer(s, err)
}

func (v *Server) waitEmpty(most time.Duration) {
	end := time.Now().Add(most)
	for pause := time.Millisecond; !v.Groups.Empty() && time.Now().Before(end); pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(min(pause, time.Until(end)))
	}
}

// answer ends a request.
func answer(s *mux.Stream, err error) {
	if err == nil {
		s.Send(&wire.OK{}, true)
		return
	}
	failed := &wire.Failed{Code: "failed", Text: err.Error()}
	switch e := err.(type) {
	case syscall.Errno:
		failed.Errno = uint64(e)
	case *os.PathError:
		if errno, ok := e.Err.(syscall.Errno); ok {
			failed.Errno = uint64(errno)
		}
	}
	s.Send(failed, true)
}

// background runs what may take its time, without a fault ending process 1.
func (v *Server) background(f func()) {
	go func() {
		defer func() {
			if fault := recover(); fault != nil {
				v.Log("a fault in a request\n" + string(debug.Stack()))
			}
		}()
		f()
	}()
}
