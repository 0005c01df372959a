// The agent is process 1 of the guest: it serves the host over the channel, and never ends.
package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"sandlot/agent/internal/boot"
	"sandlot/agent/internal/borrow"
	"sandlot/agent/internal/cgroup"
	"sandlot/agent/internal/lend"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/network"
	"sandlot/agent/internal/process"
	"sandlot/agent/internal/session"
	"sandlot/agent/internal/volume"
)

const portName = "sandlot.0"

func main() {
	if os.Getpid() != 1 {
		if filepath.Base(os.Args[0]) == "sandlot" {
			os.Exit(borrow.Main(os.Args[1:]))
		}
		// A host may run /init as a process, to warm up the paths of a start: it does nothing.
		return
	}
	console := boot.OpenConsole()
	for {
		run(console)
		time.Sleep(time.Second)
	}
}

func run(console *boot.Console) {
	defer func() {
		if fault := recover(); fault != nil {
			console.Say("a fault: " + string(debug.Stack()))
		}
	}()
	syscall.Umask(0o022)
	// The agent holds little memory: collecting it rarely costs less than often.
	debug.SetGCPercent(400)
	boot.QuietRuntime()
	boot.LoadModules(console)
	if err := boot.Loopback(); err != nil {
		console.Say("lo: " + err.Error())
	}
	window, err := boot.Window()
	if err != nil {
		console.Say("window: " + err.Error())
	}
	root, err := syscall.Open("/sys/fs/cgroup", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		console.Say("cgroup: " + err.Error())
	}
	groups, err := cgroup.New(root)
	if err != nil {
		console.Say("cgroup: " + err.Error())
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		console.Say("/dev/null: " + err.Error())
	}
	table := process.NewTable(groups, null, console.Say)
	table.Tidy()
	go table.TidyLoop()
	go reap(table)
	gate, err := network.Open(root, console.Say)
	if err != nil {
		console.Say("network: " + err.Error())
	}
	server := &session.Server{Table: table, Groups: groups, Gate: gate, Log: console.Say, Volumes: volume.New(console.Say)}
	port := boot.OpenPort(portName)
	runtime.GC()
	conn, err := mux.New(port, window, server.Accept, console.Say)
	if err != nil {
		console.Say("channel: " + err.Error())
		return // without it nobody can be told anything
	}
	server.Lending = lend.Lending{Conn: conn, Log: console.Say}
	if gate != nil {
		gate.Serve(conn)
	}
	conn.Serve()
}

// reap waits for the ends of children, its own and those that it inherits.
func reap(table *process.Table) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for range children {
		table.Reap()
	}
}
