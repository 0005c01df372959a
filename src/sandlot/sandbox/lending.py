"""The runtime that one running sandbox was lent: its peers, and what its programs do with them.

Peers are sandboxes like any other, whose owner is the program that runs this one. What a guest asks
is checked by `runtime.checking.permit` before anything is awaited, and counts from then on until
the peer is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sandlot.errors import (
    ConfigError,
    NameTaken,
    Refuse,
    SandboxDied,
    SandboxError,
    SandboxNotFound,
    WrongState,
)
from sandlot.files.files import Files
from sandlot.guest.session import GuestSession
from sandlot.network.policy import Network
from sandlot.runtime.caller import caller_id
from sandlot.runtime.checking import Permit, Refusal, Share, permit
from sandlot.runtime.frames import Kind
from sandlot.runtime.grant import RuntimeAccess
from sandlot.runtime.requests import (
    Exec,
    Hello,
    ListFiles,
    ListPeers,
    Logs,
    MakeFolder,
    OfFile,
    OfPeer,
    ReadFile,
    RemoveFile,
    Request,
    Start,
    Stop,
    WriteFile,
)
from sandlot.runtime.server import Conversation, RuntimeServer
from sandlot.runtime.wheel import wheel, wheel_name
from sandlot.sandbox.execution import make_command
from sandlot.sandbox.log import OutputLog
from sandlot.sandbox.naming import readable_name
from sandlot.wire.runtime import Lend

if TYPE_CHECKING:
    from sandlot.network.hooks import Hooks
    from sandlot.sandbox.owned import OwnedMachine
    from sandlot.sandbox.owner import Owner
    from sandlot.sandbox.sandbox import Sandbox
    from sandlot.state.records import SandboxRecord

FOLDER = "/run/sandlot/runtime"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What the agent gives programs that have no PATH."""
PIECE = 65536
PEERS_PATIENCE = 5.0  # seconds that a stop waits for those that the sandbox started
LONGEST_OWNER = 28  # characters of the owner's name in a peer's


def _version() -> str:
    from importlib.metadata import version  # here: few sandboxes are lent a runtime

    return version("sandlot")


