"""Templates on a real engine: built once, not trusted when damaged."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandlot import BootError, Sandbox
from sandlot.engine.config import MachineConfig
from sandlot.engine.qemu.engine import QemuEngine
from sandlot.engine.qemu.machine import QemuMachine

CREATE = """
import asyncio
from sandlot import Sandbox
async def main():
    async with Sandbox.create(image="test", memory="256M") as sb:
        print((await sb.exec(["echo", "up"])).text, end="")
asyncio.run(main())
"""


def manifests(state: Path) -> dict[str, dict[str, object]]:
    return {
        p.parent.name: json.loads(p.read_text()) for p in state.glob("templates/*/manifest.json")
    }


async def create() -> None:
    async with Sandbox.create(image="test", memory="256M") as sb:
        assert (await sb.exec(["echo", "up"])).text == "up\n"


async def test_two_programs_build_it_once_and_damage_is_repaired(
    image: str, shared_parts: Path
) -> None:
    programs = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CREATE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for program in programs:
        out, err = await program.communicate()
        assert out == b"up\n", err
    first = manifests(shared_parts)
    assert len(first) == 1
    (key,) = first
    folder = shared_parts / "templates" / key

    await create()
    assert manifests(shared_parts)[key]["token"] == first[key]["token"], "it was made anew"

    with (folder / "ram").open("r+b") as ram:
        ram.seek(50 << 20)
        ram.write(b"\xff" * 4096)
    await create()
    second = manifests(shared_parts)
    assert second[key]["token"] != first[key]["token"]

    # Another boot of the host: the memory is read in full, and a change that hides its time is seen.
    manifest = json.loads((folder / "manifest.json").read_text())
    times = (folder / "ram").stat()
    with (folder / "ram").open("r+b") as ram:
        ram.seek(60 << 20)
        ram.write(b"\xff" * 4096)
    os.utime(folder / "ram", ns=(times.st_atime_ns, times.st_mtime_ns))
    manifest["boot"] = "another"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CREATE], check=True, capture_output=True
    )
    third = manifests(shared_parts)
    assert third[key]["token"] != second[key]["token"]

    left = folder.with_name(f"{key}.newleft")
    left.mkdir()  # by a program that was killed while it made one
    (folder / "state").write_bytes(b"nonsense")
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CREATE], check=True, capture_output=True
    )
    assert not left.exists()
    assert manifests(shared_parts)[key]["token"] != third[key]["token"]
    assert not list((shared_parts / "templates").glob("*.new*"))


async def test_a_guest_that_does_not_boot_is_told_with_its_console(
    image: str, shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without the modules that a guest needs: the agent finds no port."""
    from sandlot.sandbox.host import Host
    from sandlot.snapshot import template

    kernel = await Host.current().kernel()
    monkeypatch.setenv("SANDLOT_KERNEL", str(kernel.image))
    monkeypatch.setattr(template, "BOOT_PATIENCE", 4.0)
    boots = []
    boot = QemuEngine.boot

    async def counted(self: QemuEngine, config: MachineConfig, state: Path) -> QemuMachine:
        boots.append(config)
        return await boot(self, config, state)

    monkeypatch.setattr(QemuEngine, "boot", counted)
    with pytest.raises(BootError, match="did not come up") as caught:
        await Sandbox.create(image=image, memory="256M")
    assert len(boots) == 2, "the watchdog tries once more"
    assert "qemu-system" in caught.value.command[0]
    assert await Sandbox.list() == []
