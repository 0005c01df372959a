// Package files does the host's work on files (protocol/README.md, section 8): in the guest's
// root, with the rights of the user who is named, and without any program of the image.
package files

import (
	"runtime/debug"

	"sandlot/agent/internal/identity"
	"sandlot/agent/internal/mux"
	"sandlot/agent/internal/wire"
)

// job is one request that runs.
type job struct {
	stream *mux.Stream
	user   identity.User
	path   string
	in     *inbox
}

// Serve begins what a file request asks for, and returns the handler of the rest of its stream.
// It is called by the reading goroutine. layer is an open folder: the upper layer of the root.
func Serve(s *mux.Stream, m wire.Message, layer func() (int, error), log func(string)) mux.Handler {
	j := &job{stream: s, in: newInbox(s)}
	go func() {
		defer func() {
			if fault := recover(); fault != nil {
				log("a fault in a file request\n" + string(debug.Stack()))
				s.Send(&wire.Failed{Code: "failed", Text: "a fault in the agent"}, true)
			}
		}()
		j.finish(j.run(m, layer))
	}()
	return j.in
}

// run does the request. What it returns is the answer; nil when it has answered itself.
func (j *job) run(m wire.Message, layer func() (int, error)) (wire.Message, error) {
	if _, ok := m.(*wire.UpperLayer); ok {
		return nil, j.upperLayer(layer)
	}
	place := m.(wire.FileRequest).Place()
	user, err := identity.Lookup(place.User)
	if err != nil {
		return &wire.Failed{Code: "no-user", Text: place.User + ": " + err.Error()}, nil
	}
	j.user = user
	if j.path, err = absolute(place.Cwd, place.Path); err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *wire.FileRead:
		return nil, j.read(m)
	case *wire.FileWrite:
		err = j.write(m)
	case *wire.FileWatch:
		return nil, j.watch(m)
	case *wire.TreeGet:
		return nil, j.get(m)
	case *wire.TreePut:
		err = j.put(m)
	default:
		var answer wire.Message = &wire.OK{}
		err = as(user, func() error { return j.simple(m, place, &answer) })
		return answer, err
	}
	return &wire.OK{}, err
}

// simple does what neither takes nor gives much.
func (j *job) simple(m wire.Message, place *wire.At, answer *wire.Message) error {
	switch m := m.(type) {
	case *wire.FileStat:
		found, err := stat(j.path, place.Path, m.Flags&wire.StatNoFollow == 0)
		if err == nil {
			*answer = found
		}
		return err
	case *wire.FileList:
		return j.list(m)
	case *wire.FileMkdir:
		return mkdir(j.path, m)
	case *wire.FileRemove:
		return remove(j.path, m.Flags)
	case *wire.FileRename:
		target, err := absolute(place.Cwd, m.Target)
		if err != nil {
			return err
		}
		return rename(j.path, target, m.Flags)
	case *wire.FileChange:
		return change(j.path, m)
	case *wire.FileLink:
		return link(j.path, place.Cwd, m)
	}
	return errUnknown
}

// finish ends the request's stream. After a failure the host may still be sending: a reset stops
// it, behind the answer.
func (j *job) finish(answer wire.Message, err error) {
	switch {
	case err == mux.ErrDead:
	case err != nil:
		j.fail(failed(about(j.path, err)))
	case answer != nil:
		if f, ok := answer.(*wire.Failed); ok {
			j.fail(f)
		} else {
			j.stream.Send(answer, true)
		}
	}
	j.in.close()
}

func (j *job) fail(f *wire.Failed) {
	ended := j.in.ended()
	j.stream.Send(f, ended)
	if !ended {
		j.stream.Reset()
	}
}

// send sends all of p, waiting for credit and room.
func (j *job) send(p []byte) error {
	for len(p) > 0 {
		n, err := j.stream.Offer(p)
		if err == mux.Wait {
			<-j.stream.Ready
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