def runtime_options(
    runtime: object, env: Mapping[str, str], secrets: Mapping[str, object], hooks: Hooks | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a record about a grant, and the variables by which the guest finds it.

    Raises:
        ConfigError: it grants what there is not.
    """
    if not isinstance(runtime, RuntimeAccess):
        raise ConfigError(
            f"runtime is {type(runtime).__name__}, not a RuntimeAccess",
            hint='use runtime=RuntimeAccess(max_sandboxes=2, images=["python:3.12"])',
        )
    for name in runtime.secrets:
        if name not in secrets:
            raise ConfigError(
                f"runtime grants the secret {name}, which the sandbox does not have",
                hint="name it in secrets= too",
            )
    if runtime.lifetime == "detached" and hooks is not None:
        raise ConfigError(
            "hooks cannot be asked about sandboxes that outlive this program",
            hint='leave lifetime="detached" out',
        )
    python = f"{FOLDER}/{wheel_name(_version())}"
    own = env.get("PYTHONPATH")
    variables = {
        "PATH": f"{env.get('PATH') or PATH}:{FOLDER}",
        "PYTHONPATH": f"{own}:{python}" if own else python,
    }
    return {"runtime": runtime.to_json()}, variables


@dataclasses.dataclass(eq=False)
class _Peer:
    """One peer, from before it is started until it is gone."""

    share: Share
    permit: Permit
    sandbox: Sandbox | None = None
    starting: asyncio.Task[None] | None = None
    logging: asyncio.Task[None] | None = None
    ending: asyncio.Task[None] | None = None

    @property
    def gone(self) -> bool:
        """Whether somebody on the host has removed it; one that was renamed is found again."""
        if self.ending is not None or not (self.starting is None or self.starting.done()):
            return False
        return self.sandbox is None or not self.sandbox._found()


class Lending:
    """Lends the runtime to one sandbox; made by its owner when it has a grant."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        granted = RuntimeAccess.from_json(owner.record.runtime)
        # A restored one may have fewer secrets than the one that was saved.
        self.grant = granted.narrowed(secrets=owner.record.secrets)
        self._server = RuntimeServer(self)
        self._peers: dict[str, _Peer] = {}
        self._closing: asyncio.Task[None] | None = None

    async def attach(self, owned: OwnedMachine) -> None:
        """Offer it to the programs of a machine that has come up."""

        async def itself() -> GuestSession:
            return owned.session

        if self.grant.lifetime == "detached":
            await self._find_again()
        assert self._owner.reach is not None
        self._owner.reach.gateway.lent = lambda stream, _: self._server.serve(stream)
        await owned.session.call(Lend())
        await Files(itself, user="0").write(f"{FOLDER}/{wheel_name(_version())}", wheel(_version()))

    async def _find_again(self) -> None:
        """Peers that lived on while this sandbox did not."""
        from sandlot.sandbox.sandbox import Sandbox

        for info in await Sandbox.list():
            record = info.record
            if record.started_by == self._owner.record.id:
                name = record.hostname
                share = Share(name, 1, record.memory)
                if record.runtime:
                    own = RuntimeAccess.from_json(record.runtime)
                    share = Share(name, 1 + own.max_sandboxes, record.memory + own.memory)
                if name not in self._peers:
                    found = await Sandbox.get(record.id)
                    self._peers[name] = _Peer(share, _permitted(record, share), found)

    # -- requests --------------------------------------------------------------------------

    async def handle(self, request: Request, talk: Conversation) -> Mapping[str, Any]:
        """What the guest asks; it is called in a task of its own."""
        caller_id.set(self._owner.record.id)
        for name, peer in list(self._peers.items()):
            if peer.gone:
                del self._peers[name]
        if isinstance(request, Hello):
            return self._hello()
        if isinstance(request, Start):
            return await self.start(request)
        if isinstance(request, ListPeers):
            for each in self._peers.values():
                await talk.item(_described(each))
            return {}
        assert isinstance(request, OfPeer)
        peer = self._find(request.peer)
        if isinstance(request, Stop):
            await self._stop(peer, request)
            return {}
        await self._came_up(peer)
        assert peer.sandbox is not None
        try:
            if isinstance(request, Exec):
                return await _exec(peer.sandbox, request, talk)
            if isinstance(request, Logs):
                await _logs(peer.sandbox, request, talk)
                return {}
            assert isinstance(request, OfFile)
            return await _file(peer.sandbox, request, talk)
        except (WrongState, SandboxDied, SandboxNotFound) as error:
            raise Refuse(f"sandbox {peer.share.name!r} does not run") from error

    def _hello(self) -> dict[str, Any]:
        record = self._owner.record
        return {
            "version": 1, "sandlot": _version(), "name": record.name, "id": record.id,
            "grant": self.grant.to_json(),
        }  # fmt: skip

    def _find(self, name: str) -> _Peer:
        for each in self._peers.values():
            known = each.sandbox.id if each.sandbox is not None else ""
            if name in (each.share.name, known) and name:
                return each
        # The same whether there is one on the host or not.
        raise Refuse(f"this sandbox has started none that is named {name[:64]!r}")

    # -- start and stop --------------------------------------------------------------------

    async def start(self, request: Start) -> dict[str, Any]:
        """Start a peer; it is there also when who asked does not wait for it.

        Raises:
            Refuse: the grant does not allow it.
        """
        shares = [each.share for each in self._peers.values()]
        chosen = readable_name()
        outcome = permit(request, self.grant, shares, chosen)
        if isinstance(outcome, Refusal):
            raise Refuse(outcome.reason, hint=outcome.hint)
        if self._closing is not None:
            raise Refuse("this sandbox is stopping")
        # Nothing was awaited since the check: a thousand at once are counted one after the other.
        peer = self._peers[outcome.name] = _Peer(outcome.share, outcome)
        peer.starting = asyncio.get_running_loop().create_task(self._start(peer))
        await self._came_up(peer)
        return _described(peer)

    async def _came_up(self, peer: _Peer) -> None:
        if peer.starting is None:
            return
        try:
            await asyncio.shield(peer.starting)
        except asyncio.CancelledError:
            if peer.starting.cancelled():
                name = peer.share.name
                raise Refuse(f"sandbox {name!r} was stopped while it started") from None
            peer.starting.add_done_callback(_retrieve)  # who asked has gone away
            raise

    async def _start(self, peer: _Peer) -> None:
        try:
            sandbox = await self._made(peer.permit)
            peer.sandbox = sandbox
            await sandbox.start()
            if peer.permit.command and not sandbox.record.detached:
                await self._run_command(peer, sandbox)
            self._owner.event("lent", peer=sandbox.name)
        except BaseException as error:
            try:
                if peer.sandbox is not None:
                    await peer.sandbox.remove()
                self._peers.pop(peer.share.name, None)
            except (SandboxError, OSError):
                pass  # something of it is left, so it counts until it is stopped
            if isinstance(error, Refuse):
                raise  # a plugin's word
            if isinstance(error, SandboxError):
                # What went wrong on the host is for the host's people.
                name, kind = peer.share.name, type(error).__name__
                self._owner.event("lent", failed=f"{name}: {error.message}"[:500])
                raise Refuse(f"sandbox {name!r} could not be started: {kind}") from error
            raise

    async def _made(self, given: Permit) -> Sandbox:
        from sandlot.sandbox.sandbox import Sandbox
        from sandlot.sandbox.secrecy import recorded_secrets

        owner, record = self._owner, self._owner.record
        all_secrets = recorded_secrets(record, owner.secrets) if given.secrets else {}
        detached = self.grant.lifetime == "detached"
        looks = bool(given.secrets or record.inspect)
        name = f"{record.name[:LONGEST_OWNER]}.{given.name}"
        for last in (False, True):
            try:
                return await Sandbox._make(
                    name=name, image=given.image, memory=given.memory, cpus=given.cpus,
                    disk=given.disk, env=given.env, workdir=given.workdir, user=given.user,
                    hostname=given.name, detached=detached, auto_remove=not detached, hold=True,
                    command=given.command if detached else (), network=given.network,
                    secrets={each: all_secrets[each] for each in given.secrets},
                    upstream_ca=record.upstream_ca if looks else "",
                    # What the owner's own connections are held to, its peers' are too.
                    hooks=owner.hooks, inherited=(record.plugins, owner.plugins),
                    inspect=record.inspect, dns=record.dns, pids=record.pids,
                    connections=record.connections, bandwidth=record.bandwidth,
                    runtime=given.runtime, started_by=record.id,
                )  # fmt: skip
            except NameTaken:
                if last:
                    raise
                # By somebody else's, of which the guest need not know.
                name = f"{name[:58]}-{os.urandom(2).hex()}"
        raise AssertionError("unreachable")

    async def _run_command(self, peer: _Peer, sandbox: Sandbox) -> None:
        owner = sandbox._owner
        assert owner is not None
        session = await owner.session()
        command = make_command(sandbox.record, list(peer.permit.command), detached=True)
        if owner.plugged is not None:
            owner.main = await owner.plugged.start_job(session, command)
        else:
            owner.main = await session.start_job(command)
        watch = await session.watch(owner.main)
        log = OutputLog(sandbox.folder.log)

        async def follow() -> None:
            try:
                with contextlib.suppress(SandboxError):
                    status = await log.follow(watch)
                    if status is not None:
                        owner.note_exit(status.exit_code, status.signal, oom=status.out_of_memory)
            finally:
                log.close()

        peer.logging = asyncio.get_running_loop().create_task(follow())

    async def _stop(self, peer: _Peer, request: Stop) -> None:
        if peer.ending is None:
            work = self._end(peer, request.grace, kill=request.kill)
            peer.ending = asyncio.get_running_loop().create_task(work)
            peer.ending.add_done_callback(_retrieve)
        await asyncio.shield(peer.ending)

    async def _end(self, peer: _Peer, grace: float | None, *, kill: bool) -> None:
        """Stop and remove a peer; what it took is free when nothing of it is left."""
        try:
            if peer.starting is not None:
                peer.starting.cancel()
                await asyncio.wait([peer.starting])
            if peer.sandbox is not None:
                if not kill:
                    with contextlib.suppress(SandboxError):
                        await peer.sandbox.stop(grace=grace)
                await peer.sandbox.remove()
            if peer.logging is not None:
                await asyncio.wait([peer.logging])
        except BaseException:
            peer.ending = None  # it is still there, and may be stopped again
            raise
        if self._peers.get(peer.share.name) is peer:
            del self._peers[peer.share.name]

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """The sandbox has stopped: so do those that it started, unless they live on."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def closed(self) -> None:
        """The same, and wait for their ends, a little."""
        self.close()
        await asyncio.wait([asyncio.ensure_future(self.ended())], timeout=PEERS_PATIENCE)

    async def _close(self) -> None:
        if self.grant.lifetime == "owner":
            ends = [self._end(each, None, kill=True) for each in list(self._peers.values())]
            await asyncio.gather(*ends, return_exceptions=True)

    async def ended(self) -> None:
        """Wait until what this sandbox started is gone."""
        if self._closing is not None:
            await asyncio.shield(self._closing)


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _permitted(record: SandboxRecord, share: Share) -> Permit:
    """What a peer that is found again was permitted, as its record has it."""
    return Permit(
        name=share.name, image=record.image, command=tuple(record.command), memory=record.memory,
        cpus=record.cpus, disk=record.disk, env=record.env, workdir=record.workdir,
        user=record.user, network=Network.from_json(record.network),
        secrets=tuple(record.secrets), runtime=None, share=share,
    )  # fmt: skip


def _described(peer: _Peer) -> dict[str, Any]:
    """A peer, as the guest sees it."""
    sandbox = peer.sandbox
    starting = peer.starting is not None and not peer.starting.done()
    return {
        "name": peer.share.name, "id": sandbox.id if sandbox is not None else "",
        "image": peer.permit.image, "memory": peer.permit.memory,
        "status": "starting" if starting or sandbox is None else sandbox.status,
    }  # fmt: skip


async def _exec(sandbox: Sandbox, request: Exec, talk: Conversation) -> dict[str, Any]:
    process = await sandbox.spawn(
        list(request.command), stdin=request.stdin, env=request.env or None,
        workdir=request.workdir, user=request.user, timeout=request.timeout or None,
    )  # fmt: skip

    async def feed() -> None:
        with contextlib.suppress(BrokenPipeError):
            async for data in talk.inputs():
                await process.stdin.write(data)
            process.stdin.close()

    async def carry(kind: Kind) -> None:
        stream = process.stdout if kind is Kind.OUTPUT else process.stderr
        while data := await stream.read(PIECE):
            await talk.send(kind, data)

    # Leaving the block kills it, also when the guest has gone away.
    async with process:
        feeding = asyncio.get_running_loop().create_task(feed()) if request.stdin else None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(carry(Kind.OUTPUT))
                group.create_task(carry(Kind.ERRORS))
            status = await process.wait()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
    return {
        "exit_code": status.exit_code, "signal": status.signal, "timed_out": status.timed_out,
        "out_of_memory": status.out_of_memory,
    }  # fmt: skip


async def _logs(sandbox: Sandbox, request: Logs, talk: Conversation) -> None:
    async with contextlib.aclosing(
        sandbox.logs(follow=request.follow, tail=request.tail)
    ) as entries:
        async for entry in entries:
            await talk.send(Kind.ERRORS if entry.stream == "stderr" else Kind.OUTPUT, entry.data)


async def _file(sandbox: Sandbox, request: OfFile, talk: Conversation) -> dict[str, Any]:
    files, path = sandbox.files, request.path
    if isinstance(request, ReadFile):
        async with await files.open(path) as file:
            while data := await file.read(PIECE):
                await talk.send(Kind.OUTPUT, data)
    elif isinstance(request, WriteFile):
        await files.write(path, talk.inputs(), mode=request.mode, parents=request.parents)
    elif isinstance(request, ListFiles):
        # As they come: a peer may have more of them than the host could hold.
        async for info in files._entries(path, 0, None):
            await talk.item(
                {
                    "path": info.path, "type": info.type, "size": info.size, "mode": info.mode,
                    "mtime": info.mtime, "target": info.target,
                }
            )  # fmt: skip
    elif isinstance(request, MakeFolder):
        await files.mkdir(path, parents=True)
    else:
        assert isinstance(request, RemoveFile)
        await files.remove(path, recursive=request.recursive)
    return {}
