"""Remotes on real servers, whose connections are cut at every request in turn."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sandlot.errors import BlobNotFound, RemoteUnreachable
from sandlot.remote.oci import OciStore
from sandlot.remote.patience import Patience, PatientStore
from sandlot.remote.s3 import S3Store
from sandlot.remote.sftp import SftpStore
from sandlot.remote.store import BlobStore
from tests.framework.cutting import Harm, Proxy, proxy_to
from tests.framework.faulty import FakeClock
from tests.framework.pushing import noise, pull, push
from tests.framework.registry import RealRegistry
from tests.framework.remotes import registry as registry
from tests.framework.remotes import s3 as s3
from tests.framework.remotes import ssh as ssh
from tests.framework.remotes import use_s3
from tests.framework.s3_server import S3Server
from tests.framework.ssh_server import SshServer

pytestmark = [pytest.mark.xdist_group("remotes"), pytest.mark.timeout(600)]

Way = tuple[Proxy, Callable[[], PatientStore]]


@pytest.fixture(params=["s3", "oci", "ssh"])
async def way(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Way]:
    """A proxy, and what opens a store behind it, at a place of the test's own."""
    kind: str = request.param
    server: S3Server | RealRegistry | SshServer = request.getfixturevalue(
        "registry" if kind == "oci" else kind
    )
    place = f"t{secrets.token_hex(6)}"
    if isinstance(server, S3Server):
        port = int(server.endpoint.rpartition(":")[2])
        use_s3(server, monkeypatch)
    elif isinstance(server, RealRegistry):
        port = int(server.host.rpartition(":")[2])
    else:
        port = server.port
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    async with proxy_to(port, http=kind != "ssh") as proxy:
        if isinstance(server, SshServer):  # its key is known by the proxy's port too
            line = server.known_hosts.read_text().splitlines()[0].partition(" ")[2]
            with server.known_hosts.open("a") as file:
                file.write(f"[127.0.0.1]:{proxy.port} {line}\n")

        def make() -> PatientStore:
            store: BlobStore
            if isinstance(server, S3Server):
                store = S3Store(server.bucket, place, endpoint=f"http://127.0.0.1:{proxy.port}")
            elif isinstance(server, RealRegistry):
                store = OciStore(f"127.0.0.1:{proxy.port}", place, clock=FakeClock())
            else:
                store = SftpStore("127.0.0.1", str(tmp_path / place), port=proxy.port)
            return PatientStore(store, Patience(attempts=4), FakeClock())

        yield proxy, make


HARMS: dict[str, tuple[Harm, ...]] = {
    "http": ("before", "after", "inside", "503"),
    "ssh": ("before",),  # what is cut after the server saw it is cut before what comes next
}  # fmt: skip


async def test_a_cut_at_every_request(way: Way) -> None:
    """Each call finishes, and nothing that was there is lost."""
    proxy, make = way
    big = secrets.token_bytes(100_000)
    async with make() as store:
        await store.put("packs/kept", b"kept")
        version = await store.replace("heads/x", b"0 first", None)
    count = 0
    for harm in HARMS["http" if proxy.http else "ssh"]:
        # What SSH sends comes in pieces that differ from run to run: every other one will do.
        for at in range(1, 400, 1 if proxy.http else 2):
            count += 1
            content = b"%d %s" % (count, secrets.token_hex(4).encode())
            proxy.aim(at, harm)
            async with make() as store:
                await store.put("packs/a", big)
                assert await store.get("packs/a") == big
                version = await store.replace("heads/x", content, version)
                assert await store.read("heads/x") == (content, version)
                assert sorted([blob.key async for blob in store.list("packs/")]) == [
                    "packs/a", "packs/kept",
                ]  # fmt: skip
                await store.delete("packs/a")
                assert not await store.has("packs/a")
                assert await store.get("packs/kept") == b"kept"
            if not proxy.done:
                break
        else:
            raise AssertionError("there is no end of requests")
        assert at > 7  # at least one for each call


