// Package borrow is `sandlot`, the command inside a sandbox whose owner lends it a runtime: it starts
// and uses other sandboxes by asking the host (protocol/README.md, section 13).
package borrow

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

const (
	version    = 1
	socketName = "/run/sandlot/runtime.sock"
	maxPayload = 65536
	headerSize = 5

	kindRequest = 1
	kindAnswer  = 2
	kindError   = 3
	kindItem    = 4
	kindInput   = 5
	kindOutput  = 6
	kindErrors  = 7
)

// Refused is what the host says instead of an answer.
type Refused struct {
	Kind    string `json:"error"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func (r *Refused) Error() string { return r.Message }

// conn is one connection to the host: one request and its answer.
type conn struct {
	file io.ReadWriteCloser
	lock sync.Mutex // of writers
}

func dial() (*conn, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	name := os.Getenv("SANDLOT_RUNTIME_SOCKET")
	if name == "" {
		name = socketName
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: name}); err != nil {
		syscall.Close(fd)
		return nil, &Refused{
			Message: "no runtime was lent to this sandbox (" + err.Error() + ")",
			Hint:    "its owner grants one with runtime=RuntimeAccess(...)",
		}
	}
	return &conn{file: os.NewFile(uintptr(fd), name)}, nil
}

func (c *conn) send(kind byte, payload []byte) error {
	frame := make([]byte, headerSize, headerSize+len(payload))
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	c.lock.Lock()
	defer c.lock.Unlock()
	_, err := c.file.Write(append(frame, payload...))
	return err
}

// input sends all that is read from source, and its end.
func (c *conn) input(source io.Reader) {
	buffer := make([]byte, maxPayload)
	for {
		n, err := source.Read(buffer)
		if n > 0 && c.send(kindInput, buffer[:n]) != nil {
			return
		}
		if err != nil {
			c.send(kindInput, nil)
			return
		}
	}
}

func (c *conn) receive() (byte, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(c.file, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > maxPayload {
		return 0, nil, errors.New("the host's answer is too long")
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(c.file, payload)
	return header[0], payload, err
}

// taker is where the parts of an answer go; nil is nowhere.
type taker struct {
	output, errors io.Writer
	item           func([]byte)
	input          io.Reader
}

// ask makes one request and returns the answer to it.
func ask(operation string, fields map[string]any, t taker) (map[string]any, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.file.Close()
	return c.ask(operation, fields, t)
}

func (c *conn) ask(operation string, fields map[string]any, t taker) (map[string]any, error) {
	request := map[string]any{"version": version, "op": operation}
	for name, value := range fields {
		request[name] = value
	}
	data, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if len(data) > maxPayload {
		return nil, &Refused{Message: "the request is longer than 64 KiB"}
	}
	if err := c.send(kindRequest, data); err != nil {
		return nil, err
	}
	if t.input != nil {
		go c.input(t.input)
	}
	for {
		kind, payload, err := c.receive()
		if err != nil {
			return nil, &Refused{Message: "the host ended the connection", Hint: "the sandbox may be stopping"}
		}
		switch kind {
		case kindOutput:
			write(t.output, payload)
		case kindErrors:
			write(t.errors, payload)
		case kindItem:
			if t.item != nil {
				t.item(payload)
			}
		case kindError:
			refused := &Refused{}
			if json.Unmarshal(payload, refused) != nil {
				refused.Message = "the host refused"
			}
			return nil, refused
		case kindAnswer:
			answer := map[string]any{}
			err := json.Unmarshal(payload, &answer)
			return answer, err
		default:
			return nil, errors.New("the host's answer is not understood")
		}
	}
}

func write(w io.Writer, p []byte) {
	if w != nil {
		w.Write(p)
	}
}
