package main

import (
	"fmt"
	"strings"
	"syscall"
)

// The operations of the exerciser.

// size is small at most times, and now and then as large as can be.
func (e *exerciser) size(most int) int {
	if most <= 0 {
		return 0
	}
	kind := e.dice.Intn(4)
	if kind == 0 && e.brisk && e.dice.Intn(8) > 0 {
		kind = 2
	}
	switch kind {
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
	at := e.dice.Intn(len(e.random) - size)
	return e.random[at : at+size]
}

// put is what a write does to the model.
func (e *exerciser) put(data []byte, from int) {
	e.grow(from + len(data))
	copy(e.model[from:], data)
}

func (e *exerciser) grow(size int) {
	if old := len(e.model); size > old {
		if cap(e.model) < size {
			e.model = append(make([]byte, 0, e.largest), e.model...)
		}
		e.model = e.model[:size]
		clear(e.model[old:])
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
	got, err := e.readAll(fd, from, to-from)
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

// hold maps the file whole, for as long as it is open by this descriptor; what is behind its end
// must not be touched.
func (e *exerciser) hold() (err error) {
	if e.held != nil {
		syscall.Munmap(e.held)
	}
	e.held, err = syscall.Mmap(e.fd, 0, e.largest, protBoth, syscall.MAP_SHARED)
	return err
}

func (e *exerciser) heldRead() error {
	from, to := e.place(false)
	e.note(from, to)
	return differ("the mapping that stays", e.held[from:to], e.model[from:to], from)
}

func (e *exerciser) heldWrite() error {
	from, to := e.place(false)
	e.note(from, to)
	data := e.bytes(to - from)
	copy(e.held[from:to], data)
	copy(e.model[from:], data)
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
	e.journal[len(e.journal)-1].target = target
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
	if e.fd, err = syscall.Open(e.path, rdwr|syscall.O_CLOEXEC, 0); err != nil {
		return err
	}
	e.from, e.to = 0, len(e.model)
	return e.hold()
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
