"""Whole pulls from a registry that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.framework.fake_registry import (
    CONFIG,
    INDEX,
    MANIFEST,
    Asked,
    FakeRegistry,
    digest_of,
    layer,
    reply,
)

from sandlot.errors import ConfigError, ImageError, ResourceError
from sandlot.image.registry.client import Retry
from sandlot.image.registry.pull import pull_image
from sandlot.image.store import ImageStore

QUICK = Retry(attempts=3, first=0.001)


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def left_overs(store: ImageStore) -> list[Path]:
    """Files of the store that belong to no image."""
    return [
        path
        for path in store.root.rglob("*")
        if path.is_file()
        and path.name not in ("lock", "work.lock")
        and path.parent.name not in ("sha256", "locks", "layers", "stacks")
    ]


async def test_nothing_is_left_of_a_pull_that_failed(fake: FakeRegistry, store: ImageStore) -> None:
    data = layer({"a": b"x"})
    fake.add("app:1", [data])
    fake.blobs[digest_of(data)] = data[::-1]
    with pytest.raises(ImageError, match="is damaged"):
        await pull_image(store, f"{fake.host}/app:1", retry=QUICK)
    assert not store.list() and not left_overs(store)


async def test_the_progress_never_goes_back_to_nothing(
    fake: FakeRegistry, store: ImageStore
) -> None:
    fake.add("app:1", [layer({"a": bytes(2_000_000)}), layer({"b": bytes(1_000_000)})])
    told: list[float] = []

    def progress(stage: str, fraction: float | None) -> None:
        if stage.startswith("pulling") and fraction is not None:
            told.append(fraction)

    await pull_image(store, f"{fake.host}/app:1", progress=progress)
    assert told[0] == 0 and told[-1] == 1 and told == sorted(told)


async def test_what_is_here_is_not_asked_for(fake: FakeRegistry, store: ImageStore) -> None:
    fake.add("app:1", [layer({"a": b"x"})])
    first = await pull_image(store, f"{fake.host}/app:1")
    fake.asked.clear()
    second = await pull_image(store, f"{fake.host}/app:1")
    assert first.digest == second.digest
    assert [(a.method, a.path) for a in fake.asked if a.path != "/v2/"] == [
        ("HEAD", "/v2/app/manifests/1")
    ]
    fake.asked.clear()
    await pull_image(store, f"{fake.host}/app@{(first.key)}")
    assert not fake.asked


class Broken(NamedTuple):
    message: str
    kind: str
    manifest: dict[str, object]


SMALL = {"mediaType": CONFIG, "digest": "sha256:" + "0" * 64, "size": 2}
BROKEN = [
    Broken("is damaged", MANIFEST, {}),
    Broken("no image", "application/x", {"mediaType": "application/x"}),
    Broken("layers are more than", MANIFEST, {"config": SMALL, "layers": [SMALL] * 600}),
    Broken("is larger than", MANIFEST, {"config": {**SMALL, "size": 1 << 30}, "layers": []}),
    Broken("size -1", MANIFEST, {"config": {**SMALL, "size": -1}, "layers": []}),
    Broken("artifact", MANIFEST, {"config": {**SMALL, "mediaType": "application/x"}, "layers": []}),
    Broken("no platform", INDEX, {"manifests": []}),
    Broken("has nothing for", INDEX, {"manifests": [{**SMALL, "mediaType": MANIFEST, "platform": {"os": "linux", "architecture": "s390x"}}]}),
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: b.message)
async def test_manifests_that_are_refused(
    fake: FakeRegistry, store: ImageStore, broken: Broken
) -> None:
    fake.put("app:1", broken.kind, json.dumps({"schemaVersion": 2, **broken.manifest}).encode())
    with pytest.raises(ImageError, match=broken.message):
        await pull_image(store, f"{fake.host}/app:1", retry=QUICK)
    assert not store.list() and not left_overs(store)


async def test_an_index_of_itself_over_and_over(fake: FakeRegistry, store: ImageStore) -> None:
    from sandlot.image.config import host_architecture

    platform = {"os": "linux", "architecture": host_architecture()}
    inner = digest_of(b"{}")
    for _ in range(5):
        data = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": INDEX, "digest": inner, "size": 10, "platform": platform}]}  # fmt: skip
        inner = fake.put("app:1", INDEX, json.dumps(data).encode())
    with pytest.raises(ImageError, match="index of indexes"):
        await pull_image(store, f"{fake.host}/app:1", retry=QUICK)


async def test_a_disk_that_is_too_small(
    fake: FakeRegistry, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add("app:1", [layer({"a": b"x"})])
    usage = shutil._ntuple_diskusage(1 << 30, 1 << 30, 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match="not enough disk") as caught:
        await pull_image(store, f"{fake.host}/app:1", retry=QUICK)
    assert "image rm" in caught.value.hint and len(fake.requests("/blobs/")) == 1


async def test_names_that_cannot_be_pulled(store: ImageStore) -> None:
    for name in ("", "registry.example.com/UPPER", "a b", "x" * 300):
        with pytest.raises(ConfigError):
            await pull_image(store, name)


async def test_the_first_failure_ends_the_others(fake: FakeRegistry, store: ImageStore) -> None:
    slow, bad = layer({"slow": bytes(100_000)}), layer({"bad": b"x"})
    fake.add("app:1", [slow, bad])
    part = store.root / "blobs/partial" / digest_of(slow)[7:]

    async def stuck(asked: Asked, writer: asyncio.StreamWriter) -> None:
        reply(writer, 200, slow[:50_000], length=len(slow))
        await writer.drain()
        await asyncio.Event().wait()

    async def missing(asked: Asked, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(60):
            while not part.exists():
                await asyncio.sleep(0.01)
        reply(writer, 404)

    fake.fault(digest_of(slow), stuck)
    fake.fault(digest_of(bad), missing, times=9)
    with pytest.raises(ImageError, match="lacks the blob"):
        await pull_image(store, f"{fake.host}/app:1", retry=QUICK)
    assert not store.list()
    assert all(path == part for path in left_overs(store))  # to go on with


PROGRAM = """
import asyncio, sys
from pathlib import Path
from sandlot.image import ImageStore
print(asyncio.run(ImageStore(Path(sys.argv[1])).pull(sys.argv[2])).digest)
"""


async def test_a_program_that_was_killed_leaves_what_it_has(
    fake: FakeRegistry, store: ImageStore
) -> None:
    data = layer({"a": bytes(3_000_000)})
    fake.add("app:1", [data])

    async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
        reply(writer, 200, data[:1_000_000], length=len(data))
        await writer.drain()
        await asyncio.Event().wait()

    fake.fault(digest_of(data), half)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(store.root), f"{fake.host}/app:1",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    part = store.root / "blobs/partial" / digest_of(data)[7:]
    async with asyncio.timeout(120):
        while not part.exists() or part.stat().st_size < 262_144:
            await asyncio.sleep(0.02)
    program.kill()
    await program.wait()
    kept = part.stat().st_size
    image = await pull_image(store, f"{fake.host}/app:1", retry=QUICK)
    assert fake.requests(digest_of(data))[-1].headers["range"] == f"bytes={kept}-"
    assert image.size and not left_overs(store)[1:]


MEASURED = (
    PROGRAM
    + """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
)


