"""`AuditLog`: what sandboxes did, as JSON lines that are chained by their digests."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError
from sandlot.plugin import hooks
from sandlot.plugin.translate import plain

DEFAULT_SIZE = 16 << 20
DEFAULT_KEPT = 8
FIRST = "0" * 64
LONGEST = 1 << 22
SEAL = b',"digest":"'


class AuditLog:
    """Every hook's context as a line of JSON, in one file that is only appended to.

        Sandbox.create(image="demo", plugins=[AuditLog("audit.jsonl")])

    Each line has the digest of the one before, so that `sandlot audit verify` finds a line that was
    changed, moved or left out. Several sandboxes and programs may write to one file. What cannot be
    written down is not done.

    Args:
        path: the file; folders above it are made.
        max_bytes: when it is larger it becomes `PATH.1`, and that `PATH.2`.
        keep: how many of those stay; what is older is removed.
        key: makes the digests HMACs, which nobody can make anew without it.
        sync: wait for the disk after each line.
    """

    name = "audit-log"

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = DEFAULT_SIZE,
        keep: int = DEFAULT_KEPT, key: bytes | None = None, sync: bool = False,
    ) -> None:  # fmt: skip
        self._file = -1
        if max_bytes < 1024 or keep < 1:
            raise ConfigError(
                "max_bytes of an AuditLog is at least 1024, keep at least 1",
                hint="leave them out for 8 files of 16 MiB",
            )
        self.path = Path(path).absolute()
        self._size, self._keep, self._key, self._sync = max_bytes, keep, key, sync
        self._end = -1
        self._last, self._number = FIRST, 0

    @classmethod
    def from_argument(cls, argument: str, folder: Path) -> AuditLog:
        """`audit-log=PATH`."""
        if not argument:
            raise ConfigError("audit-log needs a file", hint="use audit-log=audit.jsonl")
        return cls(folder / Path(argument).expanduser())

    def on_start(self, ctx: hooks.StartContext) -> None:
        self.write(ctx)

    def on_stop(self, ctx: hooks.StopContext) -> None:
        self.write(ctx)
        self.close()

    def on_exec(self, ctx: hooks.ExecContext) -> None:
        self.write(ctx, env=sorted(ctx.env))  # their names: a value may be nobody's business

    def on_exec_end(self, ctx: hooks.ExecEndContext) -> None:
        self.write(ctx)

    def on_connect(self, ctx: hooks.ConnectContext) -> None:
        self.write(ctx)

    def on_dns(self, ctx: hooks.DnsContext) -> None:
        self.write(ctx)

    def on_http_request(self, ctx: hooks.HttpRequestContext) -> None:
        self.write(ctx, headers=sorted({name for name, _ in ctx.headers}))

    def on_secret_use(self, ctx: hooks.SecretUseContext) -> None:
        self.write(ctx)

    def on_flow(self, ctx: hooks.FlowContext) -> None:
        self.write(ctx)

    def on_fs(self, ctx: hooks.FsContext) -> None:
        self.write(ctx)

    def on_snapshot(self, ctx: hooks.SnapshotContext) -> None:
        self.write(ctx)

    def on_refused(self, ctx: hooks.RefusedContext) -> None:
        self.write(ctx)

    def write(self, ctx: hooks.HookContext, **instead: Any) -> None:
        """Append a context, with other values for some of its fields."""
        fields = dataclasses.fields(ctx)
        event = {f.name: plain(getattr(ctx, f.name)) for f in fields if f.name not in instead}
        while not self._written({"hook": ctx.hook, **event, **instead}):
            pass

    def _written(self, event: dict[str, Any]) -> bool:
        """Whether it is written down now; otherwise the file was put aside, for another."""
        with self._locked() as file:
            if self._end > self._size:
                self._put_aside()
                return False
            head = {"number": self._number + 1, "time": round(time.time(), 6)}
            data, digest = sealed({**head, **event, "before": self._last}, self._key)
            if os.write(file, data) != len(data):
                raise OSError("the audit log could not be written")
            if self._sync:
                os.fdatasync(file)
            self._number, self._last = self._number + 1, digest
            self._end = os.fstat(file).st_size
        return True

    def close(self) -> None:
        """Let go of the file; the next line opens it again."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        self.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file at its end, which is ours until the end of the block; its last line is known."""
        while True:
            if self._file < 0:
                self._file, self._end = self._opened(), -1
            fcntl.flock(self._file, fcntl.LOCK_EX)
            state = os.fstat(self._file)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(state, self.path.stat()):
                    break
            self.close()  # another program has put it aside
        try:
            if state.st_size != self._end:
                self._catch_up(state.st_size)
            yield self._file
        finally:
            if self._file >= 0:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _opened(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def _catch_up(self, end: int) -> None:
        """Go on after what others wrote; half a line of a program that died is put aside."""
        start = max(0, end - LONGEST)
        tail = os.pread(self._file, end - start, start)
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):
            with self.path.with_name(self.path.name + ".torn").open("ab") as torn:
                torn.write(tail[whole:] + b"\n")
            os.ftruncate(self._file, start + whole)
        self._end = start + whole
        lines = tail[:whole].splitlines()
        if not lines and (before := numbered(self.path, 1)).exists():
            with before.open("rb") as older:
                older.seek(max(0, before.stat().st_size - LONGEST))
                lines = older.read().splitlines()
        last, number = FIRST, 0
        if lines:
            try:
                found = json.loads(lines[-1])
                last, number = str(found["digest"]), int(found["number"])
            except (ValueError, KeyError, TypeError):
                raise OSError(f"{self.path} is no audit log, or was damaged") from None
            body = lines[-1].rpartition(SEAL)[0]
            if self._key is not None and not hmac.compare_digest(last, _digest(body, self._key)):
                raise OSError(f"{self.path}: its last line was not written with this key")
        # Nothing is written behind what somebody cut: the lines after it would hide that.
        if number < self._number or (number == self._number and last != self._last):
            raise OSError(f"{self.path} ended with line {self._number}, which is gone or changed")
        self._last, self._number = last, number

    def _put_aside(self) -> None:
        """Make it an older one. Whoever is first writes to the next, after what is now the newest."""
        for number in range(self._keep, 0, -1):
            newer = numbered(self.path, number - 1)
            if newer.exists():
                newer.replace(numbered(self.path, number))
        self.close()


