package borrow

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
)

const usage = `Usage: sandlot COMMAND

Sandboxes beside this one, as far as its owner allows:
  start [--image IMAGE] [--memory SIZE] [--cpus N] [--disk SIZE] [-e NAME=VALUE] [-w DIR] [-u USER]
        [--secret NAME] [--allow RULE] [--deny-all] [NAME] [-- COMMAND ARG...]
  ls    [--json]
  exec  [-i] [-e NAME=VALUE] [-w DIR] [-u USER] NAME COMMAND ARG...
  logs  [-f] NAME
  cp    NAME:PATH FILE | FILE NAME:PATH      (- is standard input or output)
  stop  [--kill] NAME
  info  what was granted

Example: sandlot start --image python:3.12 helper && sandlot exec helper python3 -c 'print(1)'
`

const (
	failure       = 125 // our own, as of the command outside
	notExecutable = 126
	notFound      = 127
)

// streams are what the command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs the command and returns its exit status.
func Main(arguments []string) int {
	return run(arguments, streams{os.Stdin, os.Stdout, os.Stderr})
}

func run(arguments []string, s streams) int {
	if len(arguments) == 0 || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help" {
		io.WriteString(s.out, usage)
		return 0
	}
	commands := map[string]func([]string, streams) (int, error){
		"start": start, "ls": list, "ps": list, "exec": execute, "logs": logs, "cp": copyFile,
		"stop": stop, "info": info,
	}
	command := commands[arguments[0]]
	if command == nil {
		return tell(s, &Refused{Message: "there is no command " + quoted(arguments[0]), Hint: "`sandlot --help` lists them"})
	}
	code, err := command(arguments[1:], s)
	if err != nil {
		return tell(s, err)
	}
	return code
}

func tell(s streams, err error) int {
	io.WriteString(s.err, "sandlot: "+err.Error()+"\n")
	var refused *Refused
	if errors.As(err, &refused) {
		if refused.Hint != "" {
			io.WriteString(s.err, "hint: "+refused.Hint+"\n")
		}
		switch refused.Kind {
		case "CommandNotFound":
			return notFound
		case "CommandNotExecutable":
			return notExecutable
		}
	}
	return failure
}

func quoted(text string) string {
	data, _ := json.Marshal(text)
	return string(data)
}

// flags takes options from the front of arguments: those in `values` have a value, those in `plain`
// have none; what is left begins with the first that is none.
func flags(arguments []string, values, plain string, set func(name, value string) error) ([]string, error) {
	has := func(list, name string) bool { return strings.Contains(" "+list+" ", " "+name+" ") }
	for len(arguments) > 0 {
		name, value, joined := strings.Cut(arguments[0], "=")
		switch {
		case arguments[0] == "--" || !strings.HasPrefix(arguments[0], "-") || arguments[0] == "-":
			return arguments, nil
		case !joined && has(plain, name):
			arguments = arguments[1:]
		case joined && has(values, name):
			arguments = arguments[1:]
		case !joined && has(values, name) && len(arguments) > 1:
			value, arguments = arguments[1], arguments[2:]
		default:
			return nil, &Refused{Message: "option " + quoted(name) + " is not known, or has no value", Hint: "`sandlot --help` lists them"}
		}
		if err := set(name, value); err != nil {
			return nil, err
		}
	}
	return arguments, nil
}

// common are options that start and exec share.
func common(fields map[string]any, name, value string) error {
	switch name {
	case "-e", "--env":
		variable, text, found := strings.Cut(value, "=")
		if !found {
			text = os.Getenv(variable)
		}
		env, _ := fields["env"].(map[string]string)
		if env == nil {
			env = map[string]string{}
			fields["env"] = env
		}
		env[variable] = text
	case "-w", "--workdir":
		fields["workdir"] = value
	case "-u", "--user":
		fields["user"] = value
	}
	return nil
}

