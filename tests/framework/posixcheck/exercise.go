package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
)

// An exerciser does random operations on a file and on a model of its bytes, and compares them after
// each one: all of a small file or, when it is brisk, what the operation touched.
type exerciser struct {
	dice    *rand.Rand
	path    string
	fd      int
	held    []byte // a mapping of the whole file that stays
	model   []byte
	largest int
	brisk   bool
	random  []byte // what is written is a part of it
	buffer  []byte
	journal []step
	kinds   map[string]int
	refused map[string]bool
	from    int // what the last operation changed, or all that it touched
	to      int
}

// A step of the journal is what an operation was given.
type step struct {
	number, from, to, size int
	name                   string
	target                 int // of a copy, else -1
}

func (each step) String() string {
	if each.target >= 0 {
		return fmt.Sprintf("%d %s %d-%d (of %d) to %d", each.number, each.name, each.from, each.to, each.size, each.target)
	}
	return fmt.Sprintf("%d %s %d-%d (of %d)", each.number, each.name, each.from, each.to, each.size)
}

// summary is what is printed when all went well.
type summary struct {
	Seed       int64          `json:"seed"`
	Operations int            `json:"operations"`
	Kinds      map[string]int `json:"kinds"`
	Refused    []string       `json:"unsupported"`
}

func exerciseCommand(path string, arguments []string) error {
	var seed int64
	var operations, size, spoil int
	var brisk bool
	err := options("exercise", arguments, func(flags *flag.FlagSet) {
		flags.Int64Var(&seed, "seed", anySeed(), "of the random numbers")
		flags.IntVar(&operations, "operations", 1000, "how many")
		flags.IntVar(&size, "size", 256<<10, "of the file at most, in bytes")
		flags.BoolVar(&brisk, "brisk", false, "more of what the guest does by itself, less compared: many times as many in a second")
		flags.IntVar(&spoil, "spoil", 0, "write a byte behind the model's back before this operation: must be found")
	})
	if err != nil {
		return err
	}
	if size < 8 {
		return fmt.Errorf("a file of %d bytes is too small", size)
	}
	debug.SetPanicOnFault(true)
	e := &exerciser{
		dice: rand.New(rand.NewSource(seed)), path: fmt.Sprintf("%s/exercise-%d", path, os.Getpid()), largest: size,
		brisk: brisk, random: make([]byte, 2*size), buffer: make([]byte, size),
		kinds: map[string]int{}, refused: map[string]bool{},
	}
	e.dice.Read(e.random)
	defer func() { os.Remove(e.path) }() // it may have another name by then
	e.fd, err = syscall.Open(e.path, rdwr|creat|excl|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open %s: %s", e.path, said(err))
	}
	if err := e.hold(); err != nil {
		return fmt.Errorf("mmap %s: %s", e.path, said(err))
	}
	for number := 1; number <= operations; number++ {
		if number == spoil {
			e.spoil()
		}
		if err := e.step(number); err != nil {
			return fmt.Errorf("seed %d, operation %d: %w\nthe last operations:\n%s", seed, number, err,
				strings.Join(e.told(), "\n"))
		}
	}
	if err := e.compare(0, len(e.model)); err != nil {
		return fmt.Errorf("seed %d, at the end: %w", seed, err)
	}
	s := summary{seed, operations, e.kinds, []string{}}
	for kind := range e.refused {
		s.Refused = append(s.Refused, kind)
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// spoil writes another byte into the file.
func (e *exerciser) spoil() {
	if len(e.model) == 0 {
		e.model = []byte{1}
	}
	at := len(e.model) / 2
	syscall.Pwrite(e.fd, []byte{^e.model[at]}, int64(at))
}

type operation struct {
	name   string
	weight int
	brisk  int  // its weight when it is brisk: most operations need nobody but the kernel
	reads  bool // it changes nothing, and compares itself
	does   func(e *exerciser) error
}

var operations = []operation{
	{"write", 20, 30, false, (*exerciser).write},
	{"append", 4, 5, false, (*exerciser).append},
	{"read", 16, 480, true, (*exerciser).read},
	{"read-by-another", 4, 5, true, (*exerciser).readByAnother},
	{"truncate-down", 5, 5, false, func(e *exerciser) error { return e.truncate(e.dice.Intn(len(e.model) + 1)) }},
	{"truncate-up", 4, 9, false, func(e *exerciser) error { return e.truncate(len(e.model) + e.dice.Intn(e.largest-len(e.model)+1)) }},
	{"mmap-read", 8, 20, true, (*exerciser).mapRead},
	{"mmap-write", 10, 10, false, (*exerciser).mapWrite},
	{"held-map-read", 4, 250, true, (*exerciser).heldRead},
	{"held-map-write", 6, 60, false, (*exerciser).heldWrite},
	{"stat", 1, 20, true, (*exerciser).stat},
	{"fallocate", 4, 2, false, func(e *exerciser) error { return e.allocate(0) }},
	{"fallocate-keep", 2, 2, false, func(e *exerciser) error { return e.allocate(fallocKeepSize) }},
	{"punch", 5, 4, false, func(e *exerciser) error { return e.allocate(punch) }},
	{"zero", 3, 2, false, func(e *exerciser) error { return e.allocate(fallocZeroRange) }},
	{"zero-keep", 3, 2, false, func(e *exerciser) error { return e.allocate(fallocZeroRange | fallocKeepSize) }},
	{"copy", 6, 4, false, (*exerciser).copyRange},
	{"holes", 3, 1, true, (*exerciser).holes},
	{"reopen", 4, 4, false, (*exerciser).reopen},
	{"rename", 1, 2, false, (*exerciser).rename},
	{"fsync", 2, 2, false, func(e *exerciser) error { return syscall.Fsync(e.fd) }},
	{"fdatasync", 2, 2, false, func(e *exerciser) error { return syscall.Fdatasync(e.fd) }},
}

// weights are the sums of those above: of all, and of all when it is brisk.
var weights = func() (sums [2]int) {
	for _, each := range operations {
		sums[0] += each.weight
		sums[1] += each.brisk
	}
	return sums
}()

func (e *exerciser) choose() operation {
	if e.brisk {
		roll := e.dice.Intn(weights[1])
		for _, each := range operations {
			if roll -= each.brisk; roll < 0 {
				return each
			}
		}
	}
	roll := e.dice.Intn(weights[0])
	for _, each := range operations {
		if roll -= each.weight; roll < 0 {
			return each
		}
	}
	panic("the weights are wrong")
}

func (e *exerciser) step(number int) (err error) {
	chosen := e.choose()
	e.from, e.to = 0, 0
	e.journal = append(e.journal, step{number: number, name: chosen.name, size: len(e.model), target: -1})
	if len(e.journal) > 2*journaled {
		e.journal = append(e.journal[:0], e.journal[journaled:]...)
	}
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("%s: a fault in mapped memory: %v", chosen.name, caught)
		}
	}()
	err = chosen.does(e)
	if err == syscall.EOPNOTSUPP || err == syscall.ENOSYS {
		e.refused[chosen.name] = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %s", chosen.name, said(err))
	}
	e.kinds[chosen.name]++
	if e.brisk {
		if number%512 == 0 {
			return e.compare(0, len(e.model))
		}
		if chosen.reads {
			return nil
		}
		return e.same(e.from, min(len(e.model), e.to))
	}
	// A large file is not read whole each time.
	if len(e.model) <= 64<<10 || number%16 == 0 {
		return e.compare(0, len(e.model))
	}
	return e.compare(max(0, e.from-8192), min(len(e.model), e.to+8192))
}

