from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sandlot.errors import ConfigError, ImageError, ImageNotFound
from sandlot.image.manifest import Platform, make_manifest
from sandlot.image.reference import DEFAULT_REGISTRY
from sandlot.sandbox.host import Host
from sandlot.sandbox.pulling import find_image
from tests.framework.fake_registry import FakeRegistry, layer
from tests.framework.images import add_image


@pytest.fixture
def host(own_state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SANDLOT_PULL")
    return Host.current()


def keep(host: Host, name: str) -> None:
    add_image(host.images, name, layer({"a": b"x"}))


async def test_what_is_here_asks_nobody(host: Host) -> None:
    async with FakeRegistry() as fake:
        keep(host, f"{fake.host}/app:1")
        assert (await find_image(host, f"{fake.host}/app:1")).name == f"{fake.host}/app:1"
        assert not fake.asked


async def test_what_is_missing_is_pulled(host: Host) -> None:
    async with FakeRegistry() as fake:
        fake.add("app:1", [layer({"a": b"x"})])
        told: list[str] = []
        host.tell = told.append
        made = await find_image(host, f"{fake.host}/app:1")
        assert made.config.cmd == ("/bin/true",) and told
        asked = len(fake.asked)
        await find_image(host, f"{fake.host}/app:1")
        assert len(fake.asked) == asked
        await find_image(host, f"{fake.host}/app:1", pull="always")
        assert len(fake.asked) > asked


async def test_never(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeRegistry() as fake:
        with pytest.raises(ImageNotFound) as caught:
            await find_image(host, f"{fake.host}/app:1", pull="never")
        assert f"`sandlot image pull {fake.host}/app:1`" in caught.value.hint
        monkeypatch.setenv("SANDLOT_PULL", "never")
        with pytest.raises(ImageNotFound):
            await find_image(Host.current(), f"{fake.host}/app:1")
        assert not fake.asked


async def test_a_failed_pull_tells_both(host: Host) -> None:
    async with FakeRegistry() as fake:
        keep(host, f"{fake.host}/apple:1")
        with pytest.raises(
            ImageNotFound, match=r"no image `.*` here, and pulling failed: there is"
        ):
            await find_image(host, f"{fake.host}/appel:1")
    with pytest.raises(ImageError, match="cannot reach") as caught:
        async with asyncio.timeout(60):
            await find_image(host, f"{fake.host}/appel:1")
    assert "did you mean `" in caught.value.hint and "apple:1`? If not: " in caught.value.hint
    assert "your network" in caught.value.hint


async def test_what_can_be_no_name(host: Host) -> None:
    with pytest.raises(ConfigError, match="cannot name an image"):
        await find_image(host, "Demo+2")


async def test_an_image_for_another_machine(host: Host) -> None:
    store = host.images
    raw = {"os": "linux", "architecture": "s390x", "rootfs": {"type": "layers", "diff_ids": []}}
    config = json.dumps(raw).encode()
    with store.working():
        store.blobs.put(config)
        manifest = store.blobs.put(make_manifest(config, ()))
        store.add_oci("demo", manifest, platform=Platform.parse("s390x"))
    with pytest.raises(ImageError, match=r"is for linux/s390x, and this machine runs") as caught:
        await find_image(host, "demo")
    assert "--platform" in caught.value.hint
    with pytest.raises(ImageNotFound, match="not for linux/arm64"):
        await find_image(host, "demo", platform="linux/arm64", pull="never")


async def test_a_wrong_word(host: Host) -> None:
    with pytest.raises(ConfigError, match="'sometimes'"):
        await find_image(host, "demo", pull="sometimes")


def test_long_and_short_names(host: Host) -> None:
    keep(host, "python:latest")
    for name in (
        "python",
        "python:latest",
        "library/python",
        f"{DEFAULT_REGISTRY}/library/python:latest",
    ):
        assert host.images.get(name).name == "python:latest"