func start(arguments []string, s streams) (int, error) {
	fields := map[string]any{}
	var allow, secrets []string
	closed := false
	rest, err := flags(arguments, "--image --memory -m --cpus --disk --name -e --env -w --workdir -u --user --secret --allow", "--deny-all", func(name, value string) error {
		switch name {
		case "--image", "--disk", "--name", "--memory":
			fields[name[2:]] = value
		case "-m":
			fields["memory"] = value
		case "--cpus":
			count, err := strconv.Atoi(value)
			if err != nil {
				return &Refused{Message: "--cpus " + quoted(value) + " is not a number"}
			}
			fields["cpus"] = count
		case "--secret":
			secrets = append(secrets, value)
		case "--allow":
			allow = append(allow, value)
		case "--deny-all":
			closed = true
		default:
			return common(fields, name, value)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(rest) > 0 && rest[0] != "--" {
		fields["name"], rest = rest[0], rest[1:]
	}
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	if len(rest) > 0 {
		fields["command"] = rest
	}
	if secrets != nil {
		fields["secrets"] = secrets
	}
	if closed {
		fields["network"] = map[string]any{"default": "deny"}
	} else if allow != nil {
		fields["network"] = map[string]any{"allow": allow}
	}
	answer, err := ask("start", fields, taker{})
	if err != nil {
		return 0, err
	}
	io.WriteString(s.out, text(answer["name"])+"\n")
	return 0, nil
}

func text(value any) string {
	found, _ := value.(string)
	return found
}

func number(value any) int {
	found, _ := value.(float64)
	return int(found)
}

func list(arguments []string, s streams) (int, error) {
	asJSON := false
	rest, err := flags(arguments, "", "--json", func(string, string) error { asJSON = true; return nil })
	if err == nil && len(rest) > 0 {
		err = &Refused{Message: "ls takes no names"}
	}
	if err != nil {
		return 0, err
	}
	var items []json.RawMessage
	_, err = ask("list", nil, taker{item: func(p []byte) { items = append(items, p) }})
	if err != nil {
		return 0, err
	}
	if asJSON {
		if items == nil {
			items = []json.RawMessage{}
		}
		data, _ := json.Marshal(items)
		_, err := s.out.Write(append(data, '\n'))
		return 0, err
	}
	for _, each := range items {
		peer := map[string]any{}
		json.Unmarshal(each, &peer)
		io.WriteString(s.out, text(peer["name"])+"\t"+text(peer["status"])+"\t"+text(peer["image"])+"\n")
	}
	return 0, nil
}

func info(_ []string, s streams) (int, error) {
	answer, err := ask("hello", nil, taker{})
	if err != nil {
		return 0, err
	}
	data, _ := json.MarshalIndent(answer, "", "  ")
	_, err = s.out.Write(append(data, '\n'))
	return 0, err
}

func execute(arguments []string, s streams) (int, error) {
	fields := map[string]any{}
	t := taker{output: s.out, errors: s.err}
	rest, err := flags(arguments, "-e --env -w --workdir -u --user", "-i --interactive", func(name, value string) error {
		if name == "-i" || name == "--interactive" {
			fields["stdin"], t.input = true, s.in
			return nil
		}
		return common(fields, name, value)
	})
	if err != nil {
		return 0, err
	}
	if len(rest) > 1 && rest[1] == "--" {
		rest = append(rest[:1:1], rest[2:]...)
	}
	if len(rest) < 2 {
		return 0, &Refused{Message: "exec needs a sandbox and a command", Hint: "sandlot exec NAME COMMAND ARG..."}
	}
	fields["peer"], fields["command"] = rest[0], rest[1:]
	answer, err := ask("exec", fields, t)
	if err != nil {
		return 0, err
	}
	return number(answer["exit_code"]), nil
}

func logs(arguments []string, s streams) (int, error) {
	fields := map[string]any{}
	rest, err := flags(arguments, "", "-f --follow", func(string, string) error { fields["follow"] = true; return nil })
	if err == nil && len(rest) != 1 {
		err = &Refused{Message: "logs needs one sandbox"}
	}
	if err != nil {
		return 0, err
	}
	fields["peer"] = rest[0]
	_, err = ask("logs", fields, taker{output: s.out, errors: s.err})
	return 0, err
}

func stop(arguments []string, s streams) (int, error) {
	fields := map[string]any{}
	rest, err := flags(arguments, "", "--kill", func(string, string) error { fields["kill"] = true; return nil })
	if err == nil && len(rest) == 0 {
		err = &Refused{Message: "stop needs a sandbox"}
	}
	for _, each := range rest {
		if err == nil {
			fields["peer"] = each
			_, err = ask("stop", fields, taker{})
		}
	}
	return 0, err
}

func copyFile(arguments []string, s streams) (int, error) {
	if len(arguments) != 2 {
		return 0, &Refused{Message: "cp needs a source and a target", Hint: "sandlot cp NAME:PATH FILE"}
	}
	fromPeer, fromPath, from := strings.Cut(arguments[0], ":")
	toPeer, toPath, to := strings.Cut(arguments[1], ":")
	if from == to {
		return 0, &Refused{Message: "one of the two is NAME:PATH, the other a file here"}
	}
	if from {
		fields := map[string]any{"peer": fromPeer, "path": fromPath}
		if arguments[1] == "-" {
			_, err := ask("read", fields, taker{output: s.out})
			return 0, err
		}
		// Under another name until it is whole.
		file, err := os.CreateTemp(folderOf(arguments[1]), ".sandlot-")
		if err != nil {
			return 0, err
		}
		defer os.Remove(file.Name())
		defer file.Close()
		if _, err = ask("read", fields, taker{output: file}); err == nil {
			if err = file.Chmod(0o644); err == nil {
				err = os.Rename(file.Name(), arguments[1])
			}
		}
		return 0, err
	}
	source := s.in
	if arguments[0] != "-" {
		file, err := os.Open(arguments[0])
		if err != nil {
			return 0, err
		}
		defer file.Close()
		source = file
	}
	_, err := ask("write", map[string]any{"peer": toPeer, "path": toPath}, taker{input: source})
	return 0, err
}

func folderOf(path string) string {
	if at := strings.LastIndexByte(path, '/'); at >= 0 {
		return path[:at+1]
	}
	return "."
}
