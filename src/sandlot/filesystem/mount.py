"""One file system at one path of one sandbox: its nodes and open files by the guest's numbers, and
what is under way. Bytes come in with `receive` and go out through `send`; it owns no socket.

What a guest can make the host keep is bounded (known.py), also here: `MOST_RUNNING` requests under
way and `MOST_BYTES` in them. What comes above waits in the channel,
whose credit is given back by `taken` only when a request begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
import types
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandlot.errors import GuestProtocolError, Refuse
from sandlot.filesystem.asking import ASKED, OnFs, asking
from sandlot.filesystem.echoes import ECHOES
from sandlot.filesystem.folders import Folders
from sandlot.filesystem.fuse import replies
from sandlot.filesystem.fuse.opcodes import UNANSWERED, Init, Op
from sandlot.filesystem.fuse.requests import MAX_DATA, MAX_PAGES, Request, Splitter
from sandlot.filesystem.known import ECHO, Known
from sandlot.filesystem.operations import CHANGES, OPERATIONS, Operation
from sandlot.filesystem.types import NO_LOCK, WHOLE_FILE, Context, Lock

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem

MOST_RUNNING = 1024
MOST_BYTES = 32 << 20
BACKGROUND = 64
INTERRUPT_GRACE = 1.0  # seconds that a method may go on after its caller was interrupted
_TICK = 1.0

log = logging.getLogger("sandlot.filesystem")


@dataclass(slots=True)
class _Running:
    task: asyncio.Task[None]
    began: float
    op: int
    interrupted: bool = False
    timed_out: bool = False


class Mount(Known):
    """See the module. `sandbox` and `path` are what the file system is told of where it is."""

    def __init__(
        self, fs: FileSystem, sandbox: str, path: str, *,
        send: Callable[[bytes], int], taken: Callable[[int], None],
        broken: Callable[[GuestProtocolError], None], on_fs: OnFs | None = None,
    ) -> None:  # fmt: skip
        super().__init__(fs, sandbox, path)
        self.send = send
        """Sends to the guest; returns how many bytes wait to be sent now."""
        self.taken = taken
        self.broken = broken
        self.nudger = 0
        """The thread of the guest's agent that does again what was done on the host: it is told
        that it did it, and nothing is done."""
        self.creating: set[str] = set()
        """Names that it is going to make, which are not there for it until then."""
        self.deleting: dict[str, bool] = {}
        """Names that it is going to remove, which are still there for it; whether they are folders."""
        self.asked: Counter[int] = Counter()
        """How many requests there were of each kind."""
        self.folders = Folders(self)
        self._asks = on_fs is not None
        self._readonly = fs.readonly
        self.absent_timeout: float = fs.absent_timeout
        self.flushes: bool = fs.flushes
        self._splitter = Splitter()
        self._waiting: deque[Request] = deque()
        self._running: dict[int, _Running] = {}
        self._bytes = 0
        self._unsent = 0
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._quick = {
            op: not method or fs.is_quick(method) for op, (_, method) in OPERATIONS.items()
        }
        self._operations: dict[int, Operation] = {op: each for op, (each, _) in OPERATIONS.items()}
        if on_fs is not None:
            for op in ASKED:
                self._operations[op] = asking(self._operations[op], on_fs)
                self._quick[op] = False

    # -- what comes in ---------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes from the guest's kernel."""
        try:
            if self._waiting:
                self._waiting += self._splitter.feed(data)
                self._go_on()
                return
            for request in self._splitter.feed(data):
                if self._full():
                    self._waiting.append(request)
                else:
                    self._begin(request)
        except GuestProtocolError as error:
            self.broken(error)

    def drained(self, unsent: int) -> None:
        """Some of what waited to be sent is sent."""
        self._unsent = unsent
        self._go_on()

    def _full(self) -> bool:
        busy = len(self._running) >= MOST_RUNNING
        return busy or self._bytes + self._unsent > MOST_BYTES

    def _go_on(self) -> None:
        try:
            while self._waiting and not self._full():
                self._begin(self._waiting.popleft())
        except GuestProtocolError as error:
            self.broken(error)

    def _begin(self, request: Request) -> None:
        op = request.op
        self.taken(len(request.data))
        self.asked[op] += 1
        if self._closed:
            if op not in UNANSWERED:
                self.send(replies.failure(request.unique, errno.EIO))
        elif op in UNANSWERED:
            if op == Op.INTERRUPT:
                self._interrupt(request)
            else:
                for node, times in request.forgets():
                    self.forget(node, times)
        else:
            self._do(request)

    def _do(self, request: Request) -> None:
        op = request.op
        operation = self._operations.get(op)
        if operation is None:
            self._answer(replies.failure(request.unique, errno.ENOSYS))
            return
        ctx = self._context
        if ctx.pid != request.pid or ctx.uid != request.uid or ctx.gid != request.gid:
            ctx = Context(request.pid, request.uid, request.gid, self.sandbox, self.path)
            self._context = ctx
        if request.pid == self.nudger and request.pid:
            operation = ECHOES.get(op, operation)
        elif self._readonly and op in CHANGES:
            self._answer(replies.failure(request.unique, errno.EROFS))
            return
        work = operation(self, ctx, request)
        if not self._quick[op]:
            self._task(request, self._run(request, work))
            return
        try:
            waits = work.send(None)
        except StopIteration as done:
            self._done(request, done.value)
        except GuestProtocolError:
            raise
        except Exception as error:
            self._answer(replies.failure(request.unique, self._errno(error, request)))
        else:
            self._task(request, self._run(request, _resumed(work, waits)))

    def _task(self, request: Request, work: Coroutine[Any, Any, None]) -> None:
        unique = request.unique
        if unique in self._running:
            work.close()
            raise GuestProtocolError("the guest uses the number of a FUSE request twice")
        cost = len(request.data) + (MAX_DATA if request.op == Op.READ else 0)
        self._bytes += cost
        task = asyncio.get_running_loop().create_task(work)
        self._running[unique] = _Running(task, time.monotonic(), request.op)

        def ended(_: asyncio.Task[None]) -> None:
            self._running.pop(unique, None)
            self._bytes -= cost
            if self._waiting:
                self._go_on()

        task.add_done_callback(ended)
        if self._watch is None and self.fs.operation_timeout:
            self._watch = asyncio.get_running_loop().call_later(_TICK, self._watch_time)

    async def _run(self, request: Request, work: Any) -> None:
        try:
            body = await work
        except asyncio.CancelledError:
            running = self._running.get(request.unique)
            if self._closed or running is None:
                return
            number = errno.ETIMEDOUT if running.timed_out else errno.EINTR
            self._answer(replies.failure(request.unique, number))
        except GuestProtocolError as error:
            self.broken(error)
        except Exception as error:
            self._answer(replies.failure(request.unique, self._errno(error, request)))
        else:
            self._done(request, body)

    def _done(self, request: Request, body: Any) -> None:
        try:
            answer = replies.reply(request.unique, body)
        except Exception as error:  # a method returned what it must not
            answer = replies.failure(request.unique, self._errno(error, request))
        self._answer(answer)

    def _answer(self, data: bytes) -> None:
        if not self._closed:
            self._unsent = self.send(data)

    def _errno(self, error: Exception, request: Request) -> int:
        if isinstance(error, OSError):
            if error.errno is not None:
                return 22 if not 0 < error.errno < 4096 else linux_errno(error.errno)
            for kind, number in _WITHOUT_NUMBER.items():
                if isinstance(error, kind):
                    return number
        if isinstance(error, Refuse):
            log.info(
                "%s of sandbox %s: %s was refused: %s", self.path, self.sandbox,
                _called(request.op), error,
            )  # fmt: skip
            return errno.EACCES
        if isinstance(error, NotImplementedError):
            # A promise to who writes a file system (docs/guides/write-a-file-system.md), and what
            # the clients of stores raise for what theirs cannot do: no fault to be logged as EIO.
            return errno.ENOSYS
        log.error(
            "%s at %s of sandbox %s: %s failed", type(self.fs).__name__, self.path, self.sandbox,
            _called(request.op), exc_info=error,
        )  # fmt: skip
        return errno.EIO

    # -- time ------------------------------------------------------------------------------

    def _interrupt(self, request: Request) -> None:
        from sandlot.filesystem.fuse.requests import INTERRUPT

        running = self._running.get(request.fields(INTERRUPT)[0])
        if running is None or running.interrupted:
            return
        running.interrupted = True
        if running.op == Op.SETLKW:
            running.task.cancel()
        else:
            asyncio.get_running_loop().call_later(INTERRUPT_GRACE, running.task.cancel)

    def _watch_time(self) -> None:
        self._watch = None
        if self._closed or not self._running:
            return
        limit = time.monotonic() - self.fs.operation_timeout
        for running in self._running.values():
            if running.began < limit and running.op != Op.SETLKW and not running.timed_out:
                running.timed_out = True
                running.task.cancel()
                log.error(
                    "%s at %s of sandbox %s: %s took longer than %g s", type(self.fs).__name__,
                    self.path, self.sandbox, _called(running.op), self.fs.operation_timeout,
                )  # fmt: skip
        self._watch = asyncio.get_running_loop().call_later(_TICK, self._watch_time)

    # -- what the guest is told unasked ----------------------------------------------------

    def forget_data(self, node: Any, *, data: bool = True) -> None:
        """The guest is to ask again what a node is, and for its contents when `data`."""
        number = self._numbers.get(node)
        if number is not None:
            self._answer(replies.forget_data(number, 0 if data else -1, 0))

    def tell_gone(self) -> None:
        """The guest is to ask again for what is in use there and was not found again."""
        for number, node in self._nodes.items():
            if node is None:
                self._answer(replies.forget_data(number, 0, 0))

    def forget_name(self, parent: Any, name: str) -> None:
        """The guest is to look a name up again."""
        number = self._numbers.get(parent)
        if number is not None:
            self._answer(replies.forget_name(number, os.fsencode(name)))

    # -- the session with the kernel -------------------------------------------------------

    def agree(self, minor: int, readahead: int, offered: int) -> bytes:
        """Choose what both sides can do."""
        wanted = (
            Init.ASYNC_READ | Init.ATOMIC_O_TRUNC | Init.BIG_WRITES | Init.PARALLEL_DIROPS
            | Init.MAX_PAGES | Init.DO_READDIRPLUS | Init.READDIRPLUS_AUTO | Init.ASYNC_DIO
            | Init.CACHE_SYMLINKS | Init.HANDLE_KILLPRIV_V2
        )  # fmt: skip
        if self.fs.remote_locks:
            wanted |= Init.POSIX_LOCKS | Init.FLOCK_LOCKS
        if self.fs.cache == "fast":
            wanted |= Init.WRITEBACK_CACHE
        wanted |= Init.EXPLICIT_INVAL_DATA if self.fs.tells_changes else Init.AUTO_INVAL_DATA
        if self.fs.unopened and self.fs.cache != "none" and not self._asks:
            wanted |= Init.NO_OPENDIR_SUPPORT
        agreed = int(wanted) & offered
        self.unopened = bool(agreed & Init.NO_OPENDIR_SUPPORT)
        self.plus = bool(agreed & Init.DO_READDIRPLUS)
        if not agreed & Init.MAX_PAGES:
            raise GuestProtocolError("the guest's kernel has no FUSE requests of many pages")
        return replies.init_body(minor, readahead, agreed, MAX_DATA, MAX_PAGES, BACKGROUND)

    async def close(self) -> None:
        """The guest is no more, or has unmounted it: let go of everything."""
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        for number, owners in list(self._locked.items()):
            node = self._nodes.get(number)
            for owner in owners:
                with contextlib.suppress(Exception):
                    free = Lock(0, WHOLE_FILE, NO_LOCK, owner)
                    await self.fs.setlk(self._context, node, None, free, False)
        for file in list(self.files.values()):
            if file.node is None or file.handle is ECHO:
                continue
            try:
                close = self.fs.release if file.listing is None else self.fs.releasedir
                await close(self._context, file.node, file.handle)
            except Exception:
                log.exception("%s: a file could not be closed", type(self.fs).__name__)
        self.files.clear()
        with contextlib.suppress(Exception):
            await self.folders.close(self._context)
        await self.fs.stop(self)

    def statistics(self) -> dict[str, int]:
        """Nodes, open files and requests under way; and how many of each kind there were."""
        return {
            "nodes": len(self._nodes), "files": len(self.files),
            "running": len(self._running), "waiting": len(self._waiting),
            **{_called(op): count for op, count in self.asked.items()},
        }  # fmt: skip


