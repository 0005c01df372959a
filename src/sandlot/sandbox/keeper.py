"""The keeper: the process that runs one detached sandbox. No daemon: it ends with its sandbox.

`python -m sandlot.sandbox.keeper NAME REPORT LOCK VALUES` reports on the descriptor REPORT, as one
line of JSON, that the sandbox runs or why it does not. LOCK is the descriptor of the owner's lock, which
who starts a keeper takes for it: so at no moment is a sandbox that is about to run without owner.
VALUES is a pipe with the values of secrets that a program gave.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, SandboxError, SandboxNotFound, WrongState
from sandlot.guest.jobs import JobWatch
from sandlot.guest.process import ExitStatus
from sandlot.sandbox.execution import make_command
from sandlot.sandbox.faults import described, rebuilt
from sandlot.sandbox.host import Host
from sandlot.sandbox.log import OutputLog
from sandlot.sandbox.owner import Owner
from sandlot.sandbox.policy import Backoff, RestartPolicy
from sandlot.state.lock import FileLock

if TYPE_CHECKING:
    from sandlot.secrets import Secret

PIPE = 60 * 1024  # what a pipe surely holds


async def start_keeper(
    name: str, lock: FileLock | None = None, secrets: Mapping[str, Secret] | None = None
) -> None:
    """Start a keeper for a stopped sandbox and wait until the sandbox runs.

    Raises:
        WrongState: it runs already.
        SandboxError: what the keeper says went wrong.
    """
    folder = Host.current().sandboxes.find(name)
    name = folder.record().name
    mine = lock or FileLock.take(folder.lock_path)
    if mine is None:
        if not folder.path.exists():
            raise SandboxNotFound(f"no sandbox is named {name!r}")
        raise WrongState(f"sandbox {name!r} is running already")
    reader, writer = os.pipe()
    hidden = _values(secrets)
    loop = asyncio.get_running_loop()
    try:
        with (folder.path / "keeper.log").open("wb") as log:
            popen = await asyncio.to_thread(
                subprocess.Popen,
                [sys.executable, "-m", "sandlot.sandbox.keeper", name, str(writer),
                 str(mine.descriptor), str(hidden)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(writer, mine.descriptor, hidden), start_new_session=True, cwd="/",
            )  # fmt: skip
        mine.hand_over()
    except BaseException as error:
        os.close(reader)
        mine.release()
        if isinstance(error, FileNotFoundError) and not folder.path.exists():
            raise SandboxNotFound(f"sandbox {name!r} was removed while it started") from None
        raise
    finally:
        os.close(writer)
        os.close(hidden)
    stream = asyncio.StreamReader()
    with os.fdopen(reader, "rb") as pipe:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
        try:
            line = await stream.readline()
        except asyncio.CancelledError:
            popen.terminate()  # nobody waits for it any more
            popen.returncode = 0
            raise
        finally:
            transport.close()
    if not line:
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(popen.wait, 10)
        raise SandboxError(
            f"the keeper of sandbox {name!r} ended unexpectedly",
            hint=f"see {folder.path / 'keeper.log'}; `sandlot start {name}` tries again",
        )
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        await asyncio.to_thread(popen.wait)
        raise rebuilt(answer)
    # The keeper lives on by itself; Popen would only warn that it still does.
    popen.returncode = 0


def _values(secrets: Mapping[str, Secret] | None) -> int:
    """A descriptor from which the values of secrets that a program gave can be read once. It is
    memory without a name: they are in no argument, no variable and no file."""
    data = b""
    if secrets:
        from sandlot.sandbox.secrecy import packed

        data = packed(secrets)
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        if len(data) > PIPE:
            os.close(reading)
            raise ConfigError("the values of the secrets are longer than 60 KiB together")
        file.write(data)
    return reading


class Keeper:
    """Runs a sandbox, and its main command again as its restart policy says."""

    def __init__(self, host: Host, owner: Owner, report: int) -> None:
        self._host = host
        self._owner = owner
        self._report: int | None = report
        self._policy = RestartPolicy.parse(owner.record.restart)
        self._log = OutputLog(owner.folder.log)
        owner.stays = self._policy.restarts
        self.code = 0

    async def run(self) -> None:
        """Until the sandbox has stopped for good."""
        owner, backoff, count = self._owner, Backoff(), 0
        while True:
            began = time.monotonic()
            failed = await self._once()
            if owner.stopping or not self._policy.again(failed, count):
                break
            count += 1
            owner.restarting(count)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.delay(time.monotonic() - began)):
                    await owner.stop_asked.wait()
            if owner.stopping:
                break
        owner.finish()
        if owner.plugged is not None:
            await owner.plugged.settled()
        self._log.close()

    async def _once(self) -> bool:
        """One machine, from its start to its end; whether it ended badly."""
        owner, record = self._owner, self._owner.record
        owned = await owner.bring_up()
        watch = None
        if owner.main:
            # It runs since before the machine was saved: its log goes on here.
            watch = await owned.session.watch(owner.main, offset=None)
        elif record.command:
            command = make_command(
                record, record.command, tty=(24, 80) if record.tty else None,
                stdin=record.stdin or record.tty, detached=True,
            )  # fmt: skip
            if owner.plugged is None:
                owner.main = await owned.session.start_job(command)
            else:
                owner.main = await owner.plugged.start_job(owned.session, command)
            watch = await owned.session.watch(owner.main)
            owner.folder.update_run_state(main=owner.main)
        self.say({"ok": record.name})
        if watch is None:
            await owner.gone.wait()
            return not (owner.owned or owned).wanted_end
        status = await self._follow(watch)
        owned = owner.owned or owned  # another one, if it has slept meanwhile
        failed = True
        if status is not None:
            self.code = status.exit_code
            owner.note_exit(status.exit_code, status.signal, oom=status.out_of_memory)
            failed = status.exit_code != 0
        elif owned.wanted_end:
            self.code = 137
            owner.note_exit(137, 9, oom=False)
        if owned.alive:
            await owned.shutdown(record.stop_grace)
        await owned.ended()
        return failed

    async def _follow(self, watch: JobWatch) -> ExitStatus | None:
        while True:
            with contextlib.suppress(SandboxError):
                return await self._log.follow(watch)
            if not self._owner.asleep:
                return None
            session = await self._owner.sleep.awake()
            if session is None:
                return None
            watch = await session.watch(self._owner.main, offset=watch.next_offset)

    def say(self, answer: dict[str, str]) -> None:
        """Tell who started this keeper how it went; only the first word counts."""
        if self._report is not None:
            report(self._report, answer)
            self._report = None

    async def fail(self, error: SandboxError) -> None:
        """The sandbox could not be started."""
        self._owner.stays = False
        if self._owner.alive:
            await self._owner.stop(0, kill=True, reason="did not start")
        self._owner.finish()
        if self._owner.plugged is not None:
            await self._owner.plugged.settled()
        self.say(described(error))


def report(descriptor: int, answer: dict[str, str]) -> None:
    """One line, and no more."""
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(answer).encode() + b"\n")
        os.close(descriptor)


async def keep(name: str, descriptor: int, lock: int, values: int) -> int:
    """Run a sandbox until it ends; the main command's exit status, or 0."""
    host = Host.current()
    with contextlib.suppress(OSError, ValueError):
        # Its memory has values, which no crash may write down.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        folder = host.sandboxes.find(name)
        with os.fdopen(values, "rb") as pipe:
            given = pipe.read()
        owner = Owner.take(host, folder, FileLock.adopt(lock, folder.lock_path))
        if owner.record.secrets:
            from sandlot.sandbox.secrecy import unpacked

            owner.secrets = unpacked(owner.record, given)
        owner.removes = owner.record.auto_remove
    except SandboxError as error:
        report(descriptor, described(error))
        return 125
    keeper = Keeper(host, owner, descriptor)
    loop = asyncio.get_running_loop()
    stops: set[asyncio.Task[None]] = set()

    def stop() -> None:
        stops.add(loop.create_task(owner.stop(owner.record.stop_grace)))

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await keeper.run()
    except SandboxError as error:
        await keeper.fail(error)
        keeper.code = 125
    await owner.peers_ended()
    if owner.record.auto_remove and not owner.kept:
        with contextlib.suppress(SandboxError):
            host.sandboxes.remove(folder, owner.left)
    return keeper.code


if __name__ == "__main__":
    name, *descriptors = sys.argv[1:]
    report_to, locked, values_from = map(int, descriptors)
    sys.exit(asyncio.run(keep(name, report_to, locked, values_from)))
