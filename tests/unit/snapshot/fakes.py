"""Snapshots without a machine: small files of the right kinds."""

from __future__ import annotations

import dataclasses
import mmap
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot import Snapshot
from sandlot.engine.concatenation import describe
from sandlot.engine.config import DEVICE_SIZE, DISK_OFFSET, MIB
from sandlot.engine.qemu.overlay import empty_overlay
from sandlot.sandbox.host import Host
from sandlot.secrets import Secret
from sandlot.snapshot.integrity import digest_sparse
from sandlot.snapshot.pages import write_pages
from sandlot.snapshot.record import MachineRecord, SnapshotRecord
from sandlot.snapshot.store import SnapshotFolder
from sandlot.state.records import SandboxRecord

MEMORY = 128 * MIB
DISK = 64 * MIB
FACTS = {"engine": "qemu", "version": "7.2", "accelerator": "tcg"}
PLACEHOLDER = "x" * 32


def source_record(**fields: object) -> SandboxRecord:
    made = SandboxRecord(
        id="0123456789ab", name="source", image="demo", image_digest="sha256:" + "0" * 64,
        memory=MEMORY, cpus=1, disk=DISK, hostname="source", machine_id="0" * 32,
        env={"A": "1", "KEY": PLACEHOLDER}, dns=["10.0.0.53"], upstream_ca="/etc/ca.pem",
        network={
            "default": "deny", "allow": ["api.example.com", "10.0.0.0/8"], "deny": [],
            "hidden_names": False,
        },
        ports=[{"address": "0.0.0.0", "host_port": 80, "port": 8000, "protocol": "tcp"}],
        secrets={"KEY": _secret()}, placeholders={"KEY": PLACEHOLDER},
    )  # fmt: skip
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def _secret() -> dict[str, object]:
    record = Secret("a-value", hosts=["api.example.com"]).to_record()
    return {**record, "source": {"env": "MY_KEY"}}


def _sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> None:
    with path.open("xb") as file:
        file.truncate(size)
        for at, data in pieces:
            file.seek(at)
            file.write(data)


def make_snapshot(
    host: Host, name: str = "demo", *, memory: bool = True, seed: int = 0,
    source: SandboxRecord | None = None,
) -> SnapshotFolder:  # fmt: skip
    """A snapshot of a machine that never ran."""
    noise = random.Random(seed)
    with host.snapshots.making() as folder:
        folder.disk.mkdir()
        folder.image.mkdir()
        _sparse(folder.image / "a.data", 8192, (0, b"common" * 1000))
        _sparse(folder.image / "b.erofs", DEVICE_SIZE - 8192, (4096, noise.randbytes(5000)))
        (folder.image / "device.vmdk").write_text(
            describe([
                ("b.erofs", 0, 4096), ("a.data", 0, 8192), ("b.erofs", 4096, DEVICE_SIZE - 12288),
            ])
        )  # fmt: skip
        layers = ["0-0123456789ab", "1-abcdef01"]
        _sparse(
            folder.disk / layers[0],
            DISK_OFFSET + DISK,
            (DISK_OFFSET + 9000, noise.randbytes(200_000)),
        )
        overlay = empty_overlay(DISK)
        _sparse(folder.disk / layers[1], DISK_OFFSET + len(overlay), (DISK_OFFSET, overlay))
        machine = None
        files = [f"disk/{each}" for each in layers]
        if memory:
            machine = MachineRecord(
                memory=MEMORY, cpus=1, token="ab" * 8, place=1, disk=DISK, staged=DISK,
                facts=dict(FACTS), main=0,
            )  # fmt: skip
            folder.memory.folder.mkdir()
            _sparse(
                folder.memory.root, MEMORY, (5 * MIB, noise.randbytes(300_000)), (MEMORY - 1, b"!")
            )
            room = mmap.mmap(-1, MEMORY)
            room[MIB : MIB + 8192] = noise.randbytes(8192)
            write_pages(folder.memory.pages(1), room, [(256, 3)])
            room.close()
            folder.state.write_bytes(noise.randbytes(60_000))
            files += ["state", "memory/root", "memory/pages-1"]
        record = SnapshotRecord(
            id=os.urandom(6).hex(), name=name, created=1_700_000_000.0, sandbox="source",
            source=dataclasses.asdict(source or source_record()), layers=layers,
            machine=dataclasses.asdict(machine) if machine is not None else None,
            tags=["one", "two"], digests={each: digest_sparse(folder.path / each) for each in files},
        )  # fmt: skip
        folder.note_verified(record)
        return host.snapshots.publish(folder, record)


def fitting_host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose engine fits what `make_snapshot` made."""
    host = Host.current()

    async def engine() -> Any:
        return SimpleNamespace(facts=dict(FACTS))

    monkeypatch.setattr(host, "engine", engine)
    return host


def files_of(folder: SnapshotFolder) -> dict[str, str]:
    return {
        str(path.relative_to(folder.path)): digest_sparse(path)
        for path in sorted(folder.path.rglob("*"))
        if path.is_file() and path.parent != folder.path
    }


def nothing_half_made(host: Host, *folders: Path) -> None:
    for folder in (host.paths.snapshots, *folders):
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]


async def exported(host: Host, target: Path, **fields: Any) -> SnapshotFolder:
    folder = make_snapshot(host, **fields)
    await Snapshot(host, folder).export(target)
    return folder
