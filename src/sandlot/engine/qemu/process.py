"""Starting QEMU confined, and seeing it end."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from sandlot.engine.config import DISK_OFFSET
from sandlot.errors import EngineUnavailable

# The death signal comes when the *thread* that forked ends, so one thread that lives as long as
# the process forks them all.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandlot-spawn")

# What QEMU and its libraries read, besides the files that are named to it.
_SYSTEM_PATHS = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc",
    "/sys/devices/system",
    "/nix",
)
_SYSTEM_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/kvm")


def launcher() -> Path | None:
    """The launcher for this host, or None where there is none (only Linux has one)."""
    if sys.platform != "linux":
        return None
    path = Path(__file__).parent.parent / "bin" / f"launch-{platform.machine()}"
    if not path.exists():
        raise EngineUnavailable(
            f"the package has no launcher for {platform.machine()}",
            hint="install Sandlot with `pip install .`, which builds it",
        )
    return path


def guarded() -> bool:
    """Whether `confined` keeps holes out of everything below DISK_OFFSET of any file.

    A launcher that cannot do so starts nothing, so this needs no trial.
    """
    return launcher() is not None


def confined(argv: Sequence[str], reads: Sequence[Path], writes: Sequence[Path]) -> list[str]:
    """The command that becomes `argv` with no way to other paths, dying with this process."""
    program = launcher()
    if program is None:
        return list(argv)
    own = str(Path(os.path.realpath(argv[0])).parent.parent)
    command = [str(program), "--parent", str(os.getpid()), "--guard-below", str(DISK_OFFSET)]
    for path in (*_SYSTEM_PATHS, own, *map(str, reads)):
        command += ["--read", path]
    for path in (*_SYSTEM_DEVICES, *map(str, writes)):
        command += ["--write", path]
    return [*command, "--", *argv]


class MonitorProcess:
    """One QEMU. Made by `start`; its end is seen by `wait`, and it never outlives this process."""

    def __init__(self, popen: subprocess.Popen[bytes], messages: IO[bytes]) -> None:
        self._popen = popen
        self._messages = messages
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd: int | None = None
        self._waiter: asyncio.Task[None] | None = None
        self.pid = popen.pid
        self._watch()

    @classmethod
    async def start(
        cls, argv: Sequence[str], descriptors: Sequence[int], reads: Sequence[Path],
        writes: Sequence[Path],
    ) -> MonitorProcess:  # fmt: skip
        """Start `argv` with these descriptors and no others.

        Raises:
            EngineUnavailable: the program cannot be started.
        """
        messages = tempfile.TemporaryFile()
        command = confined(argv, reads, writes)

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages,
                pass_fds=tuple(descriptors), start_new_session=True,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            )  # fmt: skip

        spawned = asyncio.get_running_loop().run_in_executor(_spawner, spawn)
        try:
            popen = await asyncio.shield(spawned)
        except asyncio.CancelledError:
            spawned.add_done_callback(_end_unwanted)
            messages.close()
            raise
        except OSError as error:
            messages.close()
            raise EngineUnavailable(f"cannot start {argv[0]}: {error.strerror}") from error
        return cls(popen, messages)

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:
                self._pidfd = None
        if self._pidfd is not None:
            asyncio.get_running_loop().add_reader(self._pidfd, self._reap)
        else:
            self._waiter = asyncio.get_running_loop().create_task(self._wait_in_thread())

    async def _wait_in_thread(self) -> None:
        await asyncio.to_thread(self._popen.wait)
        self._reap()

    def _reap(self) -> None:
        status = self._popen.poll()
        if status is None:
            return
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if not self._ended.done():
            self._ended.set_result(status)

    @property
    def exit_status(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait for the end; returns the exit status."""
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        """SIGKILL. Does nothing when it has ended."""
        if not self._ended.done():
            self._popen.send_signal(signal.SIGKILL)

    def messages(self) -> str:
        """The last of what QEMU said, at most 4 KiB."""
        if self._messages.closed:
            return ""
        size = self._messages.seek(0, os.SEEK_END)
        self._messages.seek(max(0, size - 4096))
        return self._messages.read().decode(errors="replace")

    def close(self) -> None:
        """Release what is left after the end."""
        self._messages.close()


def _end_unwanted(spawned: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    if not spawned.cancelled() and spawned.exception() is None:
        popen = spawned.result()
        popen.kill()
        popen.wait()


def make_window(size: int) -> int:
    """A fresh file of `size` bytes for the memory window; returns its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("sandlot-window", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Our end, not blocking, and the end that QEMU inherits."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs
