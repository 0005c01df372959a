"""Sandlot inside a sandbox: other sandboxes, as far as its owner lends them.

    from sandlot import Network, Sandbox

    rt = await Sandbox.current_runtime()
    r = await rt.start("researcher", image="python:3.12", network=Network.deny_all())
    result = await r.exec(["python3", "-c", "print(6 * 7)"])
    await r.files.write("/tmp/a", "hello")
    await r.stop()

This one file is the whole package there. It needs Python 3.9 and nothing else: no engine, no
network. Every request is checked on the host, which is what bounds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SOCKET = "/run/sandlot/runtime.sock"
VERSION = 1
MAX_PAYLOAD = 65536
MAX_OUTPUT = 256 << 20
_HEADER = struct.Struct("!BI")
_REQUEST, _ANSWER, _ERROR, _ITEM, _INPUT, _OUTPUT, _ERRORS = range(1, 8)


class SandboxError(Exception):
    """Root of all errors here. `kind` is the host's name of it, `hint` what mends it, or empty."""

    def __init__(self, message: str, *, hint: str = "", kind: str = "SandboxError") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind


class Refuse(SandboxError):
    """The owner's grant, or a plugin on the host, does not allow it."""


class ConfigError(SandboxError, ValueError):
    """An argument is wrong; the message names it."""


class WrongState(SandboxError):
    """No runtime was lent to this sandbox."""


class SandboxNotFound(SandboxError, LookupError):
    """This sandbox has started none of this name."""


class FileError(SandboxError, OSError):
    """Something with a file of a peer failed. Carries `errno` and `path`."""

    path = ""


class FileNotFound(FileError, FileNotFoundError):
    """No such file or folder."""


class ExecError(SandboxError):
    """A program could not be started."""


class CommandNotFound(ExecError):
    """There is no such program in the peer."""


class CommandNotExecutable(ExecError):
    """It is there and cannot be executed."""


class ProcessError(SandboxError):
    """A program failed and `check=True` was asked. Carries its `result`."""

    def __init__(self, message: str, result: ExecResult) -> None:
        super().__init__(message, kind="ProcessError")
        self.result = result
        self.exit_code = result.exit_code


_KINDS: dict[str, type[SandboxError]] = {
    each.__name__: each
    for each in (
        Refuse, ConfigError, WrongState, SandboxNotFound, FileError, FileNotFound, ExecError,
        CommandNotFound, CommandNotExecutable,
    )
}  # fmt: skip


def _error(payload: bytes) -> SandboxError:
    said = json.loads(payload)
    kind = str(said.get("error", ""))
    default = FileError if kind.startswith("File") else SandboxError
    error = _KINDS.get(kind, default)(said["message"], hint=said.get("hint", ""), kind=kind)
    if isinstance(error, FileError):
        error.errno, error.path = said.get("errno"), said.get("path", "")
    return error


@dataclass(frozen=True)
class Network:
    """What a peer may reach: rules as `api.example.com:443`, `*.example.com`, `10.0.0.0/8`.

    The owner's grant holds besides it: what either refuses is refused.
    """

    allow: Sequence[str] | None = None
    deny: Sequence[str] | None = None
    default: str | None = None
    hidden_names: bool = False

    @classmethod
    def deny_all(cls) -> Network:
        """Nothing is reached."""
        return cls(default="deny")

    @classmethod
    def public(cls) -> Network:
        """The public internet."""
        return cls(default="public")

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        rules = {"allow": self.allow, "deny": self.deny}
        found = {verb: list(given) for verb, given in rules.items() if given is not None}
        return {"default": self.default, "hidden_names": self.hidden_names, **found}


@dataclass(frozen=True)
class RuntimeAccess:
    """What a peer may start itself: a part of what this sandbox may, set aside for it."""

    max_sandboxes: int = 1
    images: Sequence[str] | None = None
    memory: int | str | None = None
    network: Network | None = None
    secrets: Sequence[str] | None = None
    max_depth: int = 1

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "max_sandboxes": self.max_sandboxes, "max_depth": self.max_depth,
            "memory": self.memory,
            "network": None if self.network is None else self.network.to_json(),
            "images": None if self.images is None else list(self.images),
            "secrets": None if self.secrets is None else list(self.secrets),
        }  # fmt: skip


