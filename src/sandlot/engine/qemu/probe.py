"""Does an accelerator really work? Run ring-0 code on it and time it.

A throw-away machine starts a ROM of our own that, in kernel mode, three times waits for a byte,
counts a register down to zero and says `E`. Looking at `/dev/kvm` proves nothing: there are
machines where it opens and answers every capability but each kernel-mode instruction takes 240 ns.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sandlot.engine.qemu.argv import cpu_model
from sandlot.errors import EngineUnavailable

LOOPS = 2_000_000
INSTRUCTIONS = 2 * LOOPS
TIMEOUT = 20.0  # seconds for the whole throw-away machine
ROM_SIZE = 64 * 1024
ROUNDS = 3


@dataclass(frozen=True)
class Measurement:
    """`nanoseconds` for one kernel-mode instruction, or None and the `reason` why none was had."""

    nanoseconds: float | None
    reason: str = ""


def rom(machine: str) -> bytes:
    """The probe's firmware for `x86_64` or `aarch64`."""
    return _rom_x86() if machine == "x86_64" else _rom_arm()


def _rom_x86() -> bytes:
    code = b"\xb3\x03"  # mov bl, 3
    around = len(code)
    code += b"\xba\xfd\x03"  # mov dx, 0x3fd, the serial port's line status
    code += b"\xec\xa8\x01\x74\xfb"  # in al, dx; test al, 1; jz -5: wait for a byte
    code += b"\xba\xf8\x03\xec"  # mov dx, 0x3f8; in al, dx
    code += b"\x66\xb9" + struct.pack("<I", LOOPS)  # mov ecx, LOOPS
    code += b"\x66\x49\x75\xfc"  # dec ecx; jnz -4
    code += b"\xb0E\xee"  # mov al, 'E'; out dx, al
    code += b"\xfe\xcb"  # dec bl
    code += b"\x75" + struct.pack("b", around - len(code) - 2)  # jnz around
    code += b"\xba\xf4\x00\xb0\x00\xee"  # mov dx, 0xf4; mov al, 0; out dx, al: QEMU ends
    code += b"\xf4\xeb\xfd"  # hlt; jmp -3
    reset = b"\xea\x00\x00\x00\xf0"  # jmp far f000:0000
    return code.ljust(ROM_SIZE - 16, b"\x90") + reset.ljust(16, b"\x90")


def _rom_arm() -> bytes:
    words = [
        0x52800063,  # mov w3, #3
        0xD2A12001,  # mov x1, #0x09000000, the PL011's data register
        0xB9401820, 0x3727FFE0, 0xB9400020,  # wait while its FIFO is empty, take the byte
        0x52800002 | (LOOPS & 0xFFFF) << 5, 0x72A00002 | (LOOPS >> 16) << 5,  # mov w2, #LOOPS
        0x71000442, 0x54FFFFE1,  # subs w2, w2, #1; b.ne -4
        0x528008A0, 0xB9000020,  # mov w0, #'E'; str w0, [x1]
        0x71000463, 0x54FFFEC1,  # subs w3, w3, #1; b.ne to the wait
        0x52800100, 0x72B08000, 0xD4000002,  # PSCI SYSTEM_OFF by hvc #0
        0x14000000,  # b .
    ]  # fmt: skip
    return struct.pack(f"<{len(words)}I", *words).ljust(ROM_SIZE, b"\0")


def _argv(binary: str, machine: str, accelerator: str, firmware: str) -> list[str]:
    argv = [
        binary, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "16M",
        "-accel", accelerator, "-cpu", cpu_model(accelerator, machine),
        "-chardev", "stdio,id=out,signal=off",
    ]  # fmt: skip
    if machine == "x86_64":
        argv += ["-machine", "pc", "-bios", firmware, "-serial", "chardev:out"]
        return [*argv, "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    return [*argv, "-machine", "virt,gic-version=max", "-bios", firmware, "-serial", "chardev:out"]


async def measure(binary: str, machine: str, accelerator: str) -> Measurement:
    """Time ring 0 on one accelerator. Never raises for what the accelerator does.

    Raises:
        EngineUnavailable: QEMU itself cannot be started.
    """
    with tempfile.NamedTemporaryFile(prefix="sandlot-probe-") as file:
        file.write(rom(machine))
        file.flush()
        try:
            process = await asyncio.create_subprocess_exec(
                *_argv(binary, machine, accelerator, file.name),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise EngineUnavailable(f"cannot start {binary}: {error.strerror}") from error
        assert process.stdin and process.stdout and process.stderr
        try:
            async with asyncio.timeout(TIMEOUT):
                best = await _rounds(process.stdin, process.stdout)
                await process.wait()
        except TimeoutError:
            return Measurement(None, f"kernel-mode code did not finish within {TIMEOUT:.0f} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if best is None:
            said = (await process.stderr.read(4096)).decode(errors="replace").strip()
            line = said.splitlines()[-1] if said else f"QEMU ended with {process.returncode}"
            return Measurement(None, line.removeprefix(f"{Path(binary).name}: "))
        return Measurement(best * 1e9 / INSTRUCTIONS)


async def _rounds(go: asyncio.StreamWriter, output: asyncio.StreamReader) -> float | None:
    """The shortest time in seconds from our byte to the next `E`; None unless all came.

    The machine waits for us before each round, so being late here can only lengthen a round.
    """
    best = sys.float_info.max
    for _ in range(ROUNDS):
        started = time.perf_counter()
        try:
            go.write(b"G")
            await go.drain()
        except OSError:
            return None
        if await output.read(1) != b"E":
            return None
        best = min(best, time.perf_counter() - started)
    go.close()
    return best
