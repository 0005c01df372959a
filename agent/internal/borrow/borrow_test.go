package borrow

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type said struct {
	kind    byte
	payload string
}

// host answers one connection with what it is given, and returns the request and the input.
func host(t *testing.T, answers ...said) chan map[string]any {
	t.Helper()
	name := filepath.Join(t.TempDir(), "s")
	t.Setenv("SANDLOT_RUNTIME_SOCKET", name)
	listener, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	requests := make(chan map[string]any, 1)
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		c := &conn{file: connection}
		_, payload, _ := c.receive()
		request := map[string]any{}
		json.Unmarshal(payload, &request)
		input := ""
		for request["stdin"] == true || request["op"] == "write" {
			_, payload, err := c.receive()
			if err != nil || len(payload) == 0 {
				break
			}
			input += string(payload)
		}
		request["input"] = input
		requests <- request
		for _, each := range answers {
			c.send(each.kind, []byte(each.payload))
		}
	}()
	return requests
}

func called(input string, arguments ...string) (int, string, string) {
	var out, err strings.Builder
	code := run(arguments, streams{strings.NewReader(input), &out, &err})
	return code, out.String(), err.String()
}

func TestAProgramIsRunInAPeer(t *testing.T) {
	requests := host(t, said{kindOutput, "out"}, said{kindErrors, "err"}, said{kindAnswer, `{"exit_code": 3}`})
	code, out, err := called("typed", "exec", "-i", "-e", "A=b=c", "helper", "--", "cat", "-n")
	if code != 3 || out != "out" || err != "err" {
		t.Fatal(code, out, err)
	}
	r := <-requests
	if r["op"] != "exec" || r["peer"] != "helper" || r["input"] != "typed" || r["env"].(map[string]any)["A"] != "b=c" {
		t.Fatal(r)
	}
	if c := r["command"].([]any); len(c) != 2 || c[1] != "-n" {
		t.Fatal(r)
	}
}

func TestAPeerIsStarted(t *testing.T) {
	requests := host(t, said{kindAnswer, `{"name": "helper"}`})
	code, out, err := called("", "start", "--image=python:3.12", "--cpus", "2", "--secret", "K", "--allow", "a.example", "helper", "--", "sleep", "9")
	if code != 0 || out != "helper\n" || err != "" {
		t.Fatal(code, out, err)
	}
	r := <-requests
	if r["image"] != "python:3.12" || r["cpus"] != 2.0 || r["name"] != "helper" || len(r["command"].([]any)) != 2 {
		t.Fatal(r)
	}
}

func TestARefusalIsTold(t *testing.T) {
	host(t, said{kindError, `{"error": "CommandNotFound", "message": "no x", "hint": "look"}`})
	code, _, err := called("", "exec", "helper", "x")
	if code != notFound || err != "sandlot: no x\nhint: look\n" {
		t.Fatal(code, err)
	}
}

func TestPeersAreListed(t *testing.T) {
	host(t, said{kindItem, `{"name": "a", "status": "running", "image": "i"}`}, said{kindAnswer, `{}`})
	if code, out, _ := called("", "ls"); code != 0 || out != "a\trunning\ti\n" {
		t.Fatal(code, out)
	}
	host(t, said{kindAnswer, `{}`})
	if code, out, _ := called("", "ls", "--json"); code != 0 || out != "[]\n" {
		t.Fatal(code, out)
	}
}

func TestFilesAreCopied(t *testing.T) {
	target := filepath.Join(t.TempDir(), "f")
	host(t, said{kindOutput, "half"}, said{kindOutput, " whole"}, said{kindAnswer, `{}`})
	if code, _, err := called("", "cp", "a:/x", target); code != 0 {
		t.Fatal(code, err)
	}
	if data, _ := os.ReadFile(target); string(data) != "half whole" {
		t.Fatal(string(data))
	}
	requests := host(t, said{kindAnswer, `{}`})
	if code, _, err := called("typed", "cp", "-", "a:/x"); code != 0 {
		t.Fatal(code, err)
	}
	if r := <-requests; r["input"] != "typed" || r["path"] != "/x" {
		t.Fatal(r)
	}
}

func TestWhatIsWrongIsTold(t *testing.T) {
	t.Setenv("SANDLOT_RUNTIME_SOCKET", filepath.Join(t.TempDir(), "none"))
	for _, arguments := range [][]string{
		{"reboot"}, {"exec"}, {"exec", "a"}, {"start", "--port", "80"}, {"start", "--cpus", "x"}, {"cp", "a", "b"},
		{"cp", "a:b", "c:d"}, {"ls", "x"}, {"logs"}, {"stop"}, {"info"},
	} {
		if code, _, err := called("", arguments...); code != failure || !strings.HasPrefix(err, "sandlot: ") {
			t.Fatal(arguments, code, err)
		}
	}
	if code, out, _ := called(""); code != 0 || out != usage {
		t.Fatal(code)
	}
}

func TestAHostThatEndsIsTold(t *testing.T) {
	host(t)
	if code, _, err := called("", "info"); code != failure || !strings.Contains(err, "ended") {
		t.Fatal(code, err)
	}
}

func TestALongAnswerIsNotRead(t *testing.T) {
	reader, writer := io.Pipe()
	go func() {
		var header [headerSize]byte
		binary.BigEndian.PutUint32(header[1:], maxPayload+1)
		writer.Write(header[:])
	}()
	c := &conn{file: struct {
		io.Reader
		io.WriteCloser
	}{reader, writer}}
	if _, _, err := c.receive(); err == nil {
		t.Fatal("it was read")
	}
}
