package session

import (
	"sandlot/agent/internal/files"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/process"
	"sandlot/agent/internal/wire"
)

// request reads a stream's messages: the first opens something, and those of an EXEC stream go
// on to its process.
type request struct {
	server  *Server
	stream  *mux.Stream
	buffer  []byte
	control process.Control // of an EXEC or a WATCH stream
	rest    mux.Handler     // takes what follows the first message
	done    bool
}

// Data gathers messages. What is consumed is granted again at once: a long message needs more
// credit than a new stream has.
func (r *request) Data(p []byte) {
	if r.rest != nil {
		r.rest.Data(p)
		return
	}
	r.stream.Grant(len(p))
	if r.done {
		return
	}
	r.buffer = append(r.buffer, p...)
	for !r.done && r.rest == nil {
		m, size, err := wire.TakeMessage(r.buffer)
		if err != nil {
			r.refuse(err.Error())
			return
		}
		if m == nil {
			return
		}
		r.buffer = r.buffer[size:]
		if r.control != nil {
			if !r.control.Message(m) {
				r.refuse("a message that has no place here")
			}
			continue
		}
		r.open(m)
	}
	if r.rest != nil && len(r.buffer) > 0 {
		r.rest.Data(r.buffer)
	}
	r.buffer = nil
}

// open begins what the first message asks for.
func (r *request) open(m wire.Message) {
	v, s := r.server, r.stream
	switch m := m.(type) {
	case *wire.Exec:
		r.control = v.Table.Start(s, m)
		return
	case *wire.Watch:
		if r.control = v.Table.Watch(s, m); r.control == nil {
			r.done = true
		}
		return
	case *wire.Jobs:
		for _, job := range v.Table.Jobs() {
			s.Send(job, false)
		}
		s.Fin()
	case *wire.Metrics:
		v.background(func() { s.Send(v.measure(), true) })
	case *wire.Stdio:
		if r.rest = v.Table.Attach(s, m); r.rest == nil {
			r.done = true
			if m.Flags&wire.StdioAsk == 0 {
				s.Reset()
			} // else it was answered
		}
		return
	case *wire.Configure:
		v.configure(s, m)
	case *wire.Clock:
		v.clock(s, m)
	case *wire.MountRoot:
		v.background(func() { v.mountRoot(s, m) })
	case *wire.Stage:
		v.background(func() { v.stage(s, m) })
	case *wire.Freeze:
		v.background(func() { v.freeze(s, m) })
	case *wire.Thaw:
		v.background(func() { v.thaw(s, m) })
	case *wire.Grow:
		v.background(func() { v.grow(s, m) })
	case *wire.Shutdown:
		v.background(func() { v.shutdown(s, m) })
	case *wire.Network, *wire.Dial:
		if v.Gate == nil {
			s.Send(&wire.Failed{Code: "no-network", Text: "the guest's kernel has no network"}, true)
			break
		}
		if m, ok := m.(*wire.Dial); ok {
			r.rest = v.Gate.Dial(s, m)
		} else {
			r.rest = v.Gate.Network(s)
		}
		return
	case *wire.Mount:
		if !v.mounted() {
			s.Send(&wire.Failed{Code: "no-root", Text: "no root is mounted yet"}, true)
			break
		}
		r.rest = v.Volumes.Mount(s, m, func(err error) { answer(s, err) })
		return
	case *wire.Unmount:
		v.background(func() { answer(s, v.Volumes.Unmount(m)) })
	case *wire.MountDisk:
		if !v.mounted() {
			s.Send(&wire.Failed{Code: "no-root", Text: "no root is mounted yet"}, true)
			break
		}
		v.background(func() { answer(s, v.Volumes.MountDisk(m)) })
	case *wire.Lend:
		if !v.mounted() {
			s.Send(&wire.Failed{Code: "no-root", Text: "no root is mounted yet"}, true)
			break
		}
		v.background(func() { answer(s, v.Lending.Open()) })
	case *wire.Nudge:
		v.background(func() {
			thread, err := v.Volumes.Nudge(m)
			if err == nil {
				s.Send(&wire.Started{Pid: uint64(thread)}, true)
				return
			}
			answer(s, err)
		})
	case wire.FileRequest, *wire.UpperLayer:
		if !v.mounted() {
			s.Send(&wire.Failed{Code: "no-root", Text: "no root is mounted yet"}, true)
			break
		}
		r.rest = files.Serve(s, m, v.upper, v.Log)
		return
	default:
		r.refuse("a stream cannot begin with this message")
	}
	r.done = true
}

func (r *request) refuse(why string) {
	r.done, r.buffer = true, nil
	r.stream.Send(&wire.Failed{Code: "failed", Text: why}, true)
}

// Fin is the host's end of the stream.
func (r *request) Fin() {
	if r.rest != nil {
		r.rest.Fin()
	} else if r.control == nil && !r.done {
		r.refuse("the stream ended before its message")
	}
}

// Reset is the stream's end for both.
func (r *request) Reset(lost bool) {
	if r.rest != nil {
		r.rest.Reset(lost)
	} else if r.control != nil {
		r.control.Reset(lost)
	}
}
