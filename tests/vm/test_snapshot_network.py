"""What children of a sandbox have of its network and its secrets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import ConfigError, Network, Sandbox, Secret, SecretUnavailable, Snapshot
from sandlot.sandbox.host import Host
from tests.framework.secret_upstream import HOST, Upstream, machine_memory

# Loads what it trusts once, and asks whenever it is told to.
ASKER = """
import os, ssl, time, urllib.request
context = ssl.create_default_context()
number = 0
print('ready', flush=True)
while True:
    number += 1
    while not os.path.exists(f'/root/ask-{number}'):
        time.sleep(0.02)
    try:
        request = urllib.request.Request(f'https://host.sandlot.internal:{PORT}/',
                                         headers={'Authorization': 'Bearer ' + os.environ['API_KEY']})
        said = urllib.request.urlopen(request, context=context, timeout=60).read().decode()
    except Exception as error:
        said = repr(error)
    with open('/root/new', 'w') as file: file.write(said)
    os.rename('/root/new', f'/root/said-{number}')
"""
ONCE = (
    ASKER.replace("number += 1", "number += 1; break").partition("while True")[0]
    + """
request = urllib.request.Request(f'https://host.sandlot.internal:{PORT}/',
                                 headers={'Authorization': 'Bearer ' + os.environ['API_KEY']})
print(urllib.request.urlopen(request, context=context, timeout=60).read().decode())
"""
)


async def asked(sandbox: Sandbox, number: int) -> str:
    """What the program that runs since before the snapshot is told."""
    await sandbox.files.write(f"/root/ask-{number}", b"")
    while not await sandbox.files.exists(f"/root/said-{number}"):
        await asyncio.sleep(0.05)
    return await sandbox.files.read_text(f"/root/said-{number}")


async def asked_once(sandbox: Sandbox, port: int) -> str:
    """What a program that begins now is told."""
    shown = await sandbox.exec(["python3", "-c", ONCE.replace("{PORT}", str(port))], check=True)
    return shown.text.split()[-1]


@pytest.fixture
async def parent(
    net_image: str, upstream: tuple[Upstream, int, int, str]
) -> AsyncIterator[Sandbox]:
    server, port, _, bundle = upstream
    async with Sandbox.create(
        image=net_image, memory="512M", secrets={"API_KEY": (server.value, HOST)},
        network=Network(allow=["host"]), upstream_ca=bundle, ports={0: 8000},
    ) as sandbox:  # fmt: skip
        await sandbox.spawn(["python3", "-c", ASKER.replace("{PORT}", str(port))], detached=True)
        assert await asked(sandbox, 1) == "value"
        yield sandbox
    for snapshot in await Snapshot.list():
        if snapshot.record.sandbox == sandbox.name:
            await snapshot.remove(cascade=True)


async def test_children_have_the_secrets_and_no_snapshot_the_value(
    parent: Sandbox, upstream: tuple[Upstream, int, int, str]
) -> None:
    server, port, _, _ = upstream
    value = server.value.encode()
    snap = await parent.snapshot()
    async with parent.fork() as twin, snap.restore() as child:
        for sandbox in (twin, child):
            assert await asked(sandbox, 2) == "value", sandbox.name
            assert await asked_once(sandbox, port) == "value"
            monitor = sandbox.info().state.monitor
            assert not machine_memory(monitor, value)
        async with twin.fork() as grandchild:
            assert await asked(grandchild, 3) == "value"
            assert grandchild.record.placeholders == parent.record.placeholders
    for path in snap.folder.path.rglob("*"):
        if path.is_file():
            assert value not in _data(path), path
    assert await asked(parent, 2) == "value"


def _data(path: Path) -> bytes:
    """What is in a file besides its holes."""
    found = bytearray()
    with path.open("rb") as file:
        size, at = path.stat().st_size, 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            found += os.pread(file.fileno(), end - at, at)
            at = end
    return bytes(found)


async def test_who_restores_elsewhere_gives_the_values(
    parent: Sandbox, upstream: tuple[Upstream, int, int, str]
) -> None:
    server, port, _, _ = upstream
    snap = await parent.snapshot()
    Host.current().grants.clear()  # as in a program that did not make the snapshot
    with pytest.raises(SecretUnavailable, match="API_KEY"):
        await snap.restore()
    with pytest.raises(ConfigError, match="had no secret OTHER"):
        await snap.restore(secrets={"OTHER": ("value", HOST)})
    async with snap.restore(secrets={"API_KEY": (server.value, HOST)}) as child:
        assert await asked_once(child, port) == "value"
    async with snap.restore(secrets={}) as none:
        assert "API_KEY" not in (await none.exec("env", check=True)).text
        assert await asked(none, 2) != "value"
    with pytest.raises(ConfigError, match="env="):
        await snap.restore(env={"API_KEY": "mine"})
    os.environ["SANDLOT_TEST_SECRET"] = server.value
    try:
        async with snap.restore(
            secrets={"API_KEY": Secret(env="SANDLOT_TEST_SECRET", hosts=[HOST])}
        ) as child:
            again = await child.snapshot()
        Host.current().grants.clear()
        async with again.restore() as read:  # from where it was said to be
            assert await asked_once(read, port) == "value"
    finally:
        del os.environ["SANDLOT_TEST_SECRET"]


async def test_ports_and_policy_of_children(parent: Sandbox) -> None:
    await parent.spawn(
        ["python3", "-c", "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000)"],
        detached=True,
    )
    (published,) = parent.ports

    async def head(number: int) -> bytes:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", number)
                writer.write(b"HEAD / HTTP/1.0\r\n\r\n")
                line = await reader.readline()
                writer.close()
                if line:
                    return line
            except ConnectionError:
                pass
            await asyncio.sleep(0.05)

    assert b"200" in await head(published)
    snap = await parent.snapshot()
    async with (
        snap.restore() as child,
        snap.restore(ports={0: 8000}, network=Network.deny_all()) as closed,
    ):
        (other,) = child.ports
        assert other != published
        assert b"200" in await head(other)
        assert b"200" in await head(next(iter(closed.ports)))
        assert await asked(child, 2) == "value"
        assert "Error" in await asked(closed, 2)
    assert b"200" in await head(published)


async def test_established_connections_are_reset(net_image: str) -> None:
    """In a child; the parent's own go on."""
    program = """
import socket
with socket.create_connection(('host.sandlot.internal', PORT)) as sock:
    while True:
        try:
            data = sock.recv(100)
        except OSError as error:
            print(type(error).__name__, flush=True); break
        print(data.decode() or 'end', flush=True)
        if not data: break
"""
    writers: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b"hello")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Sandbox.create(
            image=net_image, memory="512M", network=Network(allow=["host"])
        ) as sandbox:
            job = await sandbox.spawn(
                ["python3", "-c", program.replace("PORT", str(port))], detached=True
            )
            while b"hello" not in b"".join([piece.data for piece in await job.logs()]):
                await asyncio.sleep(0.05)
            async with sandbox.fork() as twin:
                (copied,) = await twin.jobs()
                await copied.wait()
                said = b"".join([piece.data for piece in await copied.logs()])
                assert b"ConnectionResetError" in said
                writers[0].write(b"still there")
                while b"still there" not in b"".join([piece.data for piece in await job.logs()]):
                    await asyncio.sleep(0.05)
                assert len(writers) == 1
            writers[0].close()
            await job.wait()
    finally:
        server.close()
        await server.wait_closed()