async def test_a_large_layer_takes_no_more_memory(fake: FakeRegistry, store: ImageStore) -> None:
    fake.add("app:small", [layer({"a": b"x"})])
    fake.add("app:large", [layer({"b": os.urandom(1 << 20) * 100})])
    peaks = []
    for tag in ("small", "large"):
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MEASURED, str(store.root), f"{fake.host}/app:{tag}",
            stdout=subprocess.PIPE,
        )  # fmt: skip
        said, _ = await program.communicate()
        peaks.append(int(said.split()[1]) << 10)
    assert peaks[1] - peaks[0] < 40 << 20, peaks


LIMITED = (
    """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""
    + PROGRAM
)


async def test_a_disk_that_is_full_in_the_middle(fake: FakeRegistry, store: ImageStore) -> None:
    fake.add("app:1", [layer({"a": bytes(3_000_000)}), layer({"b": bytes(2_000_000)})])
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIMITED, str(store.root), f"{fake.host}/app:1",
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, said = await program.communicate()
    assert b"ResourceError: no room for the image" in said
    assert not store.list() and not left_overs(store)


async def test_what_nobody_goes_on_with_is_removed(fake: FakeRegistry, store: ImageStore) -> None:
    fake.add("app:1", [layer({"a": b"x"})])
    data = b"x" * 1000
    with store.blobs.partial(digest_of(data), 1000) as part:
        part.write(data[:500])
    (left,) = left_overs(store)
    os.utime(left, (0, 0))
    await pull_image(store, f"{fake.host}/app:1")
    assert not left.exists()


async def test_cancelling_a_pull(fake: FakeRegistry, store: ImageStore) -> None:
    data = layer({"a": bytes(3_000_000)})
    fake.add("app:1", [data])
    began = asyncio.Event()

    async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
        reply(writer, 200, data[:1_000_000], length=len(data))
        await writer.drain()
        began.set()
        await asyncio.Event().wait()

    fake.fault(digest_of(data), half)
    work = asyncio.ensure_future(pull_image(store, f"{fake.host}/app:1"))
    await began.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not store.list()
    assert (await pull_image(store, f"{fake.host}/app:1")).size
