"""Which accelerator to use, and why not the others. The verdict holds for one boot of the host."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandlot.engine.qemu.probe import Measurement

# Emulation by QEMU takes 1 to 5 ns for an instruction; slower than this is no acceleration, and
# quicker is fine even when TCG happens to look quicker still.
GOOD_ENOUGH_NS = 5.0


@dataclass(frozen=True)
class Verdict:
    """One accelerator: whether it can be used, and the reason in words for people."""

    name: str
    usable: bool
    reason: str
    nanoseconds: float | None = None


@dataclass(frozen=True)
class Choice:
    """The accelerator to use and what was found out about each."""

    name: str
    verdicts: tuple[Verdict, ...]


def candidates(system: str) -> tuple[str, ...]:
    """The accelerators of an operating system, the fastest first; TCG is always last."""
    return (*{"linux": ("kvm",), "darwin": ("hvf",)}.get(system, ()), "tcg")


def decide(
    measured: dict[str, Measurement], refused: dict[str, str], order: tuple[str, ...]
) -> Choice:
    """Choose from what was measured. Pure.

    `refused` holds the accelerators that were not even tried, with the reason.
    """
    software = measured["tcg"].nanoseconds if "tcg" in measured else None
    verdicts = []
    for name in order:
        if name in refused:
            verdicts.append(Verdict(name, False, refused[name]))
            continue
        found = measured[name]
        speed = found.nanoseconds
        if speed is None:
            verdicts.append(Verdict(name, False, f"present but broken: {found.reason}"))
        elif name == "tcg":
            verdicts.append(
                Verdict(name, True, f"software emulation, {speed:.1f} ns per instruction", speed)
            )
        elif speed <= GOOD_ENOUGH_NS or (software is not None and speed <= software):
            verdicts.append(Verdict(name, True, f"works, {speed:.1f} ns per instruction", speed))
        else:
            verdicts.append(
                Verdict(
                    name, False,
                    f"present but emulated: {speed:.0f} ns per kernel-mode instruction, slower than "
                    "software emulation; is this a virtual machine without nested virtualization?",
                    speed,
                )
            )  # fmt: skip
    usable = [v.name for v in verdicts if v.usable]
    return Choice(usable[0] if usable else "", tuple(verdicts))


def refuse_kvm(device: Path = Path("/dev/kvm")) -> str | None:
    """Why KVM cannot even be tried, with the remedy, or None."""
    if not device.exists():
        return "no /dev/kvm: load the kvm module or enable virtualization in the firmware"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission for {device}: `sudo usermod -aG kvm $USER`, then log in again"
    return None


def boot_identity() -> str:
    """Something that changes whenever the host boots."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{platform.node()}-{platform.release()}"


async def choose(
    measure: Callable[[str], Awaitable[Measurement]], *, remembered: Path, subject: str,
    forced: str = "",
) -> Choice:  # fmt: skip
    """The accelerator to use on this host.

    `measure` runs the probe on one accelerator. Verdicts are kept in the file `remembered` for
    this boot and this `subject` (the monitor's version); what was refused without trying is looked
    at anew each time, so that a granted permission counts at once. `forced` names the accelerator
    to take unseen.
    """
    if forced:
        return Choice(forced, (Verdict(forced, True, "forced by SANDLOT_ACCELERATOR"),))
    order = candidates(sys.platform)
    refused = {}
    if "kvm" in order and (reason := refuse_kvm()):
        refused["kvm"] = reason
    key = f"{boot_identity()} {subject} {' '.join(sorted(refused))}"
    known = _recall(remembered, key)
    if known is not None:
        return known
    measured = {name: await measure(name) for name in order if name not in refused}
    choice = decide(measured, refused, order)
    _remember(remembered, key, choice)
    return choice


def condemn(remembered: Path, subject: str, choice: Choice, name: str, reason: str) -> Choice:
    """An accelerator passed the probe but no guest boots on it: do without it until the next boot."""
    verdicts = tuple(
        Verdict(v.name, False, f"present but broken: {reason}") if v.name == name else v
        for v in choice.verdicts
    )
    usable = [v.name for v in verdicts if v.usable]
    condemned = Choice(usable[0] if usable else "", verdicts)
    refused = "kvm" if "kvm" in candidates(sys.platform) and refuse_kvm() else ""
    _remember(remembered, f"{boot_identity()} {subject} {refused}", condemned)
    return condemned


def _recall(file: Path, key: str) -> Choice | None:
    try:
        data = json.loads(file.read_text())
        if data["key"] != key:
            return None
        return Choice(data["name"], tuple(Verdict(**v) for v in data["verdicts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(file: Path, key: str, choice: Choice) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    data = {"key": key, "name": choice.name, "verdicts": [asdict(v) for v in choice.verdicts]}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(data))
        partial.replace(file)
    except OSError:
        pass  # it only costs the next program another probe
