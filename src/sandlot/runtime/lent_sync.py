"""The same without `await`, for programs in a sandbox: `from sandlot.sync import Sandbox`.

Each call is one connection to the host, so each has an event loop of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sandlot.runtime import lent

T = TypeVar("T")


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


class Files:
    """The files of a peer."""

    def __init__(self, files: lent.Files) -> None:
        self._files = files

    def read(self, path: str | os.PathLike[str], *, max_size: int = lent.MAX_OUTPUT) -> bytes:
        """The contents of a file."""
        return _run(self._files.read(path, max_size=max_size))

    def read_text(self, path: str | os.PathLike[str]) -> str:
        """The contents of a file, as text."""
        return _run(self._files.read_text(path))

    def write(
        self, path: str | os.PathLike[str], data: bytes | str, *, mode: int | None = None,
        parents: bool = False,
    ) -> None:  # fmt: skip
        """Write a file, whole or not at all."""
        _run(self._files.write(path, data, mode=mode, parents=parents))

    def list(self, path: str | os.PathLike[str] = ".") -> list[lent.FileInfo]:
        """What is in a folder."""
        return _run(self._files.list(path))

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Make a folder, and those above it."""
        _run(self._files.mkdir(path))

    def remove(self, path: str | os.PathLike[str], *, recursive: bool = False) -> None:
        """Remove a file, or with `recursive` a folder and all that is in it."""
        _run(self._files.remove(path, recursive=recursive))


class Peer:
    """A sandbox that this one has started: a machine of its own, beside it."""

    def __init__(self, peer: lent.Peer) -> None:
        self._peer = peer
        self.name, self.id = peer.name, peer.id
        self.image, self.status = peer.image, peer.status
        self.files = Files(peer.files)

    def __repr__(self) -> str:
        return repr(self._peer)

    def exec(
        self, command: str | Sequence[str], *, stdin: bytes | str | None = None,
        timeout: float | None = None, check: bool = False, env: Mapping[str, str] | None = None,
        workdir: str | None = None, user: str | None = None, max_output: int = lent.MAX_OUTPUT,
    ) -> lent.ExecResult:  # fmt: skip
        """Run a program to its end; a string is a line for `/bin/sh`, `timeout` is in seconds."""
        return _run(
            self._peer.exec(
                command, stdin=stdin, timeout=timeout, check=check, env=env, workdir=workdir,
                user=user, max_output=max_output,
            )
        )  # fmt: skip

    def logs(self, *, follow: bool = False, tail: int | None = None) -> Iterator[bytes]:
        """What its command says, piece by piece; with `follow` until it is stopped."""
        loop = asyncio.new_event_loop()
        pieces = self._peer.logs(follow=follow, tail=tail)
        try:
            while True:
                try:
                    yield loop.run_until_complete(pieces.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            loop.run_until_complete(pieces.aclose())
            loop.close()

    def stop(self, *, grace: float | None = None, kill: bool = False) -> None:
        """End its programs and it; nothing of it is left. Seconds of `grace` until they are killed."""
        _run(self._peer.stop(grace=grace, kill=kill))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(kill=True)


class Runtime:
    """What its owner lends to this sandbox. `grant` says how much, as plain data."""

    def __init__(self, runtime: lent.Runtime) -> None:
        self._runtime = runtime
        self.name, self.id = runtime.name, runtime.id
        self.host_version, self.grant = runtime.host_version, runtime.grant

    def start(
        self, name: str | None = None, *, image: str | None = None,
        command: Sequence[str] | None = None, memory: int | str | None = None,
        cpus: int | None = None, disk: int | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        network: lent.Network | None = None, secrets: Iterable[str] = (),
        runtime: lent.RuntimeAccess | None = None,
    ) -> Peer:  # fmt: skip
        """Start a sandbox beside this one; see the asynchronous `Runtime.start`."""
        return Peer(
            _run(
                self._runtime.start(
                    name, image=image, command=command, memory=memory, cpus=cpus, disk=disk,
                    env=env, workdir=workdir, user=user, network=network, secrets=secrets,
                    runtime=runtime,
                )
            )
        )  # fmt: skip

    def list(self) -> list[Peer]:
        """Those that this sandbox started and that are not stopped, in the order of their start."""
        return [Peer(each) for each in _run(self._runtime.list())]

    def get(self, name: str) -> Peer:
        """One of them, by name or id.

        Raises:
            SandboxNotFound: there is none.
        """
        return Peer(_run(self._runtime.get(name)))


def current_runtime() -> Runtime:
    """The runtime that the owner of this sandbox lends it.

    Raises:
        WrongState: none was.
    """
    return Runtime(_run(lent.current_runtime()))


class Sandbox:
    """In here, sandboxes come from the runtime that was lent: see `current_runtime`."""

    current_runtime = staticmethod(current_runtime)