@dataclass(frozen=True)
class ExecResult:
    """How a program ended, and what it said. `exit_code` is what a shell would say."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    signal: int | None = None
    timed_out: bool = False

    @property
    def text(self) -> str:
        """stdout as text."""
        return self.stdout.decode(errors="replace")


@dataclass(frozen=True)
class FileInfo:
    """A file of a peer, as in a listing; times in seconds since 1970."""

    path: str
    type: str
    size: int
    mode: int
    mtime: float
    target: str = ""


class _Connection:
    """One request to the host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, op: str, fields: Mapping[str, Any]) -> _Connection:
        request = {"version": VERSION, "op": op, **fields}
        data = json.dumps({k: v for k, v in request.items() if v is not None}).encode()
        if len(data) > MAX_PAYLOAD:
            raise ConfigError("the request is longer than 64 KiB", kind="ConfigError")
        try:
            made = cls(*await asyncio.open_unix_connection(_socket()))
        except OSError as error:
            raise WrongState(
                f"no runtime was lent to this sandbox ({error.strerror})", kind="WrongState",
                hint="its owner grants one with runtime=RuntimeAccess(...)",
            ) from None  # fmt: skip
        await made.send(_REQUEST, data)
        return made

    async def send(self, kind: int, payload: bytes) -> None:
        self._writer.write(_HEADER.pack(kind, len(payload)) + payload)
        await self._writer.drain()

    async def give(self, data: bytes) -> None:
        """Input of the request, and its end."""
        view = memoryview(data)
        for start in range(0, len(view), MAX_PAYLOAD):
            await self.send(_INPUT, bytes(view[start : start + MAX_PAYLOAD]))
        await self.send(_INPUT, b"")

    async def receive(self) -> tuple[int, bytes]:
        try:
            kind, size = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
            payload = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            raise SandboxError("the host ended the connection") from None
        if kind == _ERROR:
            raise _error(payload)
        return kind, payload

    def close(self) -> None:
        self._writer.close()


def _socket() -> str:
    return os.environ.get("SANDLOT_RUNTIME_SOCKET", SOCKET)


async def _ask(
    op: str, fields: Mapping[str, Any], *, data: bytes | None = None, most: int = MAX_OUTPUT
) -> tuple[dict[str, Any], dict[int, list[bytes]]]:
    """One request: its answer, and what came before it."""
    connection = await _Connection.open(op, fields)
    feeding: asyncio.Task[None] | None = None
    parts: dict[int, list[bytes]] = {_ITEM: [], _OUTPUT: [], _ERRORS: []}
    size = 0
    try:
        if data is not None:
            feeding = asyncio.get_running_loop().create_task(connection.give(data))
        while True:
            kind, payload = await connection.receive()
            if kind == _ANSWER:
                answer: dict[str, Any] = json.loads(payload)
                return answer, parts
            parts[kind].append(payload)
            size += len(payload)
            if size > most:
                raise SandboxError(f"the answer is longer than {most} bytes")
    finally:
        if feeding is not None:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        connection.close()


def _bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


class Files:
    """The files of a peer."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def _fields(self, path: str | os.PathLike[str], **more: Any) -> dict[str, Any]:
        return {"peer": self._peer, "path": os.fspath(path), **more}

    async def read(self, path: str | os.PathLike[str], *, max_size: int = MAX_OUTPUT) -> bytes:
        """The contents of a file."""
        _, parts = await _ask("read", self._fields(path), most=max_size)
        return b"".join(parts[_OUTPUT])

    async def read_text(self, path: str | os.PathLike[str]) -> str:
        """The contents of a file, as text."""
        return (await self.read(path)).decode()

    async def write(
        self, path: str | os.PathLike[str], data: bytes | str, *,
        mode: int | None = None, parents: bool = False,
    ) -> None:  # fmt: skip
        """Write a file, whole or not at all."""
        await _ask("write", self._fields(path, mode=mode, parents=parents), data=_bytes(data))

    async def list(self, path: str | os.PathLike[str] = ".") -> list[FileInfo]:
        """What is in a folder, by name."""
        _, parts = await _ask("files", self._fields(path))
        found = [FileInfo(**json.loads(each)) for each in parts[_ITEM]]
        return sorted(found, key=lambda info: info.path)

    async def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Make a folder, and those above it."""
        await _ask("mkdir", self._fields(path))

    async def remove(self, path: str | os.PathLike[str], *, recursive: bool = False) -> None:
        """Remove a file, or with `recursive` a folder and all that is in it."""
        await _ask("remove", self._fields(path, recursive=recursive))


