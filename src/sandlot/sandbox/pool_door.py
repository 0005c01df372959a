"""A pool that other programs of the same user may take from: a socket that only they can open.

One line of JSON asks, one answers: `{"take": {"env": {...}}}` by `{"name": ..., "id": ...}`,
`{"status": true}` by what the pool is, `{"stop": true}` by `{}`; or `{"error": ...}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError, NameTaken, SandboxError, StateError
from sandlot.sandbox.door import socket_name
from sandlot.sandbox.faults import described, rebuilt
from sandlot.sandbox.pool import Pool

LIMIT = 1 << 20  # bytes of a line


def pool_path(sockets: Path, name: str) -> Path:
    """Where the socket of a pool is."""
    return sockets / f"pool-{name}.sock"


class PoolDoor:
    """Serves one pool. Made by `open`."""

    def __init__(self, pool: Pool, name: str, source: str, path: Path) -> None:
        self._pool = pool
        self._name = name
        self._source = source
        self._path = path
        self._server: asyncio.Server | None = None
        self.stopped = asyncio.Event()
        """Set when somebody asks for its end."""

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            NameTaken: a pool of this name runs.
        """
        if await status_of(self._path) is not None:
            raise NameTaken(
                f"a pool named {self._name!r} runs already",
                hint=f"end it with `sandlot pool stop {self._name}`, or use another name",
            )
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket_name(self._path) as where:
                before = os.umask(0o177)
                try:
                    listener.bind(where)
                finally:
                    os.umask(before)
            listener.listen(64)
            listener.setblocking(False)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LIMIT)
        except OSError as error:
            listener.close()
            raise StateError(f"cannot listen at {self._path}: {error.strerror}") from error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any]
        try:
            request = json.loads(await reader.readline())
            answer = await self._answered(request)
        except SandboxError as error:
            answer = described(error)
        except (ValueError, TypeError, AttributeError):
            answer = described(ConfigError("that is no question to a pool"))
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _answered(self, request: dict[str, Any]) -> dict[str, Any]:
        if "take" in request:
            sandbox = await self._pool.take(env=dict(request["take"].get("env") or {}))
            return {"name": sandbox.name, "id": sandbox.id}
        if "stop" in request:
            self.stopped.set()
            return {}
        return {
            "name": self._name, "source": self._source, "size": self._pool.size,
            "ready": self._pool.ready, "process": os.getpid(),
            "problem": self._pool.problem.message if self._pool.problem is not None else None,
        }  # fmt: skip

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)


async def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the pool at a socket.

    Raises:
        ConnectionError, FileNotFoundError: nobody is there.
        SandboxError: the pool refuses, with its reason.
    """
    with socket_name(path) as where:
        reader, writer = await asyncio.open_unix_connection(where, limit=LIMIT)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError("the pool has ended")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise rebuilt(answer)
    return answer


async def status_of(path: Path) -> dict[str, Any] | None:
    """What the pool at a socket is; None when there is none."""
    try:
        return await ask(path, {"status": True})
    except (OSError, ValueError):
        return None


async def pools(
    sockets: Path, gone: Callable[[Path], object] | None = None
) -> list[dict[str, Any]]:
    """All pools of this user that run, by name; `gone` is told of sockets at which nobody is."""
    found = []
    for path in sorted(sockets.glob("pool-*.sock")):
        status = await status_of(path)
        if status is not None:
            found.append(status)
        elif gone is not None:
            gone(path)
    return found
