package main

import (
	"strings"
	"syscall"
)

const protRead, protBoth = syscall.PROT_READ, syscall.PROT_READ | syscall.PROT_WRITE

func (t *T) mmap(fd int, offset int64, size, protection, flags int) []byte {
	memory, err := syscall.Mmap(fd, offset, size, protection, flags)
	t.must("mmap", err)
	t.maps = append(t.maps, memory)
	return memory
}

var mmapChecks = []check{
	{"shared is read", ok, func(t *T) error {
		want := pattern(20_000)
		t.file("f", want)
		memory := t.mmap(t.open("f", rdonly, 0), 0, 20_000, protRead, syscall.MAP_SHARED)
		t.yes("other bytes", string(memory) == want)
		return nil
	}},
	{"shared is written", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 8192))
		memory := t.mmap(t.open("f", rdwr, 0), 0, 8192, protBoth, syscall.MAP_SHARED)
		copy(memory[4090:], "HELLO WORLD")
		t.must("msync", msync(memory))
		t.equal("contents", t.contents("f")[4088:4103], "xxHELLO WORLDxx")
		return nil
	}},
	{"shared is seen by read before msync", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 4096))
		fd := t.open("f", rdwr, 0)
		memory := t.mmap(fd, 0, 4096, protBoth, syscall.MAP_SHARED)
		memory[10] = 'Y'
		t.equal("read", t.pread(fd, 3, 9), "xYx")
		return nil
	}},
	{"a write is seen by the map", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 4096))
		fd := t.open("f", rdwr, 0)
		memory := t.mmap(fd, 0, 4096, protRead, syscall.MAP_SHARED)
		t.equal("before", string(memory[:3]), "xxx")
		t.pwrite(fd, "Y", 1)
		t.equal("after", string(memory[:3]), "xYx")
		return nil
	}},
	{"two maps see each other", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 4096))
		one := t.mmap(t.open("f", rdwr, 0), 0, 4096, protBoth, syscall.MAP_SHARED)
		two := t.mmap(t.open("f", rdonly, 0), 0, 4096, protRead, syscall.MAP_SHARED)
		one[100] = 'Y'
		t.equal("the other", string(two[99:102]), "xYx")
		return nil
	}},
	{"another process sees it", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 100))
		memory := t.mmap(t.open("f", rdwr, 0), 0, 100, protBoth, syscall.MAP_SHARED)
		p := t.peer()
		p.open("f")
		copy(memory, "HELLO")
		t.equal("the other", p.says("contents"), "HELLO"+strings.Repeat("x", 95))
		return nil
	}},
	{"private is not written", ok, func(t *T) error {
		t.file("f", "abc")
		memory := t.mmap(t.open("f", rdonly, 0), 0, 3, protBoth, syscall.MAP_PRIVATE)
		memory[0] = 'X'
		t.equal("memory", string(memory), "Xbc")
		t.equal("contents", t.contents("f"), "abc")
		return nil
	}},
	{"shared for writing through a descriptor for reading", is(syscall.EACCES), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Mmap(t.open("f", rdonly, 0), 0, 3, protBoth, syscall.MAP_SHARED)
		return err
	}},
	{"through a descriptor for writing", is(syscall.EACCES), func(t *T) error {
		t.file("f", "abc")
		_, err := syscall.Mmap(t.open("f", wronly, 0), 0, 3, protRead, syscall.MAP_SHARED)
		return err
	}},
	{"a folder", is(syscall.ENODEV), func(t *T) error {
		_, err := syscall.Mmap(t.open(".", rdonly, 0), 0, 4096, protRead, syscall.MAP_PRIVATE)
		return err
	}},
	{"zeros behind the end of the last page", ok, func(t *T) error {
		t.file("f", "abc")
		memory := t.mmap(t.open("f", rdonly, 0), 0, 4096, protRead, syscall.MAP_SHARED)
		t.equal("runs", runs(string(memory[2:])), "c1 .4093")
		return nil
	}},
	{"what is written behind the end is not in the file", ok, func(t *T) error {
		t.file("f", "abc")
		memory := t.mmap(t.open("f", rdwr, 0), 0, 4096, protBoth, syscall.MAP_SHARED)
		memory[100] = 'X'
		t.must("msync", msync(memory))
		t.equal("contents", t.contents("f"), "abc")
		return nil
	}},
	{"a page beyond the end is a bus error", ok, func(t *T) error {
		t.file("f", "abc")
		memory := t.mmap(t.open("f", rdonly, 0), 0, 12288, protRead, syscall.MAP_SHARED)
		t.equal("inside", string(memory[:3]), "abc")
		t.yes("it can be read", faults(func() { sink = memory[8192] }))
		return nil
	}},
	{"a page that the file has lost is a bus error", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 8192))
		fd := t.open("f", rdwr, 0)
		memory := t.mmap(fd, 0, 8192, protRead, syscall.MAP_SHARED)
		t.equal("before", memory[5000], 'x')
		t.must("ftruncate", syscall.Ftruncate(fd, 100))
		t.yes("it can be read", faults(func() { sink = memory[5000] }))
		t.equal("the rest of the page", runs(string(memory[98:4096])), "x2 .3996")
		return nil
	}},
	{"a file that grows fills its map", ok, func(t *T) error {
		t.file("f", "abc")
		fd := t.open("f", rdwr, 0)
		memory := t.mmap(fd, 0, 8192, protBoth, syscall.MAP_SHARED)
		t.must("ftruncate", syscall.Ftruncate(fd, 8192))
		memory[8000] = 'X'
		t.equal("read", t.pread(fd, 1, 8000), "X")
		return nil
	}},
	{"at an offset", ok, func(t *T) error {
		want := pattern(20_000)
		t.file("f", want)
		memory := t.mmap(t.open("f", rdonly, 0), 8192, 4096, protRead, syscall.MAP_SHARED)
		t.yes("other bytes", string(memory) == want[8192:12288])
		return nil
	}},
	{"a hole is filled", ok, func(t *T) error {
		fd := t.open("f", creat|rdwr, 0o644)
		t.must("ftruncate", syscall.Ftruncate(fd, 1<<20))
		memory := t.mmap(fd, 0, 1<<20, protBoth, syscall.MAP_SHARED)
		memory[1<<19] = 'X'
		t.must("msync", msync(memory))
		t.equal("read", t.pread(fd, 3, 1<<19-1), "\x00X\x00")
		t.equal("size", t.fstat(fd).Size, 1<<20)
		return nil
	}},
	{"the map outlives the descriptor", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 4096))
		fd := t.open("f", rdwr, 0)
		memory := t.mmap(fd, 0, 4096, protBoth, syscall.MAP_SHARED)
		t.close(fd)
		memory[0] = 'Y'
		t.must("msync", msync(memory))
		t.equal("contents", t.contents("f")[:3], "Yxx")
		return nil
	}},
	{"written, unmapped, read again", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 1<<18))
		fd := t.open("f", rdwr, 0)
		memory, err := syscall.Mmap(fd, 0, 1<<18, protBoth, syscall.MAP_SHARED)
		t.must("mmap", err)
		for i := range memory {
			memory[i] = 'm'
		}
		t.must("munmap", syscall.Munmap(memory))
		t.close(fd)
		t.equal("runs", runs(t.contents("f")), "m262144")
		return nil
	}},
	{"written by a process that ends without a word", ok, func(t *T) error {
		t.file("f", strings.Repeat("x", 4096))
		p := t.peer()
		p.open("f")
		t.equal("map", p.says("map MAPPED"), "success")
		p.kill()
		t.equal("contents", t.contents("f")[:8], "MAPPEDxx")
		return nil
	}},
}

var sink byte
