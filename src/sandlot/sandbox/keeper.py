"""The keeper: the process that runs one detached sandbox. No daemon: it ends with its sandbox.

`python -m sandlot.sandbox.keeper NAME DESCRIPTOR` reports on the descriptor, as one line of JSON,
that the sandbox runs or why it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

from sandlot import errors
from sandlot.errors import SandboxError
from sandlot.sandbox.execution import make_command
from sandlot.sandbox.host import Host
from sandlot.sandbox.lifecycle import start_owned
from sandlot.sandbox.log import OutputLog

STOP_GRACE = 10.0


async def start_keeper(name: str) -> None:
    """Start a keeper for a stopped sandbox and wait until the sandbox runs.

    Raises:
        SandboxError: what the keeper says went wrong.
    """
    reader, writer = os.pipe()
    loop = asyncio.get_running_loop()
    try:
        folder = Host.current().sandboxes.find(name)
        with (folder.path / "keeper.log").open("ab") as log:
            popen = await asyncio.to_thread(
                subprocess.Popen,
                [sys.executable, "-m", "sandlot.sandbox.keeper", folder.record().name, str(writer)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writer,),
                start_new_session=True, cwd="/",
            )  # fmt: skip
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    stream = asyncio.StreamReader()
    with os.fdopen(reader, "rb") as pipe:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
        try:
            line = await stream.readline()
        finally:
            transport.close()
    if not line:
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(1)
        raise SandboxError(
            f"the keeper of sandbox {name!r} ended unexpectedly",
            hint=f"see {folder.path / 'keeper.log'}",
        )
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        await asyncio.to_thread(popen.wait)
        raise _rebuilt(answer)
    # The keeper lives on by itself; Popen would only warn that it still does.
    popen.returncode = 0


def _rebuilt(answer: dict[str, Any]) -> SandboxError:
    """The keeper's error as one of this process."""
    kind = getattr(errors, str(answer["error"]), SandboxError)
    try:
        return kind(answer["message"], hint=answer["hint"])
    except TypeError:
        return SandboxError(answer["message"], hint=answer["hint"])


def _report(descriptor: int, answer: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(answer).encode() + b"\n")
        os.close(descriptor)


async def keep(name: str, descriptor: int) -> int:
    """Run a sandbox until it ends; the main command's exit status, or 0."""
    host = Host.current()
    try:
        folder = host.sandboxes.find(name)
        record = folder.record()
        owned = await start_owned(host, folder)
        command = None
        if record.command:
            main = await owned.session.start_job(
                make_command(
                    record, record.command, tty=(24, 80) if record.tty else None,
                    stdin=record.stdin or record.tty, detached=True,
                )
            )  # fmt: skip
            command = await owned.session.watch(main)
            folder.update_run_state(main=main)
    except SandboxError as error:
        _report(
            descriptor,
            {"error": type(error).__name__, "message": error.message, "hint": error.hint},
        )
        with contextlib.suppress(UnboundLocalError):
            await owned.kill()
        return 125
    over = asyncio.Event()
    owned.on_end.append(over.set)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, over.set)
    _report(descriptor, {"ok": name})
    code = 0
    if command is None:
        await over.wait()
    else:
        log = OutputLog(folder.log)
        following = asyncio.create_task(log.follow(command))
        ending = asyncio.create_task(over.wait())
        await asyncio.wait([following, ending], return_when=asyncio.FIRST_COMPLETED)
        if following.done() and following.exception() is None:
            status = following.result()
            if status is not None:
                code = status.exit_code
                folder.note_exit(code)
        for task in (following, ending):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, SandboxError):
                await task
        log.close()
    if owned.alive:
        await owned.shutdown(STOP_GRACE)
    await owned.ended()
    if record.auto_remove:
        with contextlib.suppress(SandboxError):
            host.sandboxes.remove(folder)
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(keep(sys.argv[1], int(sys.argv[2]))))