def numbered(path: Path, number: int) -> Path:
    """The name of an older file; 0 is the file itself."""
    return path.with_name(f"{path.name}.{number}") if number else path


def sealed(line: dict[str, Any], key: bytes | None) -> tuple[bytes, str]:
    """A line as it is written, and its digest, which is of all that stands before it."""
    body = json.dumps(line, separators=(",", ":")).encode()[:-1]
    made = _digest(body, key)
    return body + SEAL + made.encode() + b'"}\n', made


def _digest(body: bytes, key: bytes | None) -> str:
    if key is not None:
        return hmac.new(key, body, hashlib.sha256).hexdigest()
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Verified:
    """What a check found. `lines` are whole and in their order; `head` is the last one's digest;
    `problem` says what is wrong and where, or is empty; `first` is the number of the first line."""

    lines: int
    first: int
    head: str
    files: int
    problem: str = ""


def verify(path: str | os.PathLike[str], *, key: bytes | None = None, head: str = "") -> Verified:
    """Check a log, with the older files of it that are there, the oldest first.

    Lines that are missing at the end, or all of an old file, leave no trace in what remains: compare
    `head` and `first` with what was noted before. With `head`, a line that has it as its digest has
    to be there.

    Raises:
        FileNotFoundError: there is no such file.
    """
    newest = Path(path)
    files = [newest]
    while numbered(newest, len(files)).exists():
        files.append(numbered(newest, len(files)))
    count, first, before, expected = 0, 0, "", 0
    missed = bool(head)
    for each in reversed(files):
        with each.open("rb") as file:
            for place, raw in enumerate(file, 1):
                where = f"{each}:{place}"
                body, _, end = raw.rpartition(SEAL)
                try:
                    line = json.loads(raw)
                    said, number, link = str(line["digest"]), int(line["number"]), line["before"]
                    whole = end == said.encode() + b'"}\n'
                    right = whole and hmac.compare_digest(said, _digest(body, key))
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    return Verified(count, first, before, len(files), f"{where} is no line of it")
                if not right:
                    return Verified(count, first, before, len(files), f"{where} was changed")
                if count == 0:
                    first, expected = number, number
                elif link != before or number != expected:
                    problem = (
                        f"{where} does not follow the line before it: {number - expected} lines"
                    )
                    return Verified(
                        count, first, before, len(files), f"{problem} are missing or were moved"
                    )
                count, before, expected = count + 1, said, number + 1
                missed = missed and said != head
    problem = f"no line has the digest {head}" if missed else ""
    return Verified(count, first, before, len(files), problem)
