"""Templates: a machine saved just after its agent came up, before it had an image.

One template serves every image: it depends on the kernel, the agent, the memory, the processors
and the engine only. `TemplateStore.get` finds it, or boots it once for all programs that wait.
Whatever can be mounted without the image is mounted in it, an empty writable disk too
(docs/design/0009-mounted-before.md): a sandbox that is new starts with a copy of that disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sandlot.engine.accelerator import boot_identity
from sandlot.engine.base import Engine, Machine
from sandlot.engine.config import DEVICE_SIZE, DISK_OFFSET, Disk, MachineConfig
from sandlot.errors import BootError, ExecError, GuestProtocolError, SandboxDied, SandboxError
from sandlot.guest.agent import agent_path
from sandlot.guest.channel import Channel
from sandlot.guest.initramfs import build_initramfs
from sandlot.guest.kernel import Kernel
from sandlot.guest.session import Command, GuestSession
from sandlot.image.erofs import ErofsWriter
from sandlot.image.tree import Tree
from sandlot.snapshot.integrity import digest, digest_sparse
from sandlot.state.lock import FileLock, locked
from sandlot.state.records import write_json
from sandlot.state.sparse import copy_sparse
from sandlot.wire.frames import FIRST_TOKEN

FORMAT = 6
BOOT_PATIENCE = 60.0  # seconds until the watchdog ends a boot
BOOT_TRIES = 2
KEEP_UNUSED = 14 * 24 * 3600.0  # seconds after which a template nobody used is removed
Tell = Callable[[str], None]
BlankDisk = Callable[[], Awaitable[Path]]  # makes, once, an empty file system for the templates


@dataclass(frozen=True)
class Template:
    """A saved machine. `token` begins a session with it; `disk_size` (bytes) is its disk's."""

    folder: Path
    memory: int
    cpus: int
    token: bytes
    disk_size: int

    @property
    def state(self) -> Path:
        """The device state."""
        return self.folder / "state"

    @property
    def disk(self) -> Path:
        """The empty disk as it was when the machine was saved: with its file system mounted."""
        return self.folder / "disk"

    @property
    def ram(self) -> Path:
        """The memory."""
        return self.folder / "ram"

    def config(
        self, ram: Path, image: Path, disk: Path, disk_size: int, *, fresh: bool,
        layers: tuple[Path, ...] = (),
    ) -> MachineConfig:  # fmt: skip
        """The machine that a restore makes: this memory by some name, the description of an image's
        device, and a writable disk (bytes) over the layers that it has.

        A `fresh` disk is a copy of the template's, and the machine goes on with it. Any other is
        a disk more; the machine does not touch the mounted one then.
        """
        if fresh:
            staged = Disk(path=disk, readonly=False, size=self.disk_size, offset=DISK_OFFSET)
            other = Disk(path=None, readonly=False)
        else:
            staged = Disk(path=self.disk, readonly=True, size=self.disk_size, offset=DISK_OFFSET)
            other = Disk(
                path=disk, readonly=False, size=disk_size, offset=DISK_OFFSET, layers=layers
            )
        return MachineConfig(
            memory=self.memory, cpus=self.cpus, ram=ram,
            disks=(Disk(path=image, readonly=True, concatenated=True), staged, other),
        )  # fmt: skip


def kernel_arguments(engine: Engine, config: MachineConfig) -> str:
    """The guest kernel's command line."""
    words = [engine.console_argument(), *_arguments(engine.accelerator)]
    address = engine.window_address(config)
    if address is not None:
        words.append(f"memmap={config.window // 1024}K${address:#x}")
        words.append(f"sandlot.window={config.window}@{address}")
    return " ".join(words)


def _arguments(accelerator: str) -> list[str]:
    """What does not depend on the machine's size."""
    words = [
        "quiet", "loglevel=4", "panic=-1", "reboot=t",
        "random.trust_cpu=on", "cryptomgr.notests", "8250.nr_uarts=1", "i8042.noaux",
        "i8042.nokbd", "no_timer_check", "audit=0", "nowatchdog",
        # Without those that ask at every file and program for a policy which nobody loads.
        "lsm=landlock,lockdown,yama,bpf",
        # The kernel hands it to process 1: the agent's runtime sends itself no signals.
        "GODEBUG=asyncpreemptoff=1",
        "psi=0",
        # A page that was given back comes back with any contents: none may be taken for zeros.
        "init_on_free=0", "page_poison=0",
    ]  # fmt: skip
    if accelerator == "tcg":
        # An emulated processor does not speculate; and QEMU translates code again for every address
        # it is mapped at: with randomised addresses a fork and exec costs 17 ms instead of 3.
        # Nothing watches an emulated clock; and huge pages only make small programs large.
        words += ["mitigations=off", "norandmaps", "tsc=reliable", "transparent_hugepage=madvise"]
        words += ["init_on_alloc=0"]
    return words


