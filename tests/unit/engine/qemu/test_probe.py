"""The probe, on programs that play QEMU and on QEMU itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.engine.qemu import probe
from sandlot.errors import EngineUnavailable


def fake(folder: Path, script: str) -> str:
    path = folder / "qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_rom_starts_at_the_reset_vector() -> None:
    rom = probe.rom("x86_64")
    assert len(rom) == len(probe.rom("aarch64")) == probe.ROM_SIZE
    assert rom[-16:-11] == b"\xea\x00\x00\x00\xf0"


async def test_a_machine_that_works(tmp_path: Path) -> None:
    found = await probe.measure(
        fake(tmp_path, "for i in 1 2 3; do head -c 1 >/dev/null; printf E; done"), "x86_64", "kvm"
    )
    assert found.nanoseconds is not None


@pytest.mark.parametrize(
    ("script", "reason"),
    [("printf E; echo 'qemu: no such device' >&2; exit 1", "no such device"),
     ("exit 7", "ended with 7")],
)  # fmt: skip
async def test_a_machine_that_ends(tmp_path: Path, script: str, reason: str) -> None:
    found = await probe.measure(fake(tmp_path, script), "x86_64", "kvm")
    assert found.nanoseconds is None
    assert reason in found.reason


async def test_a_machine_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT", 0.3)
    found = await probe.measure(fake(tmp_path, "exec sleep 60"), "x86_64", "kvm")
    assert found.nanoseconds is None
    assert "did not finish" in found.reason


async def test_no_monitor_at_all() -> None:
    with pytest.raises(EngineUnavailable):
        await probe.measure("/no/such/qemu", "x86_64", "tcg")


async def test_emulation_really_works() -> None:
    found = await probe.measure("qemu-system-x86_64", "x86_64", "tcg")
    assert found.nanoseconds is not None, found.reason
    assert 0.1 < found.nanoseconds < 1000
