"""One QEMU machine: its process, channel, window, console and monitor as one thing."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
from pathlib import Path

from sandlot.engine.base import Machine, MachineStats
from sandlot.engine.config import DISK_OFFSET, MachineConfig
from sandlot.engine.memory import GuestMemory
from sandlot.engine.qemu.argv import (
    IGNORE_SHARED,
    Descriptors,
    build_argv,
    from_files,
    restore_script,
    window_address,
)
from sandlot.engine.qemu.console import Console
from sandlot.engine.qemu.monitor import Monitor
from sandlot.engine.qemu.overlay import empty_overlay
from sandlot.engine.qemu.process import MonitorProcess, guarded, make_window, socket_pair
from sandlot.engine.usage import usage
from sandlot.errors import BootError, SandboxError


class QemuMachine(Machine):
    """Made by `start`."""

    def __init__(
        self, process: MonitorProcess, channel: socket.socket, monitor: Monitor, console: Console,
        script: Console,
        window: mmap.mmap | None, state: int, command: list[str], config: MachineConfig,
    ) -> None:  # fmt: skip
        self.pid = process.pid
        self.channel = channel
        self.command = command
        self._window_map = window
        self.window = memoryview(window) if window is not None else None
        self._process = process
        self._monitor = monitor
        self._console = console
        console.told = self._tell
        self._script = script
        self._state = state
        self._config = config
        self._nodes: dict[int, str] = {}  # of disks that are written to an overlay
        self._prepared: dict[int, str] = {}
        self._overlays = 0

    @classmethod
    async def start(
        cls, config: MachineConfig, state: Path, *, binary: str, machine: str, accelerator: str,
        restore: bool, cpu: str | None = None,
    ) -> QemuMachine:  # fmt: skip
        """Start QEMU; every descriptor is closed again when that fails."""
        ours: list[socket.socket] = []
        theirs: list[socket.socket] = []
        files: list[int] = []
        window_map: mmap.mmap | None = None
        try:
            for _ in range(4):
                one, other = socket_pair()
                ours.append(one)
                theirs.append(other)
            flags = os.O_RDONLY if restore else os.O_RDWR | os.O_CREAT | os.O_TRUNC
            files.append(os.open(state, flags | os.O_CLOEXEC, 0o600))
            if window_address(config, machine) is not None:
                files.append(make_window(config.window))
                window_map = mmap.mmap(files[1], config.window)
            descriptors = Descriptors(
                channel=theirs[0].fileno(),
                monitor=theirs[1].fileno(),
                console=theirs[2].fileno(),
                script=theirs[3].fileno(),
                state=files[0],
                window=files[1] if len(files) > 1 else None,
            )
            argv = build_argv(
                config, binary=binary, machine=machine, accelerator=accelerator,
                descriptors=descriptors, restore=restore, cpu=cpu, guarded=guarded(),
            )  # fmt: skip
            if restore:
                ours[3].sendall(restore_script(files[0]))
            reads = [p for p in (config.kernel, config.initrd) if p is not None]
            disks = [(disk.opened, disk.readonly) for disk in config.disks]
            reads += [path for path, readonly in disks if path is not None and readonly]
            reads += [path for disk in config.disks for path in disk.layers]
            writes = [config.ram]
            writes += [path for path, readonly in disks if path is not None and not readonly]
            passed = [*(s.fileno() for s in theirs), *files, *config.served.values()]
            process = await MonitorProcess.start(argv, passed, reads, writes)
        except BaseException:
            for each in (*ours, *theirs):
                each.close()
            for descriptor in files:
                os.close(descriptor)
            if window_map is not None:
                window_map.close()
            raise
        for sock in theirs:
            sock.close()
        if len(files) > 1:
            os.close(files[1])
        channel, monitor, console, script = ours
        return cls(
            process, channel, Monitor(monitor), Console(console), Console(script), window_map,
            files[0], argv, config,
        )  # fmt: skip

    def _tell(self, data: bytes) -> None:
        if self.on_console is not None:
            self.on_console(data)

    async def pause(self) -> None:
        await self._monitor.execute("stop")

    async def resume(self) -> None:
        await self._monitor.execute("cont")

    async def save(self) -> None:
        """Device state by an outgoing migration that leaves the shared memory where it is."""
        await self._monitor.execute("migrate-set-capabilities", **IGNORE_SHARED)
        await self._monitor.give("state", self._state)
        await self._monitor.execute("migrate", uri="fd:state")
        while True:
            status = await self._monitor.execute("query-migrate")
            if status.get("status") == "completed":
                return
            if status.get("status") in ("failed", "cancelled"):
                raise SandboxError(f"saving the machine failed: {status.get('error-desc', '')}")
            await asyncio.sleep(0.002)  # QEMU tells of progress only when asked

    async def prepare_overlay(self, disk: int, overlay: Path) -> None:
        descriptor = os.open(overlay, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, empty_overlay(self._config.disks[disk].size), DISK_OFFSET)
            number = await self._monitor.lend(descriptor)
        finally:
            os.close(descriptor)
        self._overlays += 1
        node = f"d{disk}o{self._overlays}"
        mode = {"read-only": False, "discard": "unmap"}
        file = {"driver": "file", "filename": f"/dev/fdset/{number}", "locking": "off", **mode}
        below = {"driver": "raw", "offset": DISK_OFFSET, "file": file, **mode}
        await self._monitor.execute(
            "blockdev-add", **{"node-name": node, "driver": "qcow2", "file": below,
                               "backing": None, **mode},
        )  # fmt: skip
        self._prepared[disk] = node

    async def switch_disk(self, disk: int) -> None:
        overlay = self._prepared[disk]
        node = self._nodes.get(disk, f"d{disk}")
        await self._monitor.execute("blockdev-snapshot", node=node, overlay=overlay)
        self._nodes[disk] = self._prepared.pop(disk)

    async def drop_overlay(self, disk: int) -> None:
        if node := self._prepared.pop(disk, ""):
            await self._monitor.execute("blockdev-del", **{"node-name": node})

    async def flatten_disk(self, disk: int) -> None:
        top = self._nodes.get(disk, f"d{disk}")
        base = f"d{disk}l0" if self._config.disks[disk].layers else f"d{disk}"
        # What is joined is to name no file of this host: the command line says what lies below.
        job = {"job-id": f"flatten{disk}", "auto-dismiss": False, "backing-file": ""}
        await self._monitor.execute("block-stream", device=top, **{"base-node": base}, **job)
        while True:
            (state,) = [
                each
                for each in await self._monitor.execute("query-jobs")
                if each["id"] == job["job-id"]
            ]
            if state["status"] == "concluded":
                break
            await asyncio.sleep(0.02)  # QEMU tells of progress only when asked
        await self._monitor.execute("job-dismiss", id=job["job-id"])
        if error := state.get("error"):
            raise SandboxError(f"the layers of the disk cannot be joined: {error}")

    async def stop_flattening(self, disk: int) -> None:
        # There is no such job a moment before it begins, and after its end.
        with contextlib.suppress(SandboxError):
            await self._monitor.execute("job-cancel", id=f"flatten{disk}")

    async def writes(self, disk: int) -> int:
        node = self._nodes.get(disk, f"d{disk}")
        for each in await self._monitor.execute("query-blockstats"):
            if each.get("node-name") == node:
                done = each["stats"]  # of the device: joining layers is not counted
                return int(done["wr_operations"]) + int(done["unmap_operations"])
        raise SandboxError(f"the machine says nothing of its disk {node}")

    async def tell_size(self, disk: int) -> None:
        # It has this size; the device tells the guest so whenever it is set.
        node = self._nodes.get(disk, f"d{disk}")
        size = self._config.disks[disk].size
        await self._monitor.execute("block_resize", **{"node-name": node, "size": size})

    async def read_files(self) -> None:
        for name, old, new in from_files(self._config):
            for node in new:
                await self._monitor.execute("blockdev-add", **node)
            await self._monitor.execute("blockdev-reopen", options=[name])
            await self._monitor.execute("blockdev-del", **{"node-name": old})

    async def add_disk(self, serial: str, path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            number = await self._monitor.lend(descriptor)
        finally:
            os.close(descriptor)
        mode = {"read-only": False, "discard": "unmap"}
        file = {"driver": "file", "filename": f"/dev/fdset/{number}", "locking": "off", **mode}
        node = {"node-name": f"v{serial}", "driver": "raw", "offset": DISK_OFFSET, "size": size}
        await self._monitor.execute("blockdev-add", **node, file=file, **mode)
        await self._monitor.execute(
            "device_add", driver="virtio-blk-pci", id=f"disk{serial}", drive=f"v{serial}",
            serial=serial, werror="report", rerror="report",
        )  # fmt: skip

    async def save_devices(self, state: Path) -> None:
        descriptor = os.open(state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            number = await self._monitor.lend(descriptor)
        finally:
            os.close(descriptor)
        # Not `live`: that would give up the disks, for another machine to take them over.
        try:
            await self._monitor.execute(
                "xen-save-devices-state", filename=f"/dev/fdset/{number}", live=False
            )
        finally:
            with contextlib.suppress(SandboxError):
                await self._monitor.take_back(number)

    def memory(self) -> GuestMemory:
        return GuestMemory(self.pid, self._config.ram, self._config.memory)

    def kill(self) -> None:
        self._process.kill()

    async def wait(self) -> int:
        return await self._process.wait()

    def console_tail(self) -> str:
        self._console.drain()
        self._script.drain()
        refused = [line for line in self._script.tail().splitlines() if '"error"' in line]
        parts = (self._console.tail(), *refused, self._process.messages().strip())
        return "\n".join(part for part in parts if part)

    def stats(self) -> MachineStats:
        return usage(self.pid)

    def failure(self, message: str) -> BootError:
        """An error that carries the command, the exit status and the console's end."""
        return BootError(
            message, command=self.command, exit_code=self._process.exit_status,
            console_tail=self.console_tail(),
        )  # fmt: skip

    async def close(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._monitor.close()
        self._console.drain()
        self._console.close()
        self._script.close()
        self._process.close()
        self.channel.close()
        if self._state >= 0:
            os.close(self._state)
            self._state = -1
        if self.window is not None:
            self.window.release()
            self.window = None
        if self._window_map is not None:
            self._window_map.close()
            self._window_map = None
