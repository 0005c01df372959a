"""One repository against a registry that misbehaves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.framework.fake_registry import (
    MANIFEST,
    Asked,
    FakeRegistry,
    answers,
    cut,
    digest_of,
    layer,
    reply,
    silence,
)

from sandlot.errors import (
    ConnectionFailed,
    ImageError,
    ImageNotFound,
    RegistryError,
    ResourceError,
)
from sandlot.image.blobs import BlobStore
from sandlot.image.manifest import MAX_MANIFEST, Descriptor
from sandlot.image.registry import transport as transport_module
from sandlot.image.registry.client import RepositoryClient, Retry
from sandlot.image.registry.credentials import AuthFile, AuthFiles
from sandlot.image.registry.keychain import Keychain
from sandlot.image.registry.registries import Registries, RegistryOptions
from sandlot.image.registry.transport import Transport

BIG = bytes(range(256)) * 8192  # 2 MiB
QUICK = Retry(attempts=4, first=0.001)


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        yield registry


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(lambda host: ssl.create_default_context()) as made:
        yield made


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def client_of(
    transport: Transport, host: str, *, auths: str = "{}", repository: str = "team/app",
    options: dict[str, RegistryOptions] | None = None, retry: Retry = QUICK,
) -> RepositoryClient:  # fmt: skip
    files = AuthFiles(((Path("auth.json"), AuthFile.parse(auths)),))
    return RepositoryClient(
        transport, Registries(options or {}), Keychain(files), host, repository, retry=retry
    )


def descriptor(data: bytes, **changes: Any) -> Descriptor:
    values = {"media_type": "x", "digest": digest_of(data), "size": len(data), **changes}
    return Descriptor(**values)


async def test_a_manifest_by_tag_and_by_digest(fake: FakeRegistry, transport: Transport) -> None:
    digest = fake.add("team/app:1", [layer({"a": b"1"})])
    client = client_of(transport, fake.host)
    by_tag = await client.manifest("1")
    assert by_tag.digest == digest and by_tag.media_type == MANIFEST
    assert await client.manifest(digest) == by_tag
    assert await client.head("1") == digest
    assert MANIFEST in fake.asked[-1].headers["accept"]


async def test_one_connection_serves_many_requests(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    client = client_of(transport, fake.host)
    await client.blob(blobs, descriptor(BIG))
    fake.add("team/app:1", [])
    opened = transport_module._open

    async def refuse(host: str, port: int) -> Any:
        raise AssertionError("a new connection")

    transport_module._open = refuse
    try:
        await client.manifest("1")
    finally:
        transport_module._open = opened


async def test_a_server_that_closed_an_idle_connection(
    fake: FakeRegistry, transport: Transport
) -> None:
    fake.add("team/app:1", [])
    client = client_of(transport, fake.host)
    await client.manifest("1")
    for task in list(fake._tasks):
        task.cancel()
    await asyncio.gather(*fake._tasks, return_exceptions=True)
    assert (await client.manifest("1")).digest


async def test_a_blob_is_verified_and_counted(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    counted: list[int] = []
    await client_of(transport, fake.host).blob(blobs, descriptor(BIG), counted.append)
    assert blobs.path(digest_of(BIG)).read_bytes() == BIG
    assert sum(counted) == len(BIG)


async def test_a_cut_blob_goes_on_where_it_was(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    fake.fault("/blobs/", cut(BIG, 1_500_000))
    counted: list[int] = []
    await client_of(transport, fake.host).blob(blobs, descriptor(BIG), counted.append)
    first, second = fake.requests("/blobs/")
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=1500000-"
    assert blobs.exists(digest_of(BIG)) and sum(counted) == len(BIG)


async def test_what_a_killed_program_left_is_used(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    with blobs.partial(digest_of(BIG), len(BIG)) as part:
        part.write(BIG[:1000])
    await client_of(transport, fake.host).blob(blobs, descriptor(BIG))
    assert fake.asked[-1].headers["range"] == "bytes=1000-"


async def test_a_server_that_cannot_resume_begins_again(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    fake.ranges = False
    fake.fault("/blobs/", cut(BIG, 1000))
    counted: list[int] = []
    await client_of(transport, fake.host).blob(blobs, descriptor(BIG), counted.append)
    assert blobs.exists(digest_of(BIG)) and sum(counted) == len(BIG)


async def test_another_range_than_was_asked_for(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    with blobs.partial(digest_of(BIG), len(BIG)) as part:
        part.write(BIG[:1000])
    fake.fault("/blobs/", answers(206, BIG[:50], {"Content-Range": f"bytes 0-49/{len(BIG)}"}))
    await client_of(transport, fake.host).blob(blobs, descriptor(BIG))
    assert blobs.exists(digest_of(BIG))


async def test_a_damaged_blob_is_fetched_once_more(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    fake.fault("/blobs/", answers(200, BIG[::-1]))
    await client_of(transport, fake.host).blob(blobs, descriptor(BIG))
    assert blobs.exists(digest_of(BIG))


async def test_a_blob_that_stays_damaged(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG[::-1]
    with pytest.raises(ImageError, match="damaged: its contents have the digest"):
        await client_of(transport, fake.host).blob(blobs, descriptor(BIG))
    assert not blobs.exists(digest_of(BIG))
    assert not list((blobs.root / "blobs/partial").iterdir())
    assert len(fake.requests("/blobs/")) == 2


async def test_a_body_without_end_is_cut_at_its_size(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    sent = 0

    async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            await writer.drain()
            sent += 65536

    fake.fault("/blobs/", endless, times=9)
    with pytest.raises(ImageError, match="more than the 100 bytes promised"):
        await client_of(transport, fake.host).blob(blobs, descriptor(bytes(100)))
    assert sent < 64 << 20


async def test_another_size_than_the_manifest_says(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    wrong = descriptor(BIG, size=len(BIG) - 1)
    with pytest.raises(RegistryError, match="another size"):
        await client_of(transport, fake.host).blob(blobs, wrong)


async def test_a_manifest_that_is_too_large(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault("/manifests/", answers(200, b" " * (MAX_MANIFEST + 1)))
    with pytest.raises(RegistryError, match="more than"):
        await client_of(transport, fake.host).manifest("1")


async def test_another_manifest_than_its_digest(fake: FakeRegistry, transport: Transport) -> None:
    digest = fake.add("team/app:1", [])
    fake.manifests[f"/v2/team/app/manifests/{digest}"] = (MANIFEST, b"{}")
    with pytest.raises(RegistryError, match="another manifest"):
        await client_of(transport, fake.host).manifest(digest)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_passes_by_itself_is_tried_again(
    fake: FakeRegistry, transport: Transport, status: int
) -> None:
    fake.add("team/app:1", [])
    fake.fault("/manifests/", answers(status, headers={"Retry-After": "0"}), times=2)
    assert (await client_of(transport, fake.host).manifest("1")).digest


async def test_what_does_not_pass_is_told(fake: FakeRegistry, transport: Transport) -> None:
    told = b'{"errors":[{"code":"UNAVAILABLE","message":"closed\\u001b[31m"}]}'
    fake.fault("/manifests/", answers(503, told), times=99)
    with pytest.raises(RegistryError, match=r"answered with 503 .*: closed") as caught:
        await client_of(transport, fake.host).manifest("1")
    assert caught.value.status == 503 and "\x1b" not in caught.value.message
    assert len(fake.requests("/manifests/")) == QUICK.attempts


async def test_a_rate_limit_is_explained_at_once(fake: FakeRegistry, transport: Transport) -> None:
    headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    fake.fault("/manifests/", answers(429, b"", headers), times=99)
    with pytest.raises(RegistryError, match="no more pulls for now, which are 100 in 6 hours") as e:
        await client_of(transport, fake.host).manifest("1")
    assert e.value.status == 429 and e.value.retry_after == 21600
    assert "wait 6 hours" in e.value.hint and "login" in e.value.hint and "MIRRORS" in e.value.hint
    assert len(fake.requests("/manifests/")) == 1


async def test_a_missing_tag_names_others(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault(
        "/tags/list?n=",
        answers(
            200,
            b'{"tags":["3.12","3.13"]}',
            {"Link": '</v2/team/app/tags/list?last=3.13>; rel="next"'},
        ),
    )
    fake.fault("/tags/list?last", answers(200, b'{"tags":["3.14","\\u001b[2J"]}'))
    with pytest.raises(ImageNotFound, match=r"no tag 3\.15 in .*team/app") as caught:
        await client_of(transport, fake.host).manifest("3.15")
    assert "3.14" in caught.value.hint and "\x1b" not in caught.value.hint


async def test_a_missing_repository(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault("/manifests/", answers(404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}'))
    with pytest.raises(ImageNotFound, match="no repository"):
        await client_of(transport, fake.host).manifest("1")


async def test_nobody_answers(transport: Transport) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=f"cannot reach {host}: Connection refused"):
        await client_of(transport, host).manifest("1")


async def test_a_name_that_does_not_exist(transport: Transport) -> None:
    with pytest.raises(RegistryError, match=r"cannot reach registry\.invalid"):
        await client_of(transport, "registry.invalid").manifest("1")


async def test_silence(
    fake: FakeRegistry, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "HEAD_SECONDS", 0.2)
    fake.fault("/manifests/", silence, times=99)
    with pytest.raises(ConnectionFailed, match="did not answer within"):
        await client_of(transport, fake.host, retry=Retry(2, 0.001)).manifest("1")


async def test_headers_that_drip(
    fake: FakeRegistry, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    monkeypatch.setattr(transport_module, "HEAD_SECONDS", 0.5)
    fake.fault("/manifests/", drip, times=99)
    with pytest.raises(ConnectionFailed):
        await client_of(transport, fake.host, retry=Retry(1, 0.001)).manifest("1")


async def test_a_body_that_drips(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    monkeypatch.setattr(transport_module, "IDLE_SECONDS", 0.3)
    fake.fault("/blobs/", drip, times=99)
    with pytest.raises(ConnectionFailed, match="too slowly"):
        await client_of(transport, fake.host, retry=Retry(1, 0.001)).blob(
            blobs, descriptor(bytes(100_000))
        )


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    ],
)  # fmt: skip
async def test_what_is_not_http(fake: FakeRegistry, transport: Transport, answer: bytes) -> None:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    fake.fault("/manifests/", handler, times=99)
    with pytest.raises(RegistryError):
        await client_of(transport, fake.host).manifest("1")


async def test_redirects_do_not_carry_credentials(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.authorization = "Basic bWU6c2VjcmV0"
    auths = f'{{"auths":{{"{fake.host}":{{"auth":"bWU6c2VjcmV0"}}}}}}'
    async with FakeRegistry() as storage:
        storage.blobs[digest_of(BIG)] = BIG
        where = f"http://{storage.host}/blobs/{digest_of(BIG)}?signed=1"
        fake.fault("/blobs/", answers(401, b"", {"WWW-Authenticate": fake.challenge}))
        fake.fault("/blobs/", answers(307, b"", {"Location": where}))
        await client_of(transport, fake.host, auths=auths).blob(blobs, descriptor(BIG))
        assert "authorization" not in storage.asked[0].headers
        assert fake.asked[-1].headers["authorization"] == fake.authorization
    assert blobs.exists(digest_of(BIG))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://example.invalid/x", "without encryption"),
        ("ftp://127.0.0.1/x", "to nowhere"),
        ("", "more than 5 times"),
    ],
)
async def test_redirects_that_are_refused(
    fake: FakeRegistry, transport: Transport, location: str, message: str
) -> None:
    fake.fault("/manifests/", answers(302, b"", {"Location": location or "?again"}), times=99)
    with pytest.raises(RegistryError, match=message):
        await client_of(transport, fake.host).manifest("1")


async def test_mirrors_come_first_and_the_registry_is_the_fallback(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.add("team/app:1", [])
    fake.blobs[digest_of(BIG)] = BIG
    async with FakeRegistry() as mirror:
        options = {fake.host: RegistryOptions(mirrors=(f"http://{mirror.host}/cache",))}
        auths = f'{{"auths":{{"{fake.host}":{{"auth":"bWU6c2VjcmV0"}}}}}}'
        client = client_of(transport, fake.host, options=options, auths=auths)
        mirror.fault("/manifests/", answers(404))
        await client.manifest("1")
        mirror.add("cache/team/app:1", [layer({"other": b""})])
        assert (await client.manifest("1")).data == mirror.manifests[
            "/v2/cache/team/app/manifests/1"
        ][1]
        mirror.fault("/blobs/", answers(200, BIG[::-1]))
        await client.blob(blobs, descriptor(BIG))
        assert blobs.exists(digest_of(BIG))
        assert len(fake.requests("/manifests/")) == 1
        mirror.fault("/manifests/", answers(401, b"", {"WWW-Authenticate": 'Basic realm="m"'}), 9)
        await client.manifest("1")
        assert not [a for a in mirror.asked if "authorization" in a.headers]


async def test_a_mirror_that_is_down_is_asked_once(
    fake: FakeRegistry, transport: Transport
) -> None:
    fake.add("team/app:1", [])
    options = {fake.host: RegistryOptions(mirrors=("http://127.0.0.1:9",))}
    client = client_of(transport, fake.host, options=options)
    for _ in range(3):
        await client.manifest("1")
    assert [place.failed for place in client._places] == [True, False]


async def test_two_at_once_download_once(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    fake.blobs[digest_of(BIG)] = BIG
    began = asyncio.Event()

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        began.set()
        await asyncio.sleep(0.2)
        reply(writer, 200, BIG)

    fake.fault("/blobs/", slow)
    one, two = (client_of(transport, fake.host) for _ in range(2))
    async with asyncio.TaskGroup() as group:
        group.create_task(one.blob(blobs, descriptor(BIG)))
        await began.wait()
        group.create_task(two.blob(blobs, descriptor(BIG)))
    assert len(fake.requests("/blobs/")) == 1


async def test_a_full_disk(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandlot.image.blobs import Partial

    fake.blobs[digest_of(BIG)] = BIG

    def full(self: Partial, data: bytes) -> int:
        raise ResourceError("no room for the image")

    monkeypatch.setattr(Partial, "write", full)
    with pytest.raises(ResourceError, match="no room"):
        await client_of(transport, fake.host).blob(blobs, descriptor(BIG))
    assert len(fake.requests("/blobs/")) == 1


async def test_cancelling_ends_the_transfer(
    fake: FakeRegistry, transport: Transport, blobs: BlobStore
) -> None:
    began = asyncio.Event()

    async def stuck(asked: Asked, writer: asyncio.StreamWriter) -> None:
        reply(writer, 200, BIG[:100_000], length=len(BIG))
        await writer.drain()
        began.set()
        await asyncio.Event().wait()

    fake.fault("/blobs/", stuck)
    work = asyncio.ensure_future(client_of(transport, fake.host).blob(blobs, descriptor(BIG)))
    await began.wait()
    await asyncio.sleep(0.05)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    with blobs.partial(digest_of(BIG), len(BIG), wait=False) as part:
        assert 0 < part.offset <= 100_000