async def test_a_push_and_a_pull_are_cut_at_every_request(way: Way, tmp_path: Path) -> None:
    """All of both, from the keys to the last chunk: they end well, whichever request it is."""
    proxy, make = way
    path, count = tmp_path / "file", 0
    async with make() as store:  # over a registry there are some hundred of them
        step = {"S3Store": 1, "OciStore": 9, "SftpStore": 3}[type(store._store).__name__]
    for harm in HARMS["http" if proxy.http else "ssh"][:2]:
        for at in range(1, 400, step):
            count += 1
            noise(path, 40_000, count, at=count * 100_000)
            proxy.aim(at, harm)
            async with make() as store:
                pushed = await push(store, tmp_path / "here", path, keep=3)
                await pull(store, tmp_path / "there", tmp_path / f"target-{count}")
            assert pushed.version == count
            assert (tmp_path / f"target-{count}").read_bytes() == path.read_bytes()
            if not proxy.done:
                break
        else:
            raise AssertionError("there is no end of requests")
        assert at > 15


async def test_who_gives_up_leaves_the_old_or_the_new(way: Way) -> None:
    """With one try only: the call fails, and what is there is whole; another program goes on."""
    proxy, make = way
    async with make() as store:
        version = await store.replace("heads/x", b"0", None)
        await store.put("packs/a", b"old" * 1000)
    for harm in HARMS["http" if proxy.http else "ssh"][:2]:
        for at in range(1, 400, 1 if proxy.http else 3):
            content = b"%d %s" % (at, secrets.token_hex(4).encode())
            proxy.aim(at, harm)
            failed = False
            async with make() as patient:
                once = patient._store
                try:
                    await once.replace("heads/x", content, version)
                    await once.put("packs/a", b"new" * 1000)
                except RemoteUnreachable as error:
                    failed = True
                    assert error.address
            struck = proxy.done
            proxy.aim(0, harm)
            async with make() as patient:
                assert await patient.get("packs/a") in (b"old" * 1000, b"new" * 1000)
                found, now = await patient.read("heads/x")
                assert found == content or (failed and now == version)
                await patient.put("packs/a", b"old" * 1000)
                version = await patient.replace("heads/x", content + b" again", now)
                assert await patient.get("heads/x") == content + b" again"
            if not struck:
                break
        assert at > 3


@pytest.mark.parametrize("harm", ["500", "dribble", "inside"])
async def test_answers_that_are_wrong_slow_or_cut(way: Way, harm: Harm) -> None:
    proxy, make = way
    if not proxy.http:
        return  # what SSH carries is whole or an error
    data = secrets.token_bytes(300_000)
    for at in (1, 2, 3, 4):
        proxy.aim(at, harm)
        async with make() as store:
            await store.put("packs/a", data)
            assert await store.get("packs/a") == data
            assert await store.get("packs/a", start=1000, length=5000) == data[1000:6000]
            with pytest.raises(BlobNotFound):
                await store.get("packs/none")


async def test_answers_in_another_order(way: Way) -> None:
    proxy, make = way
    if not proxy.http:
        return  # one connection: its answers have an order
    async with make() as store:
        await store.put("packs/first", b"first")
        proxy.aim(1, "hold")
        proxy.answered, proxy.held = 0, 4
        await asyncio.gather(*(store.put(f"packs/{n}", b"%d" % n) for n in range(6)))
        for number in range(6):
            assert await store.get(f"packs/{number}") == b"%d" % number


async def test_a_cut_blob_is_not_fetched_anew(way: Way) -> None:
    """The rest of it is asked for, where the protocol can tell that it is the same blob."""
    proxy, make = way
    if not proxy.http:
        return
    data = secrets.token_bytes(4 << 20)
    async with make() as store:
        await store.put("packs/a", data)
        whole = await _bytes_of(proxy, store)
        proxy.aim(2 if whole > 1 else 1, "inside")
        assert await store.get("packs/a") == data
        assert proxy.done


async def _bytes_of(proxy: Proxy, store: BlobStore) -> int:
    """How many requests a `get` takes."""
    proxy.aim(0, "before")
    await store.get("packs/a")
    return proxy.requests
