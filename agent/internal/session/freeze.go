package session

import (
	"syscall"
	"time"

	"sandlot/agent/internal/identity"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// freezePatience is how long a freeze waits for programs that are in the kernel.
const freezePatience = 50 * time.Millisecond

// growPatience is how long the kernel may take to see that a disk has become larger.
const growPatience = 30 * time.Second

// freeze stops all programs, so that a machine that is saved now runs nothing of the user's before
// it is thawed: neither here nor in any machine that is restored.
func (v *Server) freeze(s *mux.Stream, m *wire.Freeze) {
	if m.Flags&wire.FreezeSync != 0 {
		syscall.Sync()
	}
	v.mu.Lock()
	frozen := v.release != nil
	v.mu.Unlock()
	if !frozen {
		release := v.Table.Hold()
		v.mu.Lock()
		v.release = release
		v.mu.Unlock()
	}
	err := v.Groups.Freeze(true, freezePatience)
	v.Volumes.Hold()
	answer(s, err)
}

// grow lets the disk's file system have all of a disk that has become larger.
func (v *Server) grow(s *mux.Stream, m *wire.Grow) {
	v.mu.Lock()
	root := v.root
	v.mu.Unlock()
	if root == nil {
		s.Send(&wire.Failed{Code: "no-root", Text: "no root is mounted yet"}, true)
		return
	}
	answer(s, root.Grow(m.Size, growPatience))
}

// thaw lets the programs go on. In a restored machine it first gives it what is its own.
func (v *Server) thaw(s *mux.Stream, m *wire.Thaw) {
	restored := len(m.Restored) > 0
	if restored {
		if m.BootID != "" {
			identity.SetBootID(m.BootID)
		}
		identity.WriteRestored(m.Restored)
	}
	v.Volumes.GoOn()
	err := v.Groups.Freeze(false, 0)
	v.mu.Lock()
	release := v.release
	v.release = nil
	v.mu.Unlock()
	if release != nil {
		release()
	}
	if restored && err == nil {
		v.Table.RunHooks(m.Env)
	}
	answer(s, err)
}
