"""`sandlot doctor`: what this machine can do, why not more, and what mends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from sandlot.cli.output import as_json, human_size

GOOD, WORSE, BROKEN = "ok", "warning", "missing"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: str
    reason: str
    remedy: str = ""


@click.command(epilog="Example: sandlot doctor --json")
@click.option("--json", "json_", is_flag=True, help="The checks, as JSON.")
@click.pass_context
def doctor(ctx: click.Context, json_: bool) -> None:
    """Say what this machine can do and why, and the command that mends each problem.

    The status is 0 when sandboxes can run.
    """
    checks = asyncio.run(examine())
    if json_:
        as_json([asdict(check) for check in checks])
    else:
        for check in checks:
            click.echo(f"{check.status:8} {check.name:12} {check.reason}")
            if check.remedy:
                click.echo(f"{'':21} -> {check.remedy}")
    ctx.exit(1 if any(check.status == BROKEN for check in checks) else 0)


async def examine() -> list[Check]:
    """Every check, in the order in which they matter."""
    return [
        *await _engine(),
        *_guest(),
        *_tools(),
        *_state(),
        *_files(),
        _leftovers(),
        _confinement(),
    ]


async def _engine() -> list[Check]:
    from sandlot.errors import SandboxError
    from sandlot.sandbox.host import Host

    try:
        engine = await Host.current().engine()
    except SandboxError as error:
        return [Check("engine", BROKEN, error.message, error.hint)]
    checks = [Check("engine", GOOD, f"QEMU {engine.version} at {engine.binary}")]
    chosen = engine.choice.name
    for verdict in engine.choice.verdicts:
        reason, _, remedy = verdict.reason.partition(": `")
        if verdict.name == chosen:
            slow = chosen == "tcg"
            note = "; every sandbox still has its own kernel, it is only slower" if slow else ""
            checks.append(Check(chosen, GOOD, f"chosen: {verdict.reason}{note}"))
        elif verdict.usable:
            checks.append(Check(verdict.name, GOOD, verdict.reason))
        else:
            remedy = f"`{remedy}" if remedy else "none is needed: another accelerator is used"
            text = reason if remedy.startswith("`") else verdict.reason
            checks.append(Check(verdict.name, WORSE, text, remedy))
    return checks


def _guest() -> list[Check]:
    from sandlot.engine.qemu.engine import host_machine
    from sandlot.errors import SandboxError
    from sandlot.guest.agent import agent_path
    from sandlot.guest.kernel import cached_kernel
    from sandlot.sandbox.host import Host

    checks = []
    try:
        path = agent_path(host_machine())
        checks.append(Check("agent", GOOD, f"{path.name}, {human_size(path.stat().st_size)}"))
    except SandboxError as error:
        checks.append(Check("agent", BROKEN, error.message, error.hint))
    host = Host.current()
    if host.settings.kernel:
        there = Path(host.settings.kernel).is_file()
        remedy = "" if there else "unset SANDLOT_KERNEL, or let it name a kernel image"
        text = f"SANDLOT_KERNEL={host.settings.kernel}"
        checks.append(Check("kernel", GOOD if there else BROKEN, text, remedy))
        return checks
    try:
        kernel = cached_kernel(host.paths.kernels, host_machine())
    except SandboxError:
        kernel = None
    if kernel is not None:
        checks.append(Check("kernel", GOOD, kernel.name))
    elif shutil.which("apt-get"):
        checks.append(Check("kernel", GOOD, "none yet; downloaded when the first sandbox starts"))
    else:
        remedy = "set SANDLOT_KERNEL and SANDLOT_KERNEL_MODULES"
        checks.append(Check("kernel", BROKEN, "there is no apt to download one with", remedy))
    return checks


def _tools() -> list[Check]:
    from sandlot.errors import SandboxError
    from sandlot.sandbox.disk import mke2fs

    checks = []
    try:
        checks.append(Check("disks", GOOD, mke2fs()))
    except SandboxError as error:
        checks.append(Check("disks", BROKEN, error.message, error.hint))
    builder = shutil.which("mmdebstrap")
    if builder:
        checks.append(Check("packages", GOOD, f"{builder} builds images"))
    else:
        remedy = "sudo apt-get install mmdebstrap"
        checks.append(Check("packages", WORSE, "`image build` needs mmdebstrap", remedy))
    return checks


def _state() -> list[Check]:
    from sandlot.errors import SandboxError
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.options import SPARE_DISK, host_memory

    host = Host.current()
    try:
        folder = host.paths.sandboxes
        if not os.access(folder, os.W_OK):
            raise SandboxError(f"{folder} cannot be written", hint="set SANDLOT_DATA elsewhere")
        free = shutil.disk_usage(folder).free
    except SandboxError as error:
        return [Check("state", BROKEN, error.message, error.hint)]
    text = f"{host.settings.data}, {human_size(free)} free"
    status, remedy = (GOOD, "") if free > 2**30 else (WORSE, "free some, or set SANDLOT_DATA")
    if free < SPARE_DISK:
        status = BROKEN
    memory = f"{human_size(host_memory())} of memory, {os.cpu_count()} processors"
    return [Check("state", status, text, remedy), Check("host", GOOD, memory)]


def _confinement() -> Check:
    if sys.platform != "linux":
        remedy = "run it on Linux, or as a user of its own"
        reason = "QEMU runs as you: only Linux can confine it further"
        return Check("confinement", WORSE, reason, remedy)
    try:
        modules = Path("/sys/kernel/security/lsm").read_text()
    except OSError:
        modules = ""
    if "landlock" in modules:
        return Check("confinement", GOOD, "seccomp, no new privileges, Landlock")
    remedy = "boot the host with `lsm=landlock,...` on its kernel's command line"
    reason = "seccomp, no new privileges; this kernel has no Landlock"
    return Check("confinement", WORSE, reason, remedy)


def _files() -> list[Check]:
    """What the state's file system can do, tried out on it."""
    import tempfile

    from sandlot.engine.config import DEVICE_SIZE, DISK_OFFSET
    from sandlot.errors import SandboxError
    from sandlot.sandbox.host import Host
    from sandlot.state.lock import FileLock, is_held
    from sandlot.state.sparse import copy_sparse

    try:
        cache = Host.current().paths.cache
        with tempfile.TemporaryDirectory(dir=cache, prefix=".doctor-") as folder:
            lock = FileLock.take(Path(folder) / "lock")
            held = is_held(Path(folder) / "lock")
            if lock is not None:
                lock.release()
            with (Path(folder) / "sparse").open("wb") as file:
                file.truncate(1 << 30)
                file.write(b"x")
            copy_sparse(Path(folder) / "sparse", Path(folder) / "copy")
            sparse = (Path(folder) / "copy").stat().st_blocks * 512 < 1 << 29
            high = _can_be_long(Path(folder) / "copy", DISK_OFFSET + DEVICE_SIZE)
    except (SandboxError, OSError) as error:
        remedy = "set SANDLOT_DATA to a folder that can be written"
        return [Check("files", BROKEN, f"files cannot be made: {error}", remedy)]
    remedy = "set SANDLOT_DATA to a folder on a local disk, such as ext4, xfs or btrfs"
    if not held:
        return [Check("files", BROKEN, "locks do not work there (flock)", remedy)]
    if not high:
        reason = f"no files of {human_size(DISK_OFFSET)}, even with holes"
        return [Check("files", BROKEN, reason, f"{remedy}; see `ulimit -f` too")]
    if not sparse:
        return [Check("files", WORSE, "no sparse files: each disk takes all of its size", remedy)]
    return [Check("files", GOOD, "locks and sparse files work")]


def _can_be_long(path: Path, size: int) -> bool:
    try:
        os.truncate(path, size)
    except OSError:
        return False
    return True


def _leftovers() -> Check:
    from sandlot.errors import SandboxError
    from sandlot.sandbox.housekeeping import prune, total

    try:
        found = prune()
    except (SandboxError, OSError) as error:
        return Check("leftovers", WORSE, f"cannot be looked for: {error}", "sandlot prune")
    if not found:
        return Check("leftovers", GOOD, "none")
    text = f"{len(found)} things of dead programs or unused, {human_size(total(found))}"
    return Check("leftovers", WORSE, text, "sandlot prune -f")
