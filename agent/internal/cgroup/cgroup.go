// Package cgroup keeps each process and what it starts in a control group of its own.
//
// Everything goes through directory descriptors: what a process mounts over /sys/fs/cgroup does
// not matter.
package cgroup

import (
	"bytes"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Tree is the part of the hierarchy that holds the processes.
type Tree struct {
	fd       int
	count    atomic.Uint64
	spare    chan *Group
	lingered chan *Group
	pids     string // the limit of one group: a fork bomb leaves room for other commands
	most     int
}

// Group is one process's control group. It is used again for another when nothing runs in it any
// more: to make one and to charge the first memory to it costs an emulated machine milliseconds.
type Group struct {
	tree *Tree
	name string
	fd   int

	// Files that are read at each end, and what they said when the group was last parked.
	peakFile, eventsFile, currentFile int
	peak, current, oomKills           uint64
}

const (
	spares     = 4  // made ahead
	mostSpares = 64 // kept for another use
)

// Set up below root, an open directory of the hierarchy. The agent moves to a group of its own
// with a hundred times the weight, so that it answers however many processes run. There is no
// need to guard it against the out-of-memory killer: it never picks process 1.
func New(root int) (*Tree, error) {
	write(root, "cgroup.subtree_control", "+cpu +memory +pids")
	if err := mkdir(root, "agent"); err != nil {
		return nil, err
	}
	write(root, "agent/cpu.weight", "10000")
	if err := write(root, "agent/cgroup.procs", "1"); err != nil {
		return nil, err
	}
	if err := mkdir(root, "sandlot"); err != nil {
		return nil, err
	}
	fd, err := openDir(root, "sandlot")
	if err != nil {
		return nil, err
	}
	t := &Tree{fd: fd, spare: make(chan *Group, mostSpares), lingered: make(chan *Group, 4096)}
	// The processor is shared among the groups, not among all processes: a child that has just
	// been forked holds up the agent until it executes its program.
	write(fd, "cgroup.subtree_control", "+cpu +memory +pids")
	write(fd, "cpu.weight", "100")
	t.limit()
	return t, nil
}

// limit leaves memory and process numbers to the kernel and the agent. With 24 MiB and a twentieth
// of 512 the whole machine ran out before the groups did, and reclaimed for 10 s before it killed.
func (t *Tree) limit() {
	if total := MemoryTotal(); total > 0 {
		write(t.fd, "memory.max", strconv.FormatUint(total-max(64<<20, total/10), 10))
	}
	write(t.fd, "memory.oom.group", "0")
	most := 16384
	if threads := threadsMax(); threads > 0 {
		most = min(most, threads-threads/8)
	}
	write(t.fd, "pids.max", strconv.Itoa(most))
	t.pids = strconv.Itoa(most - most/8)
	t.most = most
}

// Limit lowers the number of processes that may run, as the sandbox's owner asks. 0 asks nothing.
func (t *Tree) Limit(pids uint64) {
	if pids == 0 || pids >= uint64(t.most) {
		return
	}
	t.most = int(pids)
	write(t.fd, "pids.max", strconv.Itoa(t.most))
}

// Counts says how many processes run, how many may, and how many the kernel killed for memory.
func (t *Tree) Counts() (running, most, killed uint64) {
	number := func(text []byte) uint64 {
		n, _ := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
		return n
	}
	_, after, _ := bytes.Cut(read(t.fd, "memory.events"), []byte("oom_kill "))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	return number(read(t.fd, "pids.current")), uint64(t.most), number(line)
}

// Take returns an empty group: one made before, if there is one.
func (t *Tree) Take() (*Group, error) {
	select {
	case g := <-t.spare:
		return g, nil
	default:
		return t.make()
	}
}

// Prepare makes groups for the next processes, from those that have become empty first.
func (t *Tree) Prepare() {
	for range len(t.lingered) {
		g := <-t.lingered
		if g.populated() {
			g.Remove()
		} else if !g.park() {
			g.destroy()
		}
	}
	for len(t.spare) < spares {
		g, err := t.make()
		if err != nil {
			return
		}
		select {
		case t.spare <- g:
		default:
			g.destroy()
		}
	}
}

// Lingering says whether Prepare has groups to remove.
func (t *Tree) Lingering() bool { return len(t.lingered) > 0 }

func (t *Tree) make() (*Group, error) {
	name := "p-" + strconv.FormatUint(t.count.Add(1), 10)
	if err := mkdir(t.fd, name); err != nil {
		return nil, err
	}
	fd, err := openDir(t.fd, name)
	if err != nil {
		return nil, err
	}
	write(fd, "pids.max", t.pids)
	g := &Group{tree: t, name: name, fd: fd}
	g.peakFile, g.eventsFile = open(fd, "memory.peak"), open(fd, "memory.events")
	g.currentFile = open(fd, "memory.current")
	return g, nil
}

// Fd is the group's directory.
func (g *Group) Fd() int { return g.fd }

// Kill kills everything in the group.
func (g *Group) Kill() error { return write(g.fd, "cgroup.kill", "1") }

// Kill kills everything that runs, in every group.
func (t *Tree) Kill() error { return write(t.fd, "cgroup.kill", "1") }

// Freeze stops everything that runs, in every group, or lets it go on. It returns when all is
// stopped; what waits in the kernel at the end of the time stops before it runs again.
func (t *Tree) Freeze(frozen bool, most time.Duration) error {
	value := "0"
	if frozen {
		value = "1"
	}
	if err := write(t.fd, "cgroup.freeze", value); err != nil || !frozen {
		return err
	}
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		if bytes.Contains(read(t.fd, "cgroup.events"), []byte("frozen 1")) {
			break
		}
	}
	return nil
}

