package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"syscall"
)

// A node is a file, folder or symbolic link of the model; a file with two names is one node.
type node struct {
	kind     byte // d, f, l
	children map[string]*node
	contents string
	links    int
	inode    uint64
}

// A forest does random operations on names, in a folder and in a model of it. Symbolic links lead
// nowhere, so that a path through one of them is missing.
type forest struct {
	dice    *rand.Rand
	base    string
	root    *node
	journal []string
	kinds   map[string]int
	held    []held
}

type held struct {
	fd   int
	node *node
}

const nowhere = "nothing/is/here"

var treeNames = []string{"a", "b", "c", "d", "é\n", "\xff\xfe", strings.Repeat("n", 255), " "}

func treeCommand(path string, arguments []string) error {
	var seed int64
	var operations, spoil int
	err := options("tree", arguments, func(flags *flag.FlagSet) {
		flags.Int64Var(&seed, "seed", anySeed(), "of the random numbers")
		flags.IntVar(&operations, "operations", 1000, "how many")
		flags.IntVar(&spoil, "spoil", 0, "make a file behind the model's back before this operation: must be found")
	})
	if err != nil {
		return err
	}
	f := &forest{
		dice: rand.New(rand.NewSource(seed)), base: fmt.Sprintf("%s/tree-%d", path, os.Getpid()),
		root: folderNode(), kinds: map[string]int{},
	}
	if err := os.Mkdir(f.base, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(f.base)
	for number := 1; number <= operations; number++ {
		if number == spoil {
			os.WriteFile(f.base+"/spoilt", nil, 0o644)
		}
		err := f.step(number)
		if err == nil && (number%200 == 0 || number == operations) {
			if err = syscall.Chdir(f.base); err == nil {
				err = f.walk(".", f.root)
			}
		}
		if err != nil {
			return fmt.Errorf("seed %d, operation %d: %w\nthe last operations:\n%s", seed, number, err,
				strings.Join(f.journal, "\n"))
		}
	}
	return json.NewEncoder(os.Stdout).Encode(summary{seed, operations, f.kinds, []string{}})
}

func folderNode() *node { return &node{kind: 'd', children: map[string]*node{}} }

// path chooses one of up to four names; mostly below folders that are there.
func (f *forest) path() []string {
	names, at := []string{}, f.root
	for {
		name := treeNames[f.dice.Intn(len(treeNames))]
		names = append(names, name)
		next := at.children[name]
		inside := next != nil && next.kind == 'd'
		if len(names) >= 4 || (!inside && f.dice.Intn(10) > 0) || (inside && f.dice.Intn(2) == 0) {
			return names
		}
		if inside {
			at = next
		}
	}
}

// parent walks to the folder of a path's last name.
func (f *forest) parent(names []string) (*node, error) {
	at := f.root
	for _, name := range names[:len(names)-1] {
		next := at.children[name]
		switch {
		case next == nil || next.kind == 'l':
			return nil, syscall.ENOENT
		case next.kind == 'f':
			return nil, syscall.ENOTDIR
		}
		at = next
	}
	return at, nil
}

// fresh puts a new node into the model, or says why it cannot.
func (f *forest) fresh(names []string, made *node) error {
	in, err := f.parent(names)
	if err != nil {
		return err
	}
	last := names[len(names)-1]
	if in.children[last] != nil {
		return syscall.EEXIST
	}
	in.children[last] = made
	made.links++
	return nil
}

func (f *forest) find(names []string) (in, found *node, err error) {
	if in, err = f.parent(names); err != nil {
		return nil, nil, err
	}
	if found = in.children[names[len(names)-1]]; found == nil {
		err = syscall.ENOENT
	}
	return in, found, err
}

func (f *forest) step(number int) error {
	one, two := f.path(), f.path()
	first, second := f.base+"/"+strings.Join(one, "/"), f.base+"/"+strings.Join(two, "/")
	var got, want error
	kind, wrong := "", error(nil)
	switch roll := f.dice.Intn(100); {
	case roll < 18:
		kind = "create"
		contents := fmt.Sprint("made by ", number)
		got = createFile(first, contents)
		want = f.fresh(one, &node{kind: 'f', contents: contents})
	case roll < 32:
		kind = "mkdir"
		got, want = syscall.Mkdir(first, 0o755), f.fresh(one, folderNode())
	case roll < 37:
		kind = "symlink"
		got, want = syscall.Symlink(nowhere, first), f.fresh(one, &node{kind: 'l'})
	case roll < 45:
		kind = "link"
		got, want = syscall.Link(first, second), f.link(one, two)
	case roll < 53:
		kind = "unlink"
		got, want = syscall.Unlink(first), f.unlink(one)
	case roll < 59:
		kind = "rmdir"
		got, want = syscall.Rmdir(first), f.rmdir(one)
	case roll < 79:
		flags := []int{0, 0, 0, renameNoReplace, renameExchange}[f.dice.Intn(5)]
		kind = fmt.Sprint("rename-", []string{"plain", "noreplace", "exchange"}[flags])
		got, want = renameat2(first, second, flags), f.rename(one, two, flags)
	case roll < 84:
		kind = "write"
		got, want = rewrite(first, fmt.Sprint("written by ", number)), f.rewrite(one, fmt.Sprint("written by ", number))
	case roll < 90:
		kind = "look"
		_, found, err := f.find(one)
		var st syscall.Stat_t
		got, want = syscall.Lstat(first, &st), err
		if got == nil && want == nil {
			wrong = f.same(first, found)
		}
	case roll < 95:
		kind = "readdir"
		_, found, err := f.find(one)
		if err == nil && found.kind == 'd' {
			wrong = f.list(first, found)
		}
	case roll < 98:
		kind = "hold"
		_, found, err := f.find(one)
		if err == nil && found.kind == 'f' {
			wrong = f.hold(first, found)
		}
	default:
		kind = "release"
		wrong = f.release()
	}
	line := fmt.Sprintf("%d %s %q", number, kind, strings.Join(one, "/"))
	if kind == "link" || strings.HasPrefix(kind, "rename") {
		line += fmt.Sprintf(" %q", strings.Join(two, "/"))
	}
	f.journal = append(f.journal, line+": "+said(got))
	if len(f.journal) > 20 {
		f.journal = f.journal[1:]
	}
	f.kinds[kind]++
	if got != want {
		return fmt.Errorf("%s: %s, not %s", kind, said(got), said(want))
	}
	return wrong
}

func createFile(path, contents string) error {
	fd, err := syscall.Open(path, creat|excl|wronly|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(contents))
	return err
}

func rewrite(path, contents string) error {
	fd, err := syscall.Open(path, rdwr|trunc|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(contents))
	return err
}

func (f *forest) rewrite(names []string, contents string) error {
	_, found, err := f.find(names)
	switch {
	case err != nil:
		return err
	case found.kind == 'd':
		return syscall.EISDIR
	case found.kind == 'l':
		return syscall.ENOENT
	}
	found.contents = contents
	return nil
}

func (f *forest) link(from, to []string) error {
	_, found, err := f.find(from)
	if err != nil {
		return err
	}
	in, err := f.parent(to)
	if err != nil {
		return err
	}
	last := to[len(to)-1]
	if in.children[last] != nil {
		return syscall.EEXIST
	}
	if found.kind == 'd' {
		return syscall.EPERM
	}
	in.children[last] = found
	found.links++
	return nil
}

func (f *forest) unlink(names []string) error {
	in, found, err := f.find(names)
	if err != nil {
		return err
	}
	if found.kind == 'd' {
		return syscall.EISDIR
	}
	delete(in.children, names[len(names)-1])
	found.links--
	return nil
}

func (f *forest) rmdir(names []string) error {
	in, found, err := f.find(names)
	switch {
	case err != nil:
		return err
	case found.kind != 'd':
		return syscall.ENOTDIR
	case len(found.children) > 0:
		return syscall.ENOTEMPTY
	}
	delete(in.children, names[len(names)-1])
	return nil
}

// rename says what Linux does, in the order in which it looks.
func (f *forest) rename(from, to []string, flags int) error {
	source, err := f.parent(from)
	if err != nil {
		return err
	}
	target, err := f.parent(to)
	if err != nil {
		return err
	}
	old, new := source.children[from[len(from)-1]], target.children[to[len(to)-1]]
	switch {
	case old == nil:
		return syscall.ENOENT
	case flags == renameNoReplace && new != nil:
		return syscall.EEXIST
	case flags == renameExchange && new == nil:
		return syscall.ENOENT
	case below(to, from):
		return syscall.EINVAL
	case below(from, to) && flags == renameExchange:
		return syscall.EINVAL
	case below(from, to):
		return syscall.ENOTEMPTY
	case old == new:
		return nil
	}
	if flags == renameExchange {
		source.children[from[len(from)-1]], target.children[to[len(to)-1]] = new, old
		return nil
	}
	if new != nil {
		switch {
		case old.kind == 'd' && new.kind != 'd':
			return syscall.ENOTDIR
		case old.kind != 'd' && new.kind == 'd':
			return syscall.EISDIR
		case len(new.children) > 0:
			return syscall.ENOTEMPTY
		}
		new.links--
	}
	delete(source.children, from[len(from)-1])
	target.children[to[len(to)-1]] = old
	return nil
}

// below: whether a path leads through another one.
func below(path, above []string) bool {
	return len(path) > len(above) && strings.Join(path[:len(above)], "/") == strings.Join(above, "/")
}

// same compares a name with its node.
func (f *forest) same(path string, n *node) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return fmt.Errorf("lstat %q: %s", path, said(err))
	}
	return n.is(path, &st)
}

