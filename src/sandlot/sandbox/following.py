"""A sandbox that runs elsewhere, looked into here at its newest version, fetched as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sandlot.errors import (
    RemoteDamaged,
    RemoteError,
    RemoteNotFound,
    RemoteUnreachable,
    SandboxError,
    WrongState,
)
from sandlot.remote.remote import Remote, blamed
from sandlot.remote.repository import Repository
from sandlot.remote.versions import Progress
from sandlot.sandbox.host import Host
from sandlot.sandbox.pushing import SANDBOX, Found, look, pulled_origin
from sandlot.sandbox.restoring import Changes, Origin, child_record, make_child
from sandlot.sandbox.secrecy import Grants
from sandlot.sandbox.sizes import check_name

if TYPE_CHECKING:
    from sandlot.sandbox.sandbox import Sandbox
    from sandlot.state.records import SandboxRecord


class Follow:
    """What follows one name in a remote, as `Sandbox.follow` returns it.

        async with Sandbox.follow("web") as follow:
            async for sb in follow:
                print(follow.version, (await sb.exec("ls /srv")).text)

    Entering fetches the newest version. The iteration gives the sandbox at once, and then whenever a
    newer version stands in its place; only then the older one ends.
    """

    def __init__(
        self, remote: Remote, source: str, name: str | None, *, interval: float, keep: bool,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self._remote = remote
        self._source = source
        self._name = check_name(name) if name is not None else ""
        self._interval = interval
        self._keep = keep
        self._progress = progress or (lambda stage, fraction: None)
        self._host = Host.current()
        self._sandbox: Sandbox | None = None
        self._version = 0
        self._created = 0.0
        self._digest = ""
        self._error: SandboxError | None = None
        self._failures = 0
        self._shown = 0
        self._repository: Repository | None = None
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Follow {self._source!r} version={self._version} failures={self._failures}>"

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox at the newest version; the iteration replaces it.

        Raises:
            WrongState: there is none, before the block and after it.
        """
        if self._sandbox is None:
            raise WrongState(f"no version of {self._source!r} is followed now")
        return self._sandbox

    @property
    def version(self) -> int:
        """The number of that version."""
        return self._version

    @property
    def created(self) -> float:
        """When that version was pushed, in seconds since 1970."""
        return self._created

    @property
    def error(self) -> SandboxError | None:
        """Why the last look at the remote failed; None when it did not. It is tried again."""
        return self._error

    @property
    def failures(self) -> int:
        """How many looks failed so far."""
        return self._failures

    async def __aenter__(self) -> Follow:
        try:
            if not await self._look():
                raise RemoteNotFound(
                    f"nothing is left of {self._source!r} in {self._address}",
                    address=self._address,
                )
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        try:
            await self._drop()
        finally:
            await self._end(keep=self._keep)

    def __aiter__(self) -> Follow:
        return self

    async def __anext__(self) -> Sandbox:
        """The sandbox at a version that was not given yet."""
        while self._shown == self._version:
            await asyncio.sleep(self._interval)
            try:
                await self._look()
                self._error = None
            except (RemoteUnreachable, RemoteNotFound) as error:
                await self._drop()
                self._failed(error)
        self._shown = self._version
        return self.sandbox

    def _failed(self, error: SandboxError) -> None:
        self._failures += 1
        if self._error is None or self._error.message != error.message:
            self._host.tell(f"{error.message}: version {self._version} stays, it is tried again")
        self._error = error

    # -- versions --------------------------------------------------------------------------

    @property
    def _address(self) -> str:
        return self._repository.address if self._repository is not None else ""

    async def _look(self) -> bool:
        """Have the newest version, if it is another one; whether there is one.

        Raises:
            RemoteError: the remote cannot be reached, or gives what was not pushed.
        """
        repository = await self._opened()
        with blamed(repository.address):
            if self._sandbox is not None:
                head, _ = await repository.head(self._source)
                last = head.pick(None) if head is not None else None
                if last is not None and (last.version, last.digest) == (
                    self._version,
                    self._digest,
                ):
                    return True
            while True:
                found = await look(repository, SANDBOX, self._source, None)
                try:
                    await self._take(found)
                    return True
                except RemoteDamaged:
                    # Of one that is not kept any more, chunks may be gone.
                    head, _ = await repository.head(found.base.name)
                    last = head.pick(None) if head is not None else None
                    if last is None or last.version == found.base.version:
                        raise

    async def _take(self, found: Found) -> None:
        """Fetch a version, and have a sandbox at it instead of the one before."""
        host = self._host
        self._source = found.base.name
        name = self._name = self._name or found.incoming.record.sandbox
        if self._sandbox is None:
            host.sandboxes.refuse_taken(name)  # before anything is fetched
        # Its policy is not used, so that nothing is told of what does not hold here.
        source = {**found.incoming.record.source, "network": {}}
        saved = dataclasses.replace(found.incoming.record, source=source)
        asked = dataclasses.replace(
            found, incoming=dataclasses.replace(found.incoming, record=saved)
        )
        async with pulled_origin(host, asked, disk_only=True, tell=self._progress) as origin:
            record = await followed_record(origin, name, keep=self._keep)
            await self._end(keep=False)
            self._sandbox = await self._made(origin, record)
        self._version, self._digest = found.base.version, found.base.digest
        self._created = found.manifest.created

    async def _made(self, origin: Origin, record: SandboxRecord) -> Sandbox:
        from sandlot.sandbox.branching import started
        from sandlot.sandbox.sandbox import Sandbox

        folder, lock = await make_child(self._host, origin, record, {})
        return await started(Sandbox._from_folder(self._host, folder, record, lock, None, {}))

    async def _end(self, *, keep: bool) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is None:
            return
        if keep:
            await sandbox.stop()
        else:
            await sandbox.remove()

    async def _opened(self) -> Repository:
        if self._repository is None:
            self._repository = await self._stack.enter_async_context(self._remote.open())
        return self._repository

    async def _drop(self) -> None:
        self._repository = None
        with contextlib.suppress(RemoteError):
            await self._stack.aclose()


async def followed_record(origin: Origin, name: str, *, keep: bool) -> SandboxRecord:
    """The record of a sandbox that is looked into: none of what the one that was pushed may do or
    has, and nothing that ends it by itself.

    Raises:
        ConfigError: the name.
    """
    from sandlot.network.policy import Network

    changes = Changes(
        network=Network.deny_all(), ports=[], secrets={}, volumes={}, plugins=(), labels={},
        auto_remove=not keep,
    )  # fmt: skip
    record, _ = await child_record(origin, name, changes, Grants())
    nothing: dict[str, Any] = {
        "command": [], "ports": [], "runtime": {}, "inspect": [], "restart": "no",
        "idle_timeout": 0.0, "idle_action": "stop", "max_duration": 0.0,
    }  # fmt: skip
    return dataclasses.replace(record, **nothing, read_only=True)