def _called(op: int) -> str:
    """What a method is called that answers an operation."""
    return Op(op).name.lower() if op in Op._value2member_map_ else f"operation {op}"


_WITHOUT_NUMBER: dict[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES, NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR, BlockingIOError: errno.EAGAIN,
    TimeoutError: errno.ETIMEDOUT, InterruptedError: errno.EINTR,
}  # fmt: skip


def linux_errno(number: int) -> int:
    """The guest's number of an error that the host has its own number for."""
    if os.uname().sysname == "Linux":
        return number
    return _LINUX.get(errno.errorcode.get(number, ""), number)


# Where other hosts differ from Linux (include/uapi/asm-generic/errno.h).
_LINUX = {
    "EAGAIN": 11, "EDEADLK": 35, "ENAMETOOLONG": 36, "ENOLCK": 37, "ENOSYS": 38, "ENOTEMPTY": 39,
    "ELOOP": 40, "ENODATA": 61, "ENOATTR": 61, "EOVERFLOW": 75, "EOPNOTSUPP": 95, "ENOTSUP": 95,
    "ETIMEDOUT": 110, "ESTALE": 116, "EDQUOT": 122,
}  # fmt: skip


@types.coroutine
def _resumed(work: Any, waits: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that was begun outside of a task and waits for something."""
    while True:
        try:
            value = yield waits
        except BaseException as error:
            step = work.throw
            given: Any = error
        else:
            step = work.send
            given = value
        try:
            waits = step(given)
        except StopIteration as done:
            return done.value