class Peer:
    """A sandbox that this one has started: a machine of its own, beside it."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.name: str = described["name"]
        self.id: str = described["id"]
        self.image: str = described["image"]
        self.status: str = described["status"]
        self.files = Files(self.id)

    def __repr__(self) -> str:
        return f"<Peer {self.name!r} {self.id} image={self.image!r}>"

    async def exec(
        self, command: str | Sequence[str], *, stdin: bytes | str | None = None,
        timeout: float | None = None, check: bool = False,
        env: Mapping[str, str] | None = None, workdir: str | None = None,
        user: str | None = None, max_output: int = MAX_OUTPUT,
    ) -> ExecResult:  # fmt: skip
        """Run a program to its end; a string is a line for `/bin/sh`, `timeout` is in seconds.

        Cancelling the call kills all that it started.
        """
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        fields = {
            "peer": self.id, "command": argv, "stdin": stdin is not None, "timeout": timeout,
            "env": None if env is None else dict(env), "workdir": workdir, "user": user,
        }  # fmt: skip
        data = None if stdin is None else _bytes(stdin)
        answer, parts = await _ask("exec", fields, data=data, most=max_output)
        result = ExecResult(
            answer["exit_code"], b"".join(parts[_OUTPUT]), b"".join(parts[_ERRORS]),
            answer["signal"], answer["timed_out"],
        )  # fmt: skip
        if check and result.exit_code != 0:
            raise ProcessError(f"{argv[0]} failed with exit code {result.exit_code}", result)
        return result

    async def logs(
        self, *, follow: bool = False, tail: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """What its command says, piece by piece; with `follow` until it is stopped."""
        fields = {"peer": self.id, "follow": follow, "tail": tail}
        connection = await _Connection.open("logs", fields)
        try:
            while True:
                kind, payload = await connection.receive()
                if kind == _ANSWER:
                    return
                yield payload
        finally:
            connection.close()

    async def stop(self, *, grace: float | None = None, kill: bool = False) -> None:
        """End its programs and it; nothing of it is left. Seconds of `grace` until they are killed."""
        await _ask("stop", {"peer": self.id, "grace": grace, "kill": kill})

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(kill=True)


class Runtime:
    """What its owner lends to this sandbox. `grant` says how much, as plain data."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.name: str = said["name"]
        self.id: str = said["id"]
        self.host_version: str = said["sandlot"]
        self.grant: Mapping[str, Any] = said["grant"]

    async def start(
        self, name: str | None = None, *, image: str | None = None,
        command: Sequence[str] | None = None, memory: int | str | None = None,
        cpus: int | None = None, disk: int | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None,
        user: str | None = None, network: Network | None = None,
        secrets: Iterable[str] = (), runtime: RuntimeAccess | None = None,
    ) -> Peer:  # fmt: skip
        """Start a sandbox beside this one.

        Args:
            name: unique among those that this one started; one is chosen when it is None.
            image: one of those that were granted; it may be left out when that is one only.
            command: what it runs from its start; what that says are its `logs`.
            memory, cpus, disk: of those that were granted; a fair part when None.
            network: what it may reach, within the grant; all of that when None.
            secrets: names of secrets that were granted. It gets placeholders, as this one has.
            runtime: what it may start itself, if the grant is deep enough.

        Raises:
            Refuse: the grant does not allow it; the message says why.
        """
        answer, _ = await _ask("start", {
            "name": name, "image": image, "memory": memory, "cpus": cpus, "disk": disk,
            "command": None if command is None else list(command),
            "env": None if env is None else dict(env), "workdir": workdir, "user": user,
            "network": None if network is None else network.to_json(),
            "secrets": list(secrets) or None,
            "runtime": None if runtime is None else runtime.to_json(),
        })  # fmt: skip
        return Peer(answer)

    async def list(self) -> list[Peer]:
        """Those that this sandbox started and that are not stopped, in the order of their start."""
        _, parts = await _ask("list", {})
        return [Peer(json.loads(each)) for each in parts[_ITEM]]

    async def get(self, name: str) -> Peer:
        """One of them, by name or id.

        Raises:
            SandboxNotFound: there is none.
        """
        for each in await self.list():
            if name in (each.name, each.id):
                return each
        raise SandboxNotFound(f"no sandbox here is named {name!r}", kind="SandboxNotFound")


async def current_runtime() -> Runtime:
    """The runtime that the owner of this sandbox lends it.

    Raises:
        WrongState: none was.
    """
    answer, _ = await _ask("hello", {})
    return Runtime(answer)


class Sandbox:
    """In here, sandboxes come from the runtime that was lent: see `current_runtime`."""

    current_runtime = staticmethod(current_runtime)
