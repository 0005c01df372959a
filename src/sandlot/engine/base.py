"""The seam between Sandlot and a virtual machine monitor."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandlot.engine.config import MachineConfig
from sandlot.engine.memory import GuestMemory


@dataclass(frozen=True)
class MachineStats:
    """`private_bytes`: memory of the host that only this machine uses; `cpu_seconds`: spent so far."""

    private_bytes: int
    cpu_seconds: float


class Machine(ABC):
    """One running machine.

    Life: an engine boots or restores it; it may be paused, saved while paused, and resumed; it ends
    by `kill`, or by itself, and `wait` tells how. After `close` nothing of it is left.
    """

    pid: int
    channel: socket.socket
    """The host's end of the byte stream to the agent; the caller owns it."""
    window: memoryview | None
    """The memory window, or None where the engine has none."""
    command: list[str]
    on_console: Callable[[bytes], None] | None = None
    """Is told what the guest's console says, as it comes."""

    @abstractmethod
    async def pause(self) -> None:
        """Stop the processors. Pausing twice is allowed."""

    @abstractmethod
    async def resume(self) -> None:
        """Let the processors run."""

    @abstractmethod
    async def save(self) -> None:
        """Write the device state of a paused machine to the file that `boot` was given."""

    @abstractmethod
    async def prepare_overlay(self, disk: int, overlay: Path) -> None:
        """Open an overlay for a disk, by its place in the configuration. The file is made here."""

    @abstractmethod
    async def switch_disk(self, disk: int) -> None:
        """Let a paused machine write to the overlay that was prepared from now on: what it wrote to
        so far does not change any more."""

    @abstractmethod
    async def drop_overlay(self, disk: int) -> None:
        """Close an overlay that was prepared and is not used after all."""

    @abstractmethod
    async def flatten_disk(self, disk: int) -> None:
        """Copy into what a disk is written to all that lies between it and its lowest layer, which
        is then all that is below it. The machine runs on meanwhile.

        Raises:
            SandboxError: it failed, or was stopped; nothing is lost then.
        """

    @abstractmethod
    async def stop_flattening(self, disk: int) -> None:
        """Have `flatten_disk` give up, soon, if it is under way."""

    @abstractmethod
    async def writes(self, disk: int) -> int:
        """How often the guest has written to a disk, or given blocks of it back, in this machine."""

    @abstractmethod
    async def tell_size(self, disk: int) -> None:
        """Tell the guest how large a disk is, when it is larger than in the state that was loaded."""

    @abstractmethod
    async def read_files(self) -> None:
        """Read from the disk, from now on, what was served: all of it is there. Its servers may
        end when this returns.

        Raises:
            SandboxError: it was refused; all stays as it was.
        """

    @abstractmethod
    async def add_disk(self, serial: str, path: Path, size: int) -> None:
        """Give a running machine one more disk, which begins at DISK_OFFSET of its file; the guest
        knows it by its serial number."""

    @abstractmethod
    async def save_devices(self, state: Path) -> None:
        """Write the device state of a paused machine to a file, without its memory."""

    @abstractmethod
    def memory(self) -> GuestMemory:
        """The pages that the machine has written since it was restored.

        Raises:
            EngineUnavailable: they cannot be known on this host.
        """

    @abstractmethod
    def kill(self) -> None:
        """End the machine at once. Never fails; the end is seen by `wait`."""

    @abstractmethod
    async def wait(self) -> int:
        """Wait until the machine has ended; returns the monitor's exit status."""

    @abstractmethod
    def console_tail(self) -> str:
        """The last lines of the guest's console and of the monitor's own messages."""

    @abstractmethod
    def stats(self) -> MachineStats:
        """What the machine uses on the host."""

    @abstractmethod
    async def close(self) -> None:
        """Kill the machine if it runs, wait for it, release every descriptor and mapping."""


class Engine(ABC):
    """Makes machines. `identity` changes whenever saved state of another engine does not fit."""

    @property
    @abstractmethod
    def accelerator(self) -> str:
        """`kvm`, `hvf` or `tcg`."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Text naming everything of the engine that a saved state depends on."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What a saved machine depends on and another host may have otherwise, by name."""

    @abstractmethod
    def window_address(self, config: MachineConfig) -> int | None:
        """The guest's physical address of the memory window, or None where there is none."""

    @abstractmethod
    def console_argument(self) -> str:
        """The kernel's console argument on this engine's machine, such as `console=ttyS0`."""

    @abstractmethod
    async def boot(self, config: MachineConfig, state: Path) -> Machine:
        """Start a machine from its kernel; `save` will write to `state`.

        Raises:
            EngineUnavailable: the monitor cannot be started.
        """

    @abstractmethod
    async def restore(self, config: MachineConfig, state: Path) -> Machine:
        """Start a machine from saved device state and the memory in `config.ram`.

        Returns once the process runs; whether the guest lives is seen on the channel.
        """
