package wire

// Flags of Stdio, Watch and Job.
const (
	StdioAsk  = 1
	StdioTake = 2

	WatchKept   = 1
	WatchStatus = 2
	WatchNow    = 4

	JobRunning = 1
	JobTTY     = 2
	JobStdin   = 4
)

// Messages about jobs and measurements.
type (
	Watch   struct{ Process, Offset, Flags uint64 }
	Jobs    struct{}
	Metrics struct{}
	Job     struct {
		Process                                    uint64
		Argv                                       [][]byte
		Pid, StartedNs, Flags, Code, Signal, Ended uint64
		UserUs, SystemUs, PeakBytes, WallUs        uint64
		Oldest, Newest                             uint64
		User                                       string
		Cwd                                        []byte
	}
	Output struct {
		Offset, Descriptor uint64
		Data               []byte
	}
	Measured struct {
		MemoryTotal, MemoryAvailable, MemoryUsed, Cached uint64
		CPUUs, UptimeUs, Processors                      uint64
		Processes, ProcessLimit                          uint64
		DiskTotal, DiskFree                              uint64
		OOMKills                                         uint64
	}
)

func (*Watch) Kind() byte    { return 0x08 }
func (*Jobs) Kind() byte     { return 0x09 }
func (*Metrics) Kind() byte  { return 0x0a }
func (*Job) Kind() byte      { return 0x84 }
func (*Output) Kind() byte   { return 0x85 }
func (*Measured) Kind() byte { return 0x86 }

func (m *Watch) visit(v visitor) {
	v.uint(1, &m.Process)
	v.uint(2, &m.Offset)
	v.uint(3, &m.Flags)
}

func (*Jobs) visit(visitor)    {}
func (*Metrics) visit(visitor) {}

func (m *Job) visit(v visitor) {
	v.uint(1, &m.Process)
	v.bytesList(2, &m.Argv)
	v.uint(3, &m.Pid)
	v.uint(4, &m.StartedNs)
	v.uint(5, &m.Flags)
	v.uint(6, &m.Code)
	v.uint(7, &m.Signal)
	v.uint(8, &m.Ended)
	v.uint(9, &m.UserUs)
	v.uint(10, &m.SystemUs)
	v.uint(11, &m.PeakBytes)
	v.uint(12, &m.WallUs)
	v.uint(13, &m.Oldest)
	v.uint(14, &m.Newest)
	v.str(15, &m.User)
	v.bytes(16, &m.Cwd)
}

func (m *Output) visit(v visitor) {
	v.uint(1, &m.Offset)
	v.uint(2, &m.Descriptor)
	v.bytes(3, &m.Data)
}

func (m *Measured) visit(v visitor) {
	v.uint(1, &m.MemoryTotal)
	v.uint(2, &m.MemoryAvailable)
	v.uint(3, &m.MemoryUsed)
	v.uint(4, &m.Cached)
	v.uint(5, &m.CPUUs)
	v.uint(6, &m.UptimeUs)
	v.uint(7, &m.Processors)
	v.uint(8, &m.Processes)
	v.uint(9, &m.ProcessLimit)
	v.uint(10, &m.DiskTotal)
	v.uint(11, &m.DiskFree)
	v.uint(12, &m.OOMKills)
}

// more makes the messages that are not listed in messages.go.
var more = map[byte]func() Message{
	0x08: func() Message { return &Watch{} },
	0x09: func() Message { return &Jobs{} },
	0x0a: func() Message { return &Metrics{} },
	0x0b: func() Message { return &Network{} },
	0x0c: func() Message { return &Dial{} },
	0x0d: func() Message { return &Freeze{} },
	0x0e: func() Message { return &Thaw{} },
	0x0f: func() Message { return &Mount{} },
	0x50: func() Message { return &Unmount{} },
	0x51: func() Message { return &Nudge{} },
	0x53: func() Message { return &MountDisk{} },
	0x20: func() Message { return &Grow{} },
	0x23: func() Message { return &Lend{} },
	0x63: func() Message { return &Borrow{} },
	0x60: func() Message { return &Connect{} },
	0x61: func() Message { return &Datagram{} },
	0x62: func() Message { return &Unreachable{} },
	0x84: func() Message { return &Job{} },
	0x85: func() Message { return &Output{} },
	0x86: func() Message { return &Measured{} },
}