func (n *node) is(path string, st *syscall.Stat_t) error {
	kinds := map[byte]uint32{'d': syscall.S_IFDIR, 'f': syscall.S_IFREG, 'l': syscall.S_IFLNK}
	links := n.links
	if n.kind == 'd' {
		links = 2
		for _, each := range n.children {
			if each.kind == 'd' {
				links++
			}
		}
	}
	if n.inode == 0 {
		n.inode = st.Ino
	}
	got := fmt.Sprintf("type %#o, %d links, inode %d", st.Mode&syscall.S_IFMT, st.Nlink, st.Ino)
	want := fmt.Sprintf("type %#o, %d links, inode %d", kinds[n.kind], links, n.inode)
	if got != want {
		return fmt.Errorf("%q: %s, not %s", path, got, want)
	}
	if n.kind == 'f' && st.Size != int64(len(n.contents)) {
		return fmt.Errorf("%q: %d bytes, not %d", path, st.Size, len(n.contents))
	}
	return nil
}

// list compares the names in a folder.
func (f *forest) list(path string, n *node) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	got, want := []string{}, []string{}
	for _, each := range entries {
		kind := map[os.FileMode]byte{0: 'f', os.ModeDir: 'd', os.ModeSymlink: 'l'}[each.Type()]
		got = append(got, fmt.Sprintf("%q %c", each.Name(), kind))
	}
	for name, child := range n.children {
		want = append(want, fmt.Sprintf("%q %c", name, child.kind))
	}
	sort.Strings(got)
	sort.Strings(want)
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		return fmt.Errorf("%q holds %s, not %s", path, got, want)
	}
	return nil
}

