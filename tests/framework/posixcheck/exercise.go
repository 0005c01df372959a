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
// each one.
type exerciser struct {
	dice    *rand.Rand
	path    string
	fd      int
	model   []byte
	largest int
	journal []string
	kinds   map[string]int
	refused map[string]bool
	from    int // what the last operation touched
	to      int
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
	err := options("exercise", arguments, func(flags *flag.FlagSet) {
		flags.Int64Var(&seed, "seed", anySeed(), "of the random numbers")
		flags.IntVar(&operations, "operations", 1000, "how many")
		flags.IntVar(&size, "size", 256<<10, "of the file at most, in bytes")
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
		kinds: map[string]int{}, refused: map[string]bool{},
	}
	defer func() { os.Remove(e.path) }() // it may have another name by then
	e.fd, err = syscall.Open(e.path, rdwr|creat|excl|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open %s: %s", e.path, said(err))
	}
	for number := 1; number <= operations; number++ {
		if number == spoil {
			e.spoil()
		}
		if err := e.step(number); err != nil {
			return fmt.Errorf("seed %d, operation %d: %w\nthe last operations:\n%s", seed, number, err,
				strings.Join(e.journal, "\n"))
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
	does   func(e *exerciser) error
}

var operations = []operation{
	{"write", 20, (*exerciser).write},
	{"append", 4, (*exerciser).append},
	{"read", 16, (*exerciser).read},
	{"read-by-another", 4, (*exerciser).readByAnother},
	{"truncate-down", 5, func(e *exerciser) error { return e.truncate(e.dice.Intn(len(e.model) + 1)) }},
	{"truncate-up", 4, func(e *exerciser) error { return e.truncate(len(e.model) + e.dice.Intn(e.largest-len(e.model)+1)) }},
	{"mmap-read", 8, (*exerciser).mapRead},
	{"mmap-write", 10, (*exerciser).mapWrite},
	{"fallocate", 4, func(e *exerciser) error { return e.allocate(0) }},
	{"fallocate-keep", 2, func(e *exerciser) error { return e.allocate(fallocKeepSize) }},
	{"punch", 5, func(e *exerciser) error { return e.allocate(punch) }},
	{"zero", 3, func(e *exerciser) error { return e.allocate(fallocZeroRange) }},
	{"zero-keep", 3, func(e *exerciser) error { return e.allocate(fallocZeroRange | fallocKeepSize) }},
	{"copy", 6, (*exerciser).copyRange},
	{"holes", 3, (*exerciser).holes},
	{"reopen", 4, (*exerciser).reopen},
	{"rename", 1, (*exerciser).rename},
	{"fsync", 2, func(e *exerciser) error { return syscall.Fsync(e.fd) }},
	{"fdatasync", 2, func(e *exerciser) error { return syscall.Fdatasync(e.fd) }},
}

var weights = func() (sum int) {
	for _, each := range operations {
		sum += each.weight
	}
	return sum
}()

func (e *exerciser) step(number int) (err error) {
	roll := e.dice.Intn(weights)
	chosen := operations[0]
	for _, chosen = range operations {
		if roll -= chosen.weight; roll < 0 {
			break
		}
	}
	e.from, e.to = 0, 0
	e.journal = append(e.journal, fmt.Sprintf("%d %s", number, chosen.name))
	if len(e.journal) > 20 {
		e.journal = e.journal[1:]
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
	// A large file is not read whole each time.
	if len(e.model) <= 64<<10 || number%16 == 0 {
		return e.compare(0, len(e.model))
	}
	return e.compare(max(0, e.from-8192), min(len(e.model), e.to+8192))
}

// note adds to the journal what an operation was given.
func (e *exerciser) note(from, to int) {
	e.from, e.to = from, to
	e.journal[len(e.journal)-1] += fmt.Sprintf(" %d-%d (of %d)", from, to, len(e.model))
}

// compare reads a part of the file, and its size.
func (e *exerciser) compare(from, to int) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(e.fd, &st); err != nil {
		return fmt.Errorf("fstat: %s", said(err))
	}
	if st.Size != int64(len(e.model)) {
		return fmt.Errorf("the file has %d bytes, not %d", st.Size, len(e.model))
	}
	if to <= from {
		return nil
	}
	got, err := readAll(e.fd, from, to-from)
	if err != nil {
		return err
	}
	return differ("read", got, e.model[from:to], from)
}

func readAll(fd, from, size int) ([]byte, error) {
	buffer := make([]byte, size)
	for got := 0; got < size; {
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

// size is small at most times, and now and then as large as can be.
func (e *exerciser) size(most int) int {
	if most <= 0 {
		return 0
	}
	switch e.dice.Intn(4) {
	case 0:
		return e.dice.Intn(most) + 1
	case 1:
		return min(most, 4096*(1+e.dice.Intn(4)))
	default:
		return e.dice.Intn(min(most, 5000)) + 1
	}
}

// place chooses a range that begins within (or at the end of, or a little behind) the file.
func (e *exerciser) place(behind bool) (from, to int) {
	limit := len(e.model)
	if behind {
		limit = e.largest
	}
	if limit == 0 {
		return 0, 0
	}
	from = e.dice.Intn(limit)
	if e.dice.Intn(3) == 0 {
		from &^= 4095
	}
	return from, from + e.size(limit-from)
}

func (e *exerciser) bytes(size int) []byte {
	fresh := make([]byte, size)
	e.dice.Read(fresh)
	return fresh
}

// put is what a write does to the model.
func (e *exerciser) put(data []byte, from int) {
	e.grow(from + len(data))
	copy(e.model[from:], data)
}

func (e *exerciser) grow(size int) {
	if size > len(e.model) {
		e.model = append(e.model, make([]byte, size-len(e.model))...)
	}
}

func (e *exerciser) write() error {
	from, to := e.place(true)
	e.note(from, to)
	data := e.bytes(to - from)
	for done := 0; done < len(data); {
		n, err := syscall.Pwrite(e.fd, data[done:], int64(from+done))
		if err != nil {
			return err
		}
		done += n
	}
	e.put(data, from)
	return nil
}

func (e *exerciser) append() error {
	size := min(e.size(4096), e.largest-len(e.model))
	if size <= 0 {
		return nil
	}
	e.note(len(e.model), len(e.model)+size)
	fd, err := syscall.Open(e.path, wronly|syscall.O_APPEND|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	data := e.bytes(size)
	n, err := syscall.Write(fd, data)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes were written of %d", n, size)
	}
	e.put(data[:max(n, 0)], len(e.model))
	return err
}

func (e *exerciser) readFrom(fd int) error {
	from, to := e.place(false)
	e.note(from, to)
	got, err := readAll(fd, from, to-from)
	if err != nil {
		return err
	}
	return differ("read", got, e.model[from:to], from)
}

func (e *exerciser) read() error { return e.readFrom(e.fd) }

func (e *exerciser) readByAnother() error {
	fd, err := syscall.Open(e.path, rdonly|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return e.readFrom(fd)
}

func (e *exerciser) truncate(size int) error {
	e.note(min(size, len(e.model)), max(size, len(e.model)))
	var err error
	if e.dice.Intn(2) == 0 {
		err = syscall.Ftruncate(e.fd, int64(size))
	} else {
		err = syscall.Truncate(e.path, int64(size))
	}
	if err != nil {
		return err
	}
	e.model = e.model[:min(size, len(e.model))]
	e.grow(size)
	return nil
}

// mapped gives a range of the file as memory.
func (e *exerciser) mapped(does func(memory []byte, from, to int) error) error {
	from, to := e.place(false)
	e.note(from, to)
	if to == from {
		return nil
	}
	page := from &^ 4095
	memory, err := syscall.Mmap(e.fd, int64(page), to-page, protBoth, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	defer syscall.Munmap(memory)
	return does(memory[from-page:], from, to)
}

func (e *exerciser) mapRead() error {
	return e.mapped(func(memory []byte, from, to int) error { return differ("mmap", memory, e.model[from:to], from) })
}

func (e *exerciser) mapWrite() error {
	return e.mapped(func(memory []byte, from, to int) error {
		data := e.bytes(to - from)
		copy(memory, data)
		copy(e.model[from:], data)
		return nil
	})
}

func (e *exerciser) allocate(mode uint32) error {
	from, to := e.place(true)
	e.note(from, to)
	if to == from {
		return nil
	}
	if err := syscall.Fallocate(e.fd, mode, int64(from), int64(to-from)); err != nil {
		return err
	}
	if mode&fallocKeepSize == 0 {
		e.grow(to)
	}
	if mode&(fallocPunchHole|fallocZeroRange) != 0 && from < len(e.model) {
		clear(e.model[from:min(to, len(e.model))])
	}
	return nil
}

func (e *exerciser) copyRange() error {
	from, to := e.place(false)
	target := e.dice.Intn(e.largest)
	size := min(to-from, e.largest-target)
	if target < from {
		size = min(size, from-target)
	} else {
		size = min(size, target-from)
	}
	if size <= 0 {
		return nil
	}
	e.note(from, from+size)
	e.from, e.to = target, target+size
	e.journal[len(e.journal)-1] += fmt.Sprint(" to ", target)
	in, out := int64(from), int64(target)
	for left := size; left > 0; {
		n, err := copyFileRange(e.fd, &in, e.fd, &out, left)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("it copies nothing")
		}
		left -= n
	}
	data := append([]byte{}, e.model[from:from+size]...)
	e.put(data, target)
	return nil
}

// holes: what is called a hole must be zeros.
func (e *exerciser) holes() error {
	for at := int64(0); at < int64(len(e.model)); {
		data, err := syscall.Seek(e.fd, at, seekData)
		if err == syscall.ENXIO {
			data = int64(len(e.model))
		} else if err != nil {
			return err
		}
		for _, each := range e.model[at:min(data, int64(len(e.model)))] {
			if each != 0 {
				return fmt.Errorf("bytes in what is called a hole, %d-%d", at, data)
			}
		}
		if data >= int64(len(e.model)) {
			break
		}
		hole, err := syscall.Seek(e.fd, data, seekHole)
		if err != nil {
			return err
		}
		if hole <= data {
			return fmt.Errorf("a hole at %d behind data at %d", hole, data)
		}
		at = hole
	}
	return nil
}

func (e *exerciser) reopen() error {
	if err := syscall.Close(e.fd); err != nil {
		return err
	}
	var err error
	e.fd, err = syscall.Open(e.path, rdwr|syscall.O_CLOEXEC, 0)
	e.from, e.to = 0, len(e.model)
	return err
}

func (e *exerciser) rename() error {
	next := e.path + "-"
	if strings.HasSuffix(e.path, "-") {
		next = strings.TrimSuffix(e.path, "-")
	}
	if err := syscall.Rename(e.path, next); err != nil {
		return err
	}
	e.path = next
	return nil
}
