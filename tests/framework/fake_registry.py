"""A registry in this event loop that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import ssl
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from sandlot.image.config import host_architecture

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed layer with these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@dataclass
class Asked:
    """One request as it came. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


Handler = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Fault:
    """What answers instead, the next `times` that the target contains `part`."""

    part: str
    handler: Handler
    times: int


def reply(
    writer: asyncio.StreamWriter, status: int, body: bytes = b"",
    headers: Mapping[str, str] | None = None, *, method: str = "GET", length: int | None = None,
) -> None:  # fmt: skip
    """Write an answer; `length` is what Content-Length says, where it is a lie."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    sent = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
    lines += [f"{name}: {value}" for name, value in sent.items() if value]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    if method != "HEAD":
        writer.write(body)


def answers(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Handler:  # fmt: skip
    """A handler that always says this."""

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        reply(writer, status, body, headers, method=asked.method)

    return handler


@dataclass
class FakeRegistry:
    """Serves `blobs` and `manifests` on loopback until its block ends."""

    context: ssl.SSLContext | None = None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    authorization: str | None = None
    challenge: str = 'Basic realm="fake"'
    host: str = ""
    ranges: bool = True

    async def __aenter__(self) -> FakeRegistry:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fault(self, part: str, handler: Handler, times: int = 1) -> None:
        """Answer otherwise for a while."""
        self.faults.append(Fault(part, handler, times))

    def add(
        self, reference: str, layers: list[bytes], *, architecture: str = "",
        config: Mapping[str, object] | None = None,
    ) -> str:  # fmt: skip
        """Serve an image as `name:tag`; returns its manifest's digest."""
        inside = {
            "architecture": architecture or host_architecture(), "os": "linux",
            "config": {"Cmd": ["/bin/true"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers]},
        }  # fmt: skip
        raw = json.dumps(inside).encode()
        for data in (raw, *layers):
            self.blobs[digest_of(data)] = data
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(raw), "size": len(raw)},
            "layers": [
                {"mediaType": LAYER, "digest": digest_of(data), "size": len(data)}
                for data in layers
            ],
        }  # fmt: skip
        return self.put(reference, MANIFEST, json.dumps(manifest).encode())

    def put(self, reference: str, kind: str, data: bytes) -> str:
        """Serve a manifest as `name:tag` and by its digest."""
        name, _, tag = reference.partition(":")
        self.manifests[f"/v2/{name}/manifests/{tag}"] = (kind, data)
        self.manifests[f"/v2/{name}/manifests/{digest_of(data)}"] = (kind, data)
        return digest_of(data)

    def requests(self, part: str, method: str = "GET") -> list[Asked]:
        """What was asked so far whose target contains `part`."""
        return [each for each in self.asked if part in each.target and each.method == method]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        ends = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError)
        try:
            with contextlib.suppress(*ends):
                while not writer.is_closing():
                    asked = await _read(reader)
                    self.asked.append(asked)
                    await self._handle(asked, writer)
                    await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(*ends):
                await writer.drain()
            writer.transport.abort()

    async def _handle(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        for fault in self.faults:
            if fault.times and fault.part in asked.target:
                fault.times -= 1
                await fault.handler(asked, writer)
                return
        if self.authorization and asked.headers.get("authorization") != self.authorization:
            reply(writer, 401, headers={"WWW-Authenticate": self.challenge}, method=asked.method)
        elif asked.path == "/v2/":
            reply(writer, 200, b"{}", method=asked.method)
        elif asked.path in self.manifests:
            kind, data = self.manifests[asked.path]
            headers = {"Content-Type": kind, "Docker-Content-Digest": digest_of(data)}
            reply(writer, 200, data, headers, method=asked.method)
        elif (
            data := self.blobs.get(asked.path.rpartition("/")[2], b"")
        ) and "/blobs/" in asked.path:
            self._blob(asked, writer, data)
        else:
            reply(writer, 404, b"{}", method=asked.method)

    def _blob(self, asked: Asked, writer: asyncio.StreamWriter, data: bytes) -> None:
        since = asked.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
        if not since or not self.ranges:
            reply(writer, 200, data, method=asked.method)
        elif int(since) >= len(data):
            reply(writer, 416)
        else:
            span = f"bytes {since}-{len(data) - 1}/{len(data)}"
            reply(writer, 206, data[int(since) :], {"Content-Range": span})


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body)


def cut(blob: bytes, after: int) -> Handler:
    """Promise all of a blob, send some bytes, break off."""

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        reply(writer, 200, blob[:after], length=len(blob))
        await writer.drain()
        writer.close()

    return handler


async def silence(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()
