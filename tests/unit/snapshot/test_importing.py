"""Archives of snapshots that were changed, or that somebody else made."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandlot import (
    SandboxError,
    Snapshot,
    SnapshotDamaged,
    SnapshotError,
    StateError,
)
from sandlot.engine.config import DISK_OFFSET
from sandlot.engine.qemu.overlay import empty_overlay
from sandlot.sandbox.host import Host
from sandlot.snapshot.integrity import digest_sparse
from tests.unit.snapshot.fakes import (
    DISK,
    exported,
    files_of,
    fitting_host,
    make_snapshot,
    nothing_half_made,
)


@pytest.fixture
def host(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose engine fits what `make_snapshot` made."""
    return fitting_host(monkeypatch)


Documents = dict[str, Any]


def rewrite(source: Path, target: Path, change: Callable[[Documents, Documents], object]) -> None:
    """The archive with another manifest and configuration, all digests made right."""
    blobs: dict[str, bytes] = {}
    with tarfile.open(source) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            blobs[member.name] = file.read()
    index = json.loads(blobs.pop("index.json"))
    layout = blobs.pop("oci-layout")
    manifest = json.loads(blobs.pop(f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"))
    config = json.loads(blobs.pop(f"blobs/sha256/{manifest['config']['digest'][7:]}"))
    manifest["blobs"] = {name[-64:]: data for name, data in blobs.items()}
    change(manifest, config)
    blobs = manifest.pop("blobs")

    def put(data: bytes) -> tuple[str, int]:
        found = hashlib.sha256(data).hexdigest()
        first[f"blobs/sha256/{found}"] = data
        return f"sha256:{found}", len(data)

    first: dict[str, bytes] = {"oci-layout": layout}
    manifest["config"]["digest"], manifest["config"]["size"] = put(json.dumps(config).encode())
    entry = index["manifests"][0]
    entry["digest"], entry["size"] = put(json.dumps(manifest).encode())
    first["index.json"] = json.dumps(index).encode()
    with tarfile.open(target, "w") as tar:
        for name, data in {**first, **{f"blobs/sha256/{k}": v for k, v in blobs.items()}}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _layer(manifest: Documents, path: str) -> Documents:
    (found,) = [
        each for each in manifest["layers"]
        if each["annotations"]["org.opencontainers.image.title"] == path
    ]  # fmt: skip
    assert isinstance(found, dict)
    return found


def _set(path: str, value: object) -> Callable[[Documents, Documents], None]:
    """Change one thing: `m` is the manifest, `c` the configuration."""

    def change(manifest: Documents, config: Documents) -> None:
        *way, last = path.split(".")
        place: Any = {"m": manifest, "c": config}
        for each in way:
            place = place[int(each)] if each.isdigit() else place[each]
        place[int(last) if last.isdigit() else last] = value

    return change


def _drop_layer(path: str) -> Callable[[Documents, Documents], None]:
    return lambda manifest, config: manifest["layers"].remove(_layer(manifest, path))


def _note(path: str, name: str, value: str) -> Callable[[Documents, Documents], None]:
    return lambda manifest, config: _layer(manifest, path)["annotations"].update({name: value})


HOSTILE: dict[str, Callable[[Documents, Documents], object]] = {
    "a path that leads out": _note("state", "org.opencontainers.image.title", "../../state"),
    "an absolute path": _note("state", "org.opencontainers.image.title", "/etc/passwd"),
    "a description of its own": _note(
        "image/a.data", "org.opencontainers.image.title", "image/device.vmdk"
    ),
    "the same file twice": _note("image/a.data", "org.opencontainers.image.title", "state"),
    "an enormous file": _note("state", "dev.sandlot.size", str(1 << 40)),
    "no number": _note("state", "dev.sandlot.size", "1e9"),
    "more data than there is": _note("memory/root", "dev.sandlot.data", "1"),
    "less data than there is": _note("memory/root", "dev.sandlot.data", str(64 << 20)),
    "another size": _note("memory/root", "dev.sandlot.size", str(64 << 20)),
    "other contents": _note("disk/1-abcdef01", "dev.sandlot.contents", "0" * 64),
    "another media type": _set("m.layers.0.mediaType", "application/x-other"),
    "a blob that is not there": _set("m.layers.0.digest", "sha256:" + "0" * 64),
    "no digest": _set("m.layers.0.digest", "md5:0"),
    "another length": _set("m.layers.0.size", 5),
    "no state": _drop_layer("state"),
    "no root memory": _drop_layer("memory/root"),
    "no layer": _drop_layer("disk/0-0123456789ab"),
    "no image": _drop_layer("image/a.data"),
    "a name that leads out": _set("c.snapshot.name", "../../x"),
    "a name that is none": _set("c.snapshot.name", 5),
    "a layer's name that leads out": _set("c.snapshot.layers.0", "../../0"),
    "no layers": _set("c.snapshot.layers", []),
    "an unknown field": _set("c.snapshot.more", 1),
    "a tag that is none": _set("c.snapshot.tags", ["a b"]),
    "no time": _set("c.snapshot.created", float("nan")),
    "a place that is none": _set("c.snapshot.machine.place", 7),
    "a token that is none": _set("c.snapshot.machine.token", "zz"),
    "another memory": _set("c.snapshot.machine.memory", 64 << 20),
    "a sandbox with another memory": _set("c.snapshot.source.memory", 64 << 20),
    "too many processors": _set("c.snapshot.machine.cpus", 1000),
    "a sandbox's name": _set("c.snapshot.source.name", "../x"),
    "a sandbox's host name": _set("c.snapshot.source.hostname", "a\nb"),
    "an environment that is none": _set("c.snapshot.source.env", {"A=B": "1"}),
    "a short placeholder": _set("c.snapshot.source.placeholders.KEY", "e"),
    "a secret that is none": _set("c.snapshot.source.secrets.KEY", {"source": "x"}),
    "a policy that is none": _set("c.snapshot.source.network", {"allow": ["*"]}),
    "a port that is none": _set("c.snapshot.source.ports", [{"port": 99999, "protocol": "tcp"}]),
    "a restart policy that is none": _set("c.snapshot.source.restart", "maybe"),
    "a piece of another file": _set("c.image.0.0", "../../etc/passwd"),
    "a piece beyond a file": _set("c.image.1.1", 4096),
    "a device that is too short": _set("c.image.0.2", 512),
    "no pieces": _set("c.image", []),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
async def test_hostile_archives_are_refused(host: Host, tmp_path: Path, what: str) -> None:
    target, changed = tmp_path / "demo.snapshot", tmp_path / "changed"
    before = await exported(host, target)
    host.snapshots.remove(before)
    rewrite(target, changed, HOSTILE[what])
    with pytest.raises(SnapshotDamaged) as caught:
        await Snapshot.import_(changed)
    assert "\n" not in caught.value.message
    assert not host.snapshots.all()
    nothing_half_made(host)


async def test_the_rewritten_archive_is_one(host: Host, tmp_path: Path) -> None:
    """What the refusals above rest on: it is the change that is refused."""
    target, changed = tmp_path / "demo.snapshot", tmp_path / "changed"
    await exported(host, target)
    rewrite(target, changed, lambda manifest, config: None)
    assert (await Snapshot.import_(changed, "again")).kind == "machine"


async def test_other_formats_and_things_are_told(host: Host, tmp_path: Path) -> None:
    target, changed = tmp_path / "demo.snapshot", tmp_path / "changed"
    await exported(host, target)
    rewrite(target, changed, _set("c.format", 2))
    with pytest.raises(SnapshotError, match="has format '2', this version knows 1"):
        await Snapshot.import_(changed, "x")
    rewrite(target, changed, _set("m.config.mediaType", "application/vnd.oci.image.config.v1+json"))
    with pytest.raises(SnapshotError, match="no snapshot"):
        await Snapshot.import_(changed, "x")
    with tarfile.open(changed, "w") as tar:
        tar.add(__file__, "file.py")
    with pytest.raises(SnapshotError, match=r"no index\.json"):
        await Snapshot.import_(changed, "x")
    changed.write_bytes(b"no archive" * 100)
    with pytest.raises(SnapshotError, match="no tar stream"):
        await Snapshot.import_(changed, "x")
    with pytest.raises(StateError, match="cannot be read"):
        await Snapshot.import_(tmp_path / "nothing", "x")


async def test_overlays_that_name_other_files_are_refused(host: Host, tmp_path: Path) -> None:
    """A disk from a stranger could have the host's files below it, or its data in one."""
    good = empty_overlay(DISK)
    name = (104).to_bytes(8, "big") + (11).to_bytes(4, "big")  # where it is, and how long
    for at, value in ((8, name), (72, (1 << 2 | 1 << 4).to_bytes(8, "big"))):
        bad = bytearray(good)
        bad[at : at + len(value)] = value
        folder = make_snapshot(host)
        with (folder.disk / "1-abcdef01").open("r+b") as file:
            file.seek(DISK_OFFSET)
            file.write(bad)
        record = folder.record()
        record.digests["disk/1-abcdef01"] = digest_sparse(folder.disk / "1-abcdef01")
        host.snapshots.change(folder, digests=record.digests)
        target = tmp_path / "demo.snapshot"
        await Snapshot(host, folder).export(target, force=True)
        host.snapshots.remove(folder)
        with pytest.raises(SnapshotDamaged, match="1-abcdef01 of the disk is refused"):
            await Snapshot.import_(target)
        nothing_half_made(host)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1 << 32))
def test_any_change_of_any_byte_is_seen(host: Host, tmp_path: Path, seed: int) -> None:
    """Cut off, bytes changed, pieces moved: what is imported is what was exported, or nothing."""
    target = tmp_path / "demo.snapshot"
    if not target.exists():
        folder = asyncio.run(exported(host, target))
        (tmp_path / "files.json").write_text(json.dumps(files_of(folder)))
        host.snapshots.remove(folder)
    expected = json.loads((tmp_path / "files.json").read_text())
    noise = random.Random(seed)
    data = bytearray(target.read_bytes())
    for _ in range(noise.choice((1, 1, 3))):
        if not data:
            break
        # Half of them among the documents.
        at = noise.randrange(len(data) if noise.random() < 0.5 else min(12000, len(data)))
        match noise.randrange(4):
            case 0:
                data[at] ^= 1 << noise.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at : at + 8] = noise.randbytes(8)
            case _:
                del data[at : at + noise.choice((1, 512))]
    source = io.BytesIO(bytes(data))
    try:
        made = asyncio.run(Snapshot.import_(source, "fuzzed"))
    except SandboxError:
        pass
    else:
        assert files_of(made.folder) == expected
        host.snapshots.remove(made.folder)
    assert not host.snapshots.all()
    nothing_half_made(host)