class TemplateStore:
    """The templates of one state directory."""

    def __init__(
        self, folder: Path, kernels: Path, machine: str, blank_disk: BlankDisk, *,
        tell: Tell = lambda _: None,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._kernels = kernels
        self._machine = machine
        self._blank_disk = blank_disk
        self._tell = tell
        self._known: dict[str, tuple[Template, tuple[int, ...]]] = {}

    async def get(self, engine: Engine, kernel: Kernel, *, memory: int, cpus: int) -> Template:
        """The template for machines of `memory` bytes and `cpus` processors.

        Raises:
            BootError: the guest did not come up, twice.
        """
        agent = agent_path(self._machine)
        key = self._key(engine, kernel, agent, memory, cpus)
        found = self._usable(key, memory, cpus)
        if found is not None:
            return found
        async with locked(self._folder / f"{key}.lock"):
            found = self._usable(key, memory, cpus)
            if found is not None:
                return found
            for half_made in self._folder.glob(f"{key}.new*"):
                shutil.rmtree(half_made, ignore_errors=True)  # of a program that was killed
            self._tell("preparing the machine (once)")
            await self._build(key, engine, kernel, agent, memory, cpus)
            self._forget_unused()
            found = self._usable(key, memory, cpus)
        if found is None:
            raise BootError("the template was damaged while it was made", hint="is the disk full?")
        return found

    def discard(self, template: Template) -> None:
        """Forget a template that did not come to life, so that the next `get` makes it anew."""
        shutil.rmtree(template.folder, ignore_errors=True)

    def _key(self, engine: Engine, kernel: Kernel, agent: Path, memory: int, cpus: int) -> str:
        status = kernel.image.stat()
        what = (
            FORMAT, engine.identity, kernel.name, status.st_size, status.st_mtime_ns,
            digest(agent), memory, cpus, " ".join(_arguments(engine.accelerator)),
        )  # fmt: skip
        return hashlib.sha256(repr(what).encode()).hexdigest()[:24]

    # -- trust -----------------------------------------------------------------------------

    def _usable(self, key: str, memory: int, cpus: int) -> Template | None:
        """The template if it is whole. Its memory is read in full once per boot of the host."""
        folder = self._folder / key
        try:
            marks = _marks(folder)
            known = self._known.get(key)
            if known is not None and known[1] == marks:
                return known[0]
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest["marks"] != list(marks) or manifest["state"] != digest(folder / "state"):
                return None
            if manifest["boot"] != boot_identity():
                for name in ("ram", "disk"):
                    if manifest[name] != digest_sparse(folder / name):
                        return None
                manifest["boot"] = boot_identity()
                write_json(folder / "manifest.json", manifest)
            os.utime(folder)  # the time of the last use, for `_forget_unused`
            size = (folder / "disk").stat().st_size - DISK_OFFSET
            template = Template(folder, memory, cpus, bytes.fromhex(manifest["token"]), size)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._known[key] = (template, marks)
        return template

    def _forget_unused(self) -> None:
        for folder in [f for f in self._folder.iterdir() if f.is_dir()]:
            lock = FileLock.take(folder.with_name(f"{folder.name.partition('.new')[0]}.lock"))
            if lock is None:
                continue
            try:
                old = time.time() - folder.stat().st_mtime > KEEP_UNUSED
                if old or ".new" in folder.name:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                lock.release()

    def known_digest(self, memory: Path) -> str:
        """The digest of a template's memory, which has another name here; empty when it is not one,
        or not known to be what it was."""
        for folder in self._folder.iterdir():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                if (folder / "ram").samefile(memory):
                    manifest = json.loads((folder / "manifest.json").read_text())
                    right = manifest["boot"] == boot_identity()
                    if right and manifest["marks"] == list(_marks(folder)):
                        return str(manifest["ram"])
        return ""

    # -- making ----------------------------------------------------------------------------

    async def _build(
        self, key: str, engine: Engine, kernel: Kernel, agent: Path, memory: int, cpus: int
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"{key}.new", dir=self._folder))
        try:
            initrd = folder / "initrd"
            initrd.write_bytes(await asyncio.to_thread(build_initramfs, kernel, agent))
            with (folder / "ram").open("wb") as ram:
                ram.truncate(memory)
            image = _blank_image(folder / "image")
            blank = await self._blank_disk()
            size = blank.stat().st_size
            disk = Disk(path=folder / "disk", readonly=False, size=size, offset=DISK_OFFSET)
            config = MachineConfig(
                memory=memory, cpus=cpus, ram=folder / "ram", kernel=kernel.image, initrd=initrd,
                disks=(
                    Disk(path=image, readonly=True), disk, Disk(path=None, readonly=False),
                ),
            )  # fmt: skip
            token = await self._boot(engine, config, folder / "state", blank)
            initrd.unlink()
            image.unlink()
            await asyncio.to_thread(_seal, folder, token)
            target = self._folder / key
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _boot(self, engine: Engine, config: MachineConfig, state: Path, blank: Path) -> bytes:
        """Boot, wait for the agent, save; a watchdog ends a boot that hangs and tries once more."""
        cmdline = kernel_arguments(engine, config)
        config = dataclasses.replace(config, cmdline=cmdline)
        for left in reversed(range(BOOT_TRIES)):
            copy_sparse(blank, state.with_name("disk"), at=DISK_OFFSET)
            machine = await engine.boot(config, state)
            try:
                return await _save_when_up(machine)
            except (SandboxDied, GuestProtocolError) as error:
                if not left:
                    raise BootError(
                        f"the guest did not come up: {error.message}", command=machine.command,
                        console_tail=machine.console_tail(), hint="see `sandlot doctor`",
                    ) from error  # fmt: skip
            finally:
                await machine.close()
        raise AssertionError("unreachable")


