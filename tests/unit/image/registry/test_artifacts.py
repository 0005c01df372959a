from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.framework.registry import RealRegistry
from tests.framework.remotes import registry as registry

from sandlot.errors import ConnectionFailed
from sandlot.image.digest import digest_of
from sandlot.image.registry.artifacts import ArtifactClient
from sandlot.image.registry.credentials import AuthFiles
from sandlot.image.registry.keychain import Keychain
from sandlot.image.registry.registries import Registries
from sandlot.image.registry.transport import Transport

pytestmark = pytest.mark.xdist_group("remotes")


def manifest(data: bytes, note: str = "") -> bytes:
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": digest_of(b"{}"), "size": 2,
    }  # fmt: skip
    layer = {"mediaType": "application/x", "digest": digest_of(data), "size": len(data)}
    return json.dumps(
        {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": empty, "layers": [layer], "annotations": {"note": note},
        }
    ).encode()  # fmt: skip


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(lambda host: ssl.create_default_context()) as made:
        yield made


def client(transport: Transport, host: str, name: str) -> ArtifactClient:
    registries = Registries.read(os.environ, ())
    return ArtifactClient(transport, registries, Keychain(AuthFiles.read(os.environ)), host, name)


async def test_push_and_find(registry: RealRegistry, transport: Transport, tmp_path: Path) -> None:
    pushed = client(transport, registry.host, f"a/{tmp_path.name.lower()}")
    assert await pushed.all_tags() == []
    assert await pushed.find_manifest("one") is None
    data = bytes(range(256)) * 100
    assert not await pushed.has_blob(digest_of(data))
    assert "GMT" in await pushed.push_blob(data, digest_of(data))
    await pushed.push_blob(b"{}", digest_of(b"{}"))
    assert await pushed.has_blob(digest_of(data))
    await pushed.push_manifest("one", manifest(data))
    await pushed.push_manifest("two", manifest(data, "other"))
    assert await pushed.find_manifest("one") == manifest(data)
    assert sorted(await pushed.all_tags()) == ["one", "two"]
    got = bytearray()
    await pushed.pour_blob(digest_of(data), 1000, 500, got.extend)
    assert got == data[1000:1500]
    await pushed.remove_manifest(digest_of(manifest(data)))
    await pushed.remove_manifest(digest_of(manifest(data)))
    assert await pushed.all_tags() == ["two"]


async def test_a_manifest_of_what_it_does_not_know_is_worth_another_try(
    registry: RealRegistry, transport: Transport
) -> None:
    with pytest.raises(ConnectionFailed, match="blob") as caught:
        await client(transport, registry.host, "a/lacking").push_manifest("one", manifest(b"none"))
    assert caught.value.status in (400, 404)


async def test_a_blob_that_came_damaged_is_worth_another_try(
    registry: RealRegistry, transport: Transport
) -> None:
    with pytest.raises(ConnectionFailed, match="digest") as caught:
        await client(transport, registry.host, "a/damaged").push_blob(b"x", digest_of(b"y"))
    assert caught.value.status == 400