// walk compares everything.
func (f *forest) walk(path string, n *node) error {
	if err := f.list(path, n); err != nil {
		return err
	}
	for name, child := range n.children {
		inner := path + "/" + name
		if err := f.same(inner, child); err != nil {
			return err
		}
		var err error
		switch child.kind {
		case 'd':
			// From within: a path may be longer than the kernel takes, when folders were moved.
			if err = syscall.Chdir(inner); err == nil {
				if err = f.walk(".", child); err == nil {
					err = syscall.Chdir("..")
				}
			}
		case 'f':
			var got []byte
			if got, err = os.ReadFile(inner); err == nil && string(got) != child.contents {
				err = fmt.Errorf("%q: %q, not %q", inner, got, child.contents)
			}
		case 'l':
			var got string
			if got, err = os.Readlink(inner); err == nil && got != nowhere {
				err = fmt.Errorf("%q leads to %q", inner, got)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hold keeps a file open, whatever becomes of its names.
func (f *forest) hold(path string, n *node) error {
	if len(f.held) >= 20 {
		return f.release()
	}
	fd, err := syscall.Open(path, rdwr|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %s", said(err))
	}
	f.held = append(f.held, held{fd, n})
	return nil
}

// release looks at one that was held, and lets it go.
func (f *forest) release() error {
	if len(f.held) == 0 {
		return nil
	}
	at := f.dice.Intn(len(f.held))
	one := f.held[at]
	f.held = append(f.held[:at], f.held[at+1:]...)
	defer syscall.Close(one.fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(one.fd, &st); err != nil {
		return fmt.Errorf("fstat of an open file: %s", said(err))
	}
	if err := one.node.is("an open file", &st); err != nil {
		return err
	}
	got, err := readAll(one.fd, 0, make([]byte, len(one.node.contents)))
	if err != nil {
		return fmt.Errorf("read of an open file: %s", said(err))
	}
	return differ("an open file", got, []byte(one.node.contents), 0)
}