// Empty says whether nothing runs in any group.
func (t *Tree) Empty() bool {
	return bytes.Contains(read(t.fd, "cgroup.events"), []byte("populated 0"))
}

// Processes lists the group's process ids.
func (g *Group) Processes() []int {
	var pids []int
	for _, line := range bytes.Fields(read(g.fd, "cgroup.procs")) {
		if pid, err := strconv.Atoi(string(line)); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Peak is the most memory that the group had in this use, in bytes; 0 if that is not known, because
// the kernel does not tell, or because an earlier use had more.
func (g *Group) Peak() uint64 {
	peak := number(again(g.peakFile))
	if peak <= g.peak || peak < g.current {
		return 0
	}
	return peak - g.current
}

// KilledForMemory says whether the kernel killed a process of the group for lack of memory.
func (g *Group) KilledForMemory() bool { return g.killedForMemory() > g.oomKills }

func (g *Group) killedForMemory() uint64 {
	_, after, _ := bytes.Cut(again(g.eventsFile), []byte("oom_kill "))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	return number(line)
}

func (g *Group) populated() bool {
	return !bytes.Contains(read(g.fd, "cgroup.events"), []byte("populated 0"))
}

// park keeps an empty group for another use, if it is as a new one would be.
func (g *Group) park() bool {
	var st syscall.Stat_t
	if syscall.Fstat(g.fd, &st) != nil || st.Nlink > 2 { // groups in it
		return false
	}
	for name, fresh := range map[string]string{"pids.max": g.tree.pids, "memory.max": "max", "cgroup.freeze": "0"} {
		if text := bytes.TrimSpace(read(g.fd, name)); len(text) > 0 && string(text) != fresh {
			return false
		}
	}
	g.peak, g.current = number(again(g.peakFile)), number(again(g.currentFile))
	g.oomKills = g.killedForMemory()
	select {
	case g.tree.spare <- g:
		return true
	default:
		return false
	}
}

// Remove gives the group back, for when nothing runs in it any more.
func (g *Group) Remove() {
	select {
	case g.tree.lingered <- g:
	default:
		g.destroy()
	}
}

func (g *Group) destroy() {
	rmdir(g.tree.fd, g.name)
	for _, fd := range []int{g.fd, g.peakFile, g.eventsFile, g.currentFile} {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
}
