package process

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sandlot/agent/internal/identity"
	"sandlot/agent/internal/spawn"
)

// Hold lets nothing be started from now on, and returns when nothing is just being started: a
// child that is born into a frozen group would keep the agent waiting for its program.
// The returned function ends it, once.
func (t *Table) Hold() (release func()) {
	t.gate.Lock()
	var once sync.Once
	return func() { once.Do(t.gate.Unlock) }
}

const (
	hookFolder  = "/etc/sandlot/on-restore.d"
	hookLog     = "/run/sandlot/on-restore.log"
	hookTimeout = 30 * time.Second // of all hooks together
)

// RunHooks runs the programs that the guest keeps for its restores, in the order of their names.
func (t *Table) RunHooks(env [][]byte) {
	paths, _ := filepath.Glob(hookFolder + "/*")
	if len(paths) == 0 {
		return
	}
	out, err := syscall.Open(hookLog, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return
	}
	defer syscall.Close(out)
	end := time.Now().Add(hookTimeout)
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			continue
		}
		if err := t.runHook(path, env, out, time.Until(end)); err != nil {
			syscall.Write(out, []byte(path+": "+err.Error()+"\n"))
			t.log("on-restore: " + filepath.Base(path) + ": " + err.Error())
		}
	}
}

func (t *Table) runHook(path string, env [][]byte, out int, most time.Duration) error {
	if most <= 0 {
		return errors.New("no time is left for it")
	}
	group, err := t.groups.Take()
	if err != nil {
		return err
	}
	defer group.Remove()
	user, err := identity.Lookup("")
	if err != nil {
		return err
	}
	birth := t.expect()
	pid, err := spawn.Start(&spawn.Program{
		Path: path, Argv: []string{path}, Env: environment(env, user, false), Dir: "/",
		Files: [3]int{t.null, out, out}, Group: group.Fd(),
	})
	ended := make(chan syscall.WaitStatus, 1)
	t.forking.Lock()
	if end := t.born(birth, pid); end != nil {
		ended <- end.status
	} else if err == nil {
		t.hooks[pid] = ended
	}
	t.forking.Unlock()
	if err != nil {
		return err
	}
	select {
	case status := <-ended:
		if !status.Exited() || status.ExitStatus() != 0 {
			return errors.New("it failed")
		}
		return nil
	case <-time.After(most):
		group.Kill()
		<-ended
		return errors.New("it was killed: it took too long")
	}
}
