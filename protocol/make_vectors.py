"""Writes vectors.json from the Python implementation; both languages' tests read it.

Run it only when the specification changes, and read the difference.
"""

from __future__ import annotations

import json
from pathlib import Path

from sandlot.wire import files, frames, messages, network, runtime, snapshot, volumes
from sandlot.wire.frames import Flag, Frame, Type

FRAMES = [
    ("open with data", Frame(Type.DATA, Flag.SYN, 1, 5, b"hello")),
    ("data and fin", Frame(Type.DATA, Flag.FIN, 3, 2, b"\x00\xff")),
    ("fin alone", Frame(Type.DATA, Flag.FIN, 4, 0)),
    ("reset", Frame(Type.CREDIT, Flag.RST, 7, 0)),
    ("credit", Frame(Type.CREDIT, Flag.NONE, 9, 1 << 20)),
    ("ping", Frame(Type.PING, Flag.SYN, 0, 0xDEADBEEF)),
    ("pong", Frame(Type.PING, Flag.ACK, 0, 0xDEADBEEF)),
    ("go away", Frame(Type.GO_AWAY, Flag.NONE, 0, 1)),
    ("shared", Frame(Type.SHARED, Flag.NONE, 5, 1 << 20, offset=7340032)),
    ("shared with fin", Frame(Type.SHARED, Flag.FIN, 5, 1, offset=0)),
    ("shared free", Frame(Type.SHARED_FREE, Flag.NONE, 0, 262144)),
]
MESSAGES: list[messages.Message] = [
    messages.Configure(
        time_ns=1_790_000_000_123_456_789, entropy=bytes(range(32)), hostname="app",
        machine_id="0123456789abcdef0123456789abcdef",
    ),
    messages.MountRoot(
        image_device="vda", disk_device="vdc", disk_type="ext4",
        flags=messages.MountRoot.READ_ONLY,
    ),
    messages.Exec(
        process=2**63, argv=(b"/bin/echo", b"", b"\xff\xfe"), env=(b"A=1", b"B=\x80"), cwd=b"/tmp",
        user="1000:users", flags=5, rows=24, columns=80, limits=("nofile=64:128",), timeout_ms=1500,
    ),
    messages.Exec(process=1, argv=(b"true",)),
    messages.Stdio(process=1, descriptor=2),
    messages.Clock(time_ns=1),
    messages.Shutdown(grace_ms=10_000),
    messages.Stage(
        image_device="vda", image_type="erofs", disk_device="vdb", disk_type="ext4",
        other_device="vdc",
    ),
    messages.Signal(number=15, scope=1),
    messages.Resize(rows=50, columns=200),
    messages.Ok(),
    messages.Failed(code="not-found", text="nö such program: x", errno=2),
    messages.Started(pid=42),
    messages.Exited(code=3, signal=0, user_us=10, system_us=20, peak_bytes=4096, flags=1, wall_us=99),
    messages.Configure(time_ns=1, pids=512),
    messages.Shutdown(grace_ms=5, signal=3, process=9),
    messages.Stdio(process=1, descriptor=0, flags=messages.Stdio.ASK),
    messages.Watch(process=9, offset=1 << 20, flags=messages.Watch.KEPT),
    messages.Jobs(),
    messages.Metrics(),
    messages.Job(
        process=9, argv=(b"make", b"-j"), pid=77, started_ns=1_790_000_000_123_456_789, flags=5,
        code=1, signal=9, ended=2, user_us=10, system_us=20, peak_bytes=4096, wall_us=99,
        oldest=100, newest=200, user="1000", cwd=b"/app",
    ),
    messages.Output(offset=5, descriptor=2, data=b"\x00said"),
    messages.Measured(
        memory_total=1, memory_available=2, memory_used=3, cached=4, cpu_us=5, uptime_us=6,
        processors=7, processes=8, process_limit=9, disk_total=10, disk_free=11, oom_kills=12,
    ),
    messages.Failed(code="file", text="no such file or directory", errno=2, path=b"/a\xff"),
    files.FileStat(path=b"a", cwd=b"/w", user="1000", flags=1),
    files.FileList(path=b"/", flags=1),
    files.FileRead(path=b"/f", offset=1 << 40, length=5),
    files.FileWrite(path=b"/f\n", user="nobody", flags=48, mode=0o640, mtime_ns=2**64 - 1, size=7),
    files.FileMkdir(path=b"/d", flags=19, mode=0o1777),
    files.FileRemove(path=b"/d", flags=3),
    files.FileRename(path=b"/a", target=b"b", flags=1),
    files.FileChange(path=b"/a", flags=15, mode=0o4755, owner="root:1", mtime_ns=1),
    files.FileLink(path=b"/l", target=b"../x", flags=1),
    files.FileWatch(path=b"/d", flags=1),
    files.TreeGet(path=b"/d", name=b"d", flags=3),
    files.TreePut(path=b"/d", flags=3),
    files.UpperLayer(),
    network.Network(),
    network.Dial(port=8000),
    network.Dial(port=5432, flags=network.Dial.OWN),
    network.Connect(source=b"\n\0\2\x0f", source_port=40000, target=b"\1\2\3\4", target_port=443),
    network.Connect(source=b"\n\0\2\x0f", source_port=40001, target=b"\1\2\3\4", target_port=80,
                    pid=417, process=b"curl"),
    network.Datagram(port=5353, remote=bytes(15) + b"\1", remote_port=53, data=b"\0\xff"),
    network.Unreachable(port=5353, remote=b"\1\2\3\4", remote_port=53, errno=111),
    snapshot.Freeze(flags=snapshot.Freeze.SYNC),
    snapshot.Thaw(restored=b'{"name": "w-1"}', env=(b"A=1",), boot_id="0-1"),
    volumes.Mount(
        volume="/app", path=b"/app", flags=volumes.Mount.READ_ONLY | volumes.Mount.AGAIN,
        mode=0o40755,
    ),
    volumes.Unmount(volume="/app", flags=volumes.Unmount.DETACH),
    volumes.Nudge(volume="/app", changes=(b"cnew", b"vold\0new")),
    volumes.MountDisk(path=b"/data", serial="0123456789ab", flags=volumes.MountDisk.READ_ONLY),
    snapshot.Grow(size=8 << 30),
    files.FileInfo(path=b"\xff/a", mode=0o120777, size=2**40, uid=1, gid=2, mtime_ns=3, target=b"t",
                   links=2),
    files.FileEvent(type=4, path=b"a", target=b"b", flags=1),
    runtime.Lend(),
    runtime.Borrow(pid=4321, uid=1000),
]  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def vectors() -> dict[str, object]:
    """Everything in the file, as JSON values; octet strings are in hexadecimal."""
    return {
        "frames": [
            {
                "name": name, "type": int(f.type), "flags": int(f.flags), "stream": f.stream,
                "length": f.length, "offset": f.offset, "payload": f.payload.hex(),
                "hex": frames.encode(f).hex(),
            }
            for name, f in FRAMES
        ],
        "messages": [
            {
                "name": type(m).__name__, "kind": m.kind,
                "fields": {k: _plain(v) for k, v in m.values().items()},
                "hex": messages.encode(m).hex(),
            }
            for m in MESSAGES
        ],
        "resync": {
            "token": bytes(16).hex(), "nonce": bytes(range(16)).hex(),
            "request": frames.resync_request(bytes(16), bytes(range(16))).hex(),
            "reply": frames.resync_reply(bytes(range(16))).hex(),
        },
    }  # fmt: skip


if __name__ == "__main__":
    Path(__file__).with_name("vectors.json").write_text(json.dumps(vectors(), indent=1) + "\n")
