package wire

// Flags of the file requests; which belong to which is said in protocol/README.md, section 8.
const (
	StatNoFollow = 1

	ListRecursive = 1

	WriteAppend  = 1
	WriteInPlace = 2
	WriteNew     = 4
	WriteParents = 8
	WriteMode    = 16
	WriteTime    = 32

	MkdirParents = 1
	MkdirExists  = 2
	MkdirMode    = 16

	RemoveRecursive = 1
	RemoveMissing   = 2

	RenameNoReplace = 1

	ChangeRecursive = 1
	ChangeMode      = 2
	ChangeOwner     = 4
	ChangeTime      = 8
	ChangeNoFollow  = 16

	LinkHard = 1

	WatchRecursive = 1

	GetFollow = 1
	GetPlain  = 2

	PutOwners = 1
	PutMake   = 2

	EventCreate = 1
	EventModify = 2
	EventDelete = 3
	EventMove   = 4
	EventLost   = 5

	EventFolder = 1
)

// At is what every file request begins with: a path, the folder that it is relative to, and the
// user who asks.
type At struct {
	Path, Cwd []byte
	User      string
}

// Place returns the fields that all file requests share.
func (a *At) Place() *At { return a }

func (a *At) visitPlace(v visitor) {
	v.bytes(1, &a.Path)
	v.bytes(2, &a.Cwd)
	v.str(3, &a.User)
}

// FileRequest is any of the requests of section 8 that name a place.
type FileRequest interface {
	Message
	Place() *At
}

// The messages of section 8.
type (
	FileStat struct {
		At
		Flags uint64
	}
	FileList struct {
		At
		Flags uint64
	}
	FileRead struct {
		At
		Offset, Length uint64
	}
	FileWrite struct {
		At
		Flags, Mode, MtimeNs, Size uint64
	}
	FileMkdir struct {
		At
		Flags, Mode uint64
	}
	FileRemove struct {
		At
		Flags uint64
	}
	FileRename struct {
		At
		Target []byte
		Flags  uint64
	}
	FileChange struct {
		At
		Flags, Mode uint64
		Owner       string
		MtimeNs     uint64
	}
	FileLink struct {
		At
		Target []byte
		Flags  uint64
	}
	FileWatch struct {
		At
		Flags uint64
	}
	TreeGet struct {
		At
		Name  []byte
		Flags uint64
	}
	TreePut struct {
		At
		Flags uint64
	}
	UpperLayer struct{}

	FileInfo struct {
		Path                          []byte
		Mode, Size, UID, GID, MtimeNs uint64
		Target                        []byte
		Links                         uint64
	}
	FileEvent struct {
		Type         uint64
		Path, Target []byte
		Flags        uint64
	}
)

func (*FileStat) Kind() byte   { return 0x10 }
func (*FileList) Kind() byte   { return 0x11 }
func (*FileRead) Kind() byte   { return 0x12 }
func (*FileWrite) Kind() byte  { return 0x13 }
func (*FileMkdir) Kind() byte  { return 0x14 }
func (*FileRemove) Kind() byte { return 0x15 }
func (*FileRename) Kind() byte { return 0x16 }
func (*FileChange) Kind() byte { return 0x17 }
func (*FileLink) Kind() byte   { return 0x18 }
func (*FileWatch) Kind() byte  { return 0x19 }
func (*TreeGet) Kind() byte    { return 0x1a }
func (*TreePut) Kind() byte    { return 0x1b }
func (*UpperLayer) Kind() byte { return 0x1c }
func (*FileInfo) Kind() byte   { return 0x90 }
func (*FileEvent) Kind() byte  { return 0x91 }

func (m *FileStat) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
}

func (m *FileList) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
}

func (m *FileRead) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Offset)
	v.uint(5, &m.Length)
}

func (m *FileWrite) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
	v.uint(5, &m.Mode)
	v.uint(6, &m.MtimeNs)
	v.uint(7, &m.Size)
}

func (m *FileMkdir) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
	v.uint(5, &m.Mode)
}

func (m *FileRemove) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
}

func (m *FileRename) visit(v visitor) {
	m.visitPlace(v)
	v.bytes(4, &m.Target)
	v.uint(5, &m.Flags)
}

func (m *FileChange) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
	v.uint(5, &m.Mode)
	v.str(6, &m.Owner)
	v.uint(7, &m.MtimeNs)
}

func (m *FileLink) visit(v visitor) {
	m.visitPlace(v)
	v.bytes(4, &m.Target)
	v.uint(5, &m.Flags)
}

func (m *FileWatch) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
}

func (m *TreeGet) visit(v visitor) {
	m.visitPlace(v)
	v.bytes(4, &m.Name)
	v.uint(5, &m.Flags)
}

func (m *TreePut) visit(v visitor) {
	m.visitPlace(v)
	v.uint(4, &m.Flags)
}

func (*UpperLayer) visit(visitor) {}

func (m *FileInfo) visit(v visitor) {
	v.bytes(1, &m.Path)
	v.uint(2, &m.Mode)
	v.uint(3, &m.Size)
	v.uint(4, &m.UID)
	v.uint(5, &m.GID)
	v.uint(6, &m.MtimeNs)
	v.bytes(7, &m.Target)
	v.uint(8, &m.Links)
}

func (m *FileEvent) visit(v visitor) {
	v.uint(1, &m.Type)
	v.bytes(2, &m.Path)
	v.bytes(3, &m.Target)
	v.uint(4, &m.Flags)
}

func newFileMessage(kind byte) Message {
	switch kind {
	case 0x10:
		return &FileStat{}
	case 0x11:
		return &FileList{}
	case 0x12:
		return &FileRead{}
	case 0x13:
		return &FileWrite{}
	case 0x14:
		return &FileMkdir{}
	case 0x15:
		return &FileRemove{}
	case 0x16:
		return &FileRename{}
	case 0x17:
		return &FileChange{}
	case 0x18:
		return &FileLink{}
	case 0x19:
		return &FileWatch{}
	case 0x1a:
		return &TreeGet{}
	case 0x1b:
		return &TreePut{}
	case 0x1c:
		return &UpperLayer{}
	case 0x90:
		return &FileInfo{}
	case 0x91:
		return &FileEvent{}
	}
	return nil
}