// journaled is how many operations are told when one went wrong.
const journaled = 20

// told are the last operations.
func (e *exerciser) told() (lines []string) {
	for _, each := range e.journal[max(0, len(e.journal)-journaled):] {
		lines = append(lines, each.String())
	}
	return lines
}

// note adds to the journal what an operation was given.
func (e *exerciser) note(from, to int) {
	e.from, e.to = from, to
	last := &e.journal[len(e.journal)-1]
	last.from, last.to = from, to
}

// compare reads a part of the file, and its size.
func (e *exerciser) compare(from, to int) error {
	if err := e.stat(); err != nil {
		return err
	}
	return e.same(from, to)
}

func (e *exerciser) stat() error {
	var st syscall.Stat_t
	if err := syscall.Fstat(e.fd, &st); err != nil {
		return fmt.Errorf("fstat: %s", said(err))
	}
	if st.Size != int64(len(e.model)) {
		return fmt.Errorf("the file has %d bytes, not %d", st.Size, len(e.model))
	}
	return nil
}

// same reads a part of the file.
func (e *exerciser) same(from, to int) error {
	if to <= from {
		return nil
	}
	got, err := e.readAll(e.fd, from, to-from)
	if err != nil {
		return err
	}
	return differ("read", got, e.model[from:to], from)
}

// readAll gives bytes that are good until the next call.
func (e *exerciser) readAll(fd, from, size int) ([]byte, error) {
	return readAll(fd, from, e.buffer[:size])
}

// readAll fills the buffer from an offset on.
func readAll(fd, from int, buffer []byte) ([]byte, error) {
	for got := 0; got < len(buffer); {
		n, err := syscall.Pread(fd, buffer[got:], int64(from+got))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fmt.Errorf("the file ends at %d", from+got)
		}
		got += n
	}
	return buffer, nil
}

// differ says where two runs of bytes, which begin at an offset, are not the same.
func differ(how string, got, want []byte, offset int) error {
	if string(got) == string(want) {
		return nil
	}
	for i := range want {
		if i < len(got) && got[i] == want[i] {
			continue
		}
		wrong := 0
		for k := i; k < min(len(got), len(want)); k++ {
			if got[k] != want[k] {
				wrong++
			}
		}
		end := min(i+16, len(want))
		return fmt.Errorf("%s: %d bytes differ, the first at %d (%#x): % x, not % x", how, wrong, offset+i, offset+i,
			got[min(i, len(got)):min(end, len(got))], want[i:end])
	}
	return fmt.Errorf("%s: %d bytes, not %d", how, len(got), len(want))
}
