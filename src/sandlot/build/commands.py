"""One RUN: a machine for it, and what it wrote as a layer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import re
import secrets
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandlot.build.state import State, words
from sandlot.errors import BuildError, ConfigError, ExecError
from sandlot.image.packing import PackedLayer, pack_layer
from sandlot.image.tar import Member, read_tar
from sandlot.network.policy import Network
from sandlot.sandbox.sandbox import Sandbox
from sandlot.sandbox.sizes import parse_size

if TYPE_CHECKING:
    from sandlot.build.dockerfile import Run
    from sandlot.build.progress import BuildProgress
    from sandlot.guest.process import OutputStream
    from sandlot.image.store import ImageStore

# What the agent writes for the sandbox that it runs in, and mounts.
_OWN_FILES = frozenset({b"etc/hostname", b"etc/hosts", b"etc/machine-id", b"etc/resolv.conf"})
_OWN_FOLDERS = re.compile(rb"(?:dev|proc|sys)(?:/|$)")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a RUN gets: memory and disk in bytes or as text, processors, what it may reach."""

    memory: int | str = "2G"
    cpus: int = 1
    disk: int | str = "16G"
    network: Network | None = None


def command_of(state: State, run: Run) -> tuple[list[str], bytes | None]:
    """The words to run, and what they read on standard input.

    A lone heredoc is a script: for the shell, or for what its first line names.
    """
    if not run.heredocs or not run.shell:
        return list(words(state, run)), None
    line = run.words[0]
    first = run.heredocs[0]
    if len(run.heredocs) == 1 and re.fullmatch(
        rf"<<-?\s*(['\"]?){re.escape(first.name)}\1\s*", line
    ):
        if first.content.startswith("#!"):
            program = first.content.split("\n", 1)[0][2:].strip().split(None, 1)
            if not program:
                raise BuildError("the script names no program in its first line", line=run.line)
            return [*program, "/dev/stdin"], first.content.encode()
        return [*state.shell, first.content], None
    texts = "".join(f"{each.content}{each.name}\n" for each in run.heredocs)
    return [*state.shell, f"{line}\n{texts}"], None


async def run_command(
    store: ImageStore, state: State, run: Run, machine: Machine, progress: BuildProgress
) -> PackedLayer | None:
    """Run it over the state's image; what it changed, or None when that is nothing.

    Raises BuildError when it fails, and what `Sandbox.create` raises.
    """
    argv, script = command_of(state, run)
    config = state.config
    sandbox = await Sandbox._make(
        name=f"build-{secrets.token_hex(6)}", image=state.image, memory=machine.memory,
        cpus=machine.cpus, disk=machine.disk, hostname="build", auto_remove=True, pull="never",
        network=Network.deny_all() if run.network == "none" else machine.network,
    )  # fmt: skip
    async with sandbox:
        await sandbox.start()
        try:
            process = await sandbox.spawn(
                argv, stdin=script is not None, env=state.scope.for_run(),
                workdir=config.working_dir or "/", user=config.user or "0",
            )  # fmt: skip
        except ExecError as error:
            raise BuildError(
                f"`{run.text[:200]}` cannot be started: {error.message}", hint=error.hint,
                line=run.line, exit_code=error.exit_code,
            ) from error  # fmt: skip
        except ConfigError as error:  # the user: WORKDIR makes its folder
            raise BuildError(
                f"`{run.text[:200]}` cannot be started: {error.message}", line=run.line,
                hint=f"USER in line {state.user_line} names it" if state.user_line else error.hint,
            ) from error  # fmt: skip

        async def follow(name: str, stream: OutputStream) -> None:
            while data := await stream.read(1 << 16):
                progress.output(name, data)

        async with asyncio.TaskGroup() as group:
            group.create_task(follow("stdout", process.stdout))
            group.create_task(follow("stderr", process.stderr))
            if script is not None:
                with contextlib.suppress(ConnectionError):
                    await process.stdin.write(script)
                process.stdin.close()
        status = await process.wait()
        progress.finish_output()
        if status.exit_code != 0:
            what = (
                "ran out of memory" if status.out_of_memory else f"failed with {status.exit_code}"
            )
            raise BuildError(
                f"`{run.text[:200]}` {what}", line=run.line, exit_code=status.exit_code,
                hint=_hint(sandbox, status.out_of_memory),
            )  # fmt: skip
        limit = 2 * parse_size(machine.disk, "disk") + (1 << 30)
        return await _written(store, sandbox.files.upper_layer(), limit)


def _hint(sandbox: Sandbox, out_of_memory: bool) -> str:
    """What mends a command that failed, as far as it is known."""
    if out_of_memory:
        return "give it more with --memory"
    refused = {flow.destination: flow.hint for flow in sandbox.network.flows() if flow.hint}
    if not refused:
        return ""
    rules = " ".join(f"--{rule}" for rule in list(refused.values())[:3])
    return f"the policy refused {', '.join(list(refused)[:3])}; allow with {rules}"


async def _written(
    store: ImageStore, stream: AsyncGenerator[bytes, None], limit: int
) -> PackedLayer | None:
    """What was written over the image, as a layer in the store."""
    reader = _Bridge(asyncio.get_running_loop(), stream, limit)

    def pack() -> PackedLayer | None:
        count = 0
        with contextlib.suppress(_Nothing), pack_layer(store.blobs) as packer:
            for member in _own_left_out(read_tar(reader)):
                packer.add(member)
                count += 1
            if not count:
                raise _Nothing
        return packer.layer if count else None

    work = asyncio.ensure_future(asyncio.to_thread(pack))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        reader.stop()
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()
        raise
    finally:
        await stream.aclose()


def _own_left_out(members: Iterator[Member]) -> Iterator[Member]:
    for member in members:
        path = member.path.strip(b"/").removeprefix(b"./")
        plain = path.replace(b"/.wh.", b"/").removeprefix(b".wh.")
        if plain not in _OWN_FILES and not _OWN_FOLDERS.match(plain) and path not in (b"", b"."):
            yield member


class _Nothing(Exception):
    pass


class _Bridge:
    """Lets a thread read what a coroutine gives, at most `limit` bytes of it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stream: AsyncGenerator[bytes, None], limit: int
    ) -> None:  # fmt: skip
        self._loop = loop
        self._stream = stream
        self._left = limit
        self._data = memoryview(b"")
        self._future: concurrent.futures.Future[bytes | None] | None = None
        self._stopped = False

    def read(self, size: int, /) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        pieces: list[memoryview] = []
        while size:
            if not self._data and not self._more():
                break
            piece, self._data = self._data[:size], self._data[size:]
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _more(self) -> bool:
        """Wait for the next piece; False at the end."""
        while not self._data:
            self._future = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            if self._stopped:
                self._future.cancel()
            piece = self._future.result()
            if piece is None:
                return False
            self._left -= len(piece)
            if self._left < 0:
                raise BuildError("the sandbox sent more than its disk can hold")
            self._data = memoryview(piece)
        return True

    async def _next(self) -> bytes | None:
        return await anext(self._stream, None)

    def stop(self) -> None:
        """End the reading, also one that waits."""
        self._stopped = True
        if self._future is not None:
            self._future.cancel()
