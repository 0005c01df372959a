"""`Engine` on QEMU."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

from sandlot.engine.accelerator import Choice, choose, condemn
from sandlot.engine.base import Engine
from sandlot.engine.config import MachineConfig
from sandlot.engine.qemu import argv
from sandlot.engine.qemu.machine import QemuMachine
from sandlot.engine.qemu.probe import measure
from sandlot.engine.qemu.process import guarded
from sandlot.errors import EngineUnavailable

_MACHINES = {"AMD64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


def host_machine() -> str:
    """The host's architecture in the guest's terms.

    Raises:
        EngineUnavailable: neither x86-64 nor arm64.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise EngineUnavailable(
            f"{platform.machine()} hosts are not supported, x86-64 and arm64 are"
        )
    return machine


def find_binary(named: str = "") -> str:
    """The QEMU to use: `named`, or the one in PATH.

    Raises:
        EngineUnavailable: with the command that installs it.
    """
    wanted = named or f"qemu-system-{host_machine()}"
    found = shutil.which(wanted)
    if found is None:
        package = "qemu-system-x86" if host_machine() == "x86_64" else "qemu-system-arm"
        install = (
            "brew install qemu"
            if sys.platform == "darwin"
            else f"sudo apt-get install --no-install-recommends {package}"
        )
        raise EngineUnavailable(f"`{wanted}` was not found", hint=f"{install}")
    return found


class QemuEngine(Engine):
    """QEMU with one accelerator. Made by `open`, which chooses it."""

    def __init__(
        self, binary: str, version: str, choice: Choice, *, remembered: Path | None = None,
        cpu: str = "",
    ) -> None:  # fmt: skip
        self.binary = binary
        self.version = version
        self.choice = choice
        self._remembered = remembered
        self._machine = host_machine()
        self._cpu = cpu or argv.cpu_model(choice.name, self._machine)

    @classmethod
    async def open(cls, cache: Path, *, binary: str = "", accelerator: str = "") -> QemuEngine:
        """Find QEMU and the accelerator; what was found out is kept under `cache` for this boot.

        Raises:
            EngineUnavailable: no QEMU, or nothing works.
        """
        path = find_binary(binary)
        version = await _version(path, cache)
        machine = host_machine()
        remembered = cache / "accelerator.json"
        choice = await choose(
            lambda name: measure(path, machine, name),
            remembered=remembered, subject=f"{path} {version}", forced=accelerator,
        )  # fmt: skip
        if not choice.name:
            reasons = "; ".join(f"{v.name}: {v.reason}" for v in choice.verdicts)
            raise EngineUnavailable(
                f"no accelerator works ({reasons})", hint="see `sandlot doctor`"
            )
        return cls(path, version, choice, remembered=remembered)

    def without(self, accelerator: str, reason: str) -> QemuEngine | None:
        """This engine on the next accelerator, when guests do not boot on this one; None: no other."""
        others = [v for v in self.choice.verdicts if v.usable and v.name != accelerator]
        if self._remembered is None or not others:
            return None  # the last one is never given up: the fault may lie elsewhere
        subject = f"{self.binary} {self.version}"
        choice = condemn(self._remembered, subject, self.choice, accelerator, reason)
        return QemuEngine(self.binary, self.version, choice, remembered=self._remembered)

    @property
    def accelerator(self) -> str:
        return self.choice.name

    @property
    def identity(self) -> str:
        host = _processor() if self._cpu == "host" else ""
        words = (
            "qemu", self.version, self.binary, self._machine, self.accelerator, self._cpu, host,
            "balloon" if guarded() else "",
        )  # fmt: skip
        return " ".join(words)

    @property
    def facts(self) -> dict[str, str]:
        return {
            "engine": "qemu", "version": self.version, "architecture": self._machine,
            "accelerator": self.accelerator, "processor": self._cpu,
            "features": _processor() if self._cpu == "host" else "",
            "devices": "balloon" if guarded() else "",
        }  # fmt: skip

    def window_address(self, config: MachineConfig) -> int | None:
        return argv.window_address(config, self._machine)

    def console_argument(self) -> str:
        return "console=ttyS0" if self._machine == "x86_64" else "console=ttyAMA0"

    async def boot(self, config: MachineConfig, state: Path) -> QemuMachine:
        return await self._start(config, state, restore=False)

    async def restore(self, config: MachineConfig, state: Path) -> QemuMachine:
        return await self._start(config, state, restore=True)

    async def _start(self, config: MachineConfig, state: Path, *, restore: bool) -> QemuMachine:
        return await QemuMachine.start(
            config, state, binary=self.binary, machine=self._machine,
            accelerator=self.accelerator, restore=restore, cpu=self._cpu,
        )  # fmt: skip


async def _version(binary: str, cache: Path) -> str:
    """`qemu --version`, remembered for this file."""
    status = Path(binary).stat()
    file = cache / "qemu-version"
    key = f"{os.path.realpath(binary)} {status.st_mtime_ns} {status.st_size}"
    try:
        known, _, version = file.read_text().partition("\n")
        if known == key and version:
            return version
    except OSError:
        pass
    process = await asyncio.create_subprocess_exec(
        binary, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    if process.returncode or not output:
        raise EngineUnavailable(f"`{binary} --version` failed")
    version = output.decode(errors="replace").splitlines()[0].removeprefix("QEMU emulator version ")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        partial.write_text(f"{key}\n{version}")
        partial.replace(file)
    except OSError:
        pass
    return version


def _processor() -> str:
    """Tells one host processor from another, as far as `-cpu host` shows it to the guest."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    lines = sorted({line for line in text.splitlines() if line.startswith(wanted)})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