async def cold_boot(
    store: TemplateStore, engine: Engine, kernel: Kernel, *, memory: int, cpus: int
) -> None:
    """Make a template anew even if there is one; for benchmarks and tests."""
    agent = agent_path(store._machine)
    key = store._key(engine, kernel, agent, memory, cpus)
    async with locked(store._folder / f"{key}.lock"):
        await store._build(key, engine, kernel, agent, memory, cpus)


async def _save_when_up(machine: Machine) -> bytes:
    channel, token = await Channel.resynced(
        machine.channel, machine.window, FIRST_TOKEN, patience=BOOT_PATIENCE
    )
    try:
        # Warm: what the agent does for the first command is then in every child's memory.
        session = GuestSession(channel)
        await session.stage()
        for _ in range(3):
            try:
                process = await session.start(Command(argv=[b"/init"]))
                await process.wait()
            except ExecError:
                pass
        await machine.pause()
        await machine.save()
    except SandboxError as error:
        raise BootError(
            f"the machine could not be saved: {error.message}",
            console_tail=machine.console_tail(),
        ) from error
    finally:
        channel.close()
    return token


def _blank_image(path: Path) -> Path:
    """An image with nothing in it; its top directory is that of every image."""
    with path.open("x+b") as file:
        ErofsWriter().finish(Tree(), file.fileno())
        file.truncate(DEVICE_SIZE)
    return path


def _seal(folder: Path, token: bytes) -> None:
    """Write down what the template is, after its bytes are on the disk."""
    for name in ("ram", "state", "disk"):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    write_json(
        folder / "manifest.json",
        {
            "marks": list(_marks(folder)),
            "state": digest(folder / "state"),
            "ram": digest_sparse(folder / "ram"),
            "disk": digest_sparse(folder / "disk"),
            "boot": boot_identity(),
            "token": token.hex(),
        },
    )


def _marks(folder: Path) -> tuple[int, ...]:
    """What changes when somebody writes to the files: cheap enough to look at every time."""
    files = [(folder / name).stat() for name in ("ram", "state", "disk")]
    return tuple(value for file in files for value in (file.st_size, file.st_mtime_ns))
