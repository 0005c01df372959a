"""What is run, and how what was written becomes a layer; machines are in tests/vm/test_build.py."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandlot.build.commands import _own_left_out, _written, command_of
from sandlot.build.dockerfile import Run, parse_dockerfile
from sandlot.build.state import State
from sandlot.errors import BuildError, ImageError
from sandlot.image.config import ImageConfig
from sandlot.image.store import ImageStore
from sandlot.image.tar import Member
from sandlot.image.tree import Node


def command(text: str) -> tuple[list[str], bytes | None]:
    run = parse_dockerfile(f"FROM x\n{text}\n").stages[0].instructions[0]
    assert isinstance(run, Run)
    return command_of(State(key="", image="x", config=ImageConfig()), run)


def test_what_is_run() -> None:
    shell = ["/bin/sh", "-c"]
    assert command("RUN a && b") == ([*shell, "a && b"], None)
    assert command('RUN ["a", "b"]') == (["a", "b"], None)
    assert command("RUN <<EOF\na\nb\nEOF") == ([*shell, "a\nb\n"], None)
    assert command("RUN <<-'E'\n\ta\nE") == ([*shell, "a\n"], None)
    assert command("RUN cat <<A <<B >x\n1\nA\n2\nB") == (
        [*shell, "cat <<A <<B >x\n1\nA\n2\nB\n"],
        None,
    )
    script, read = command("RUN <<EOF\n#!/usr/bin/env python3\nprint()\nEOF")
    assert script == ["/usr/bin/env", "python3", "/dev/stdin"]
    assert read == b"#!/usr/bin/env python3\nprint()\n"
    with pytest.raises(BuildError, match="names no program"):
        command("RUN <<EOF\n#!\nEOF")


def left(*paths: str) -> list[str]:
    members = [Member(path.encode(), Node(0o100644)) for path in paths]
    return [member.path.decode() for member in _own_left_out(iter(members))]


def test_what_belongs_to_the_machine_is_left_out() -> None:
    own = ["etc/hostname", "etc/hosts", "etc/machine-id", "etc/.wh.resolv.conf", "dev/", "dev/x", "proc", "sys/y", "./"]  # fmt: skip
    kept = ["etc/passwd", "device", "etc/hostname.d/x", "home/dev", "procfs/x", "etc"]
    assert left(*own, *kept) == kept


def archive(names: Sequence[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()


async def pieces(data: bytes, size: int = 700) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def test_a_stream_becomes_a_layer(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    layer = await _written(store, pieces(archive(["a", "etc/hosts", "b"])), 1 << 20)
    assert layer is not None
    store.unpack(layer.diff_id, layer.descriptor.digest)
    assert len(store.layers.load(layer.diff_id)) == 2


async def test_nothing_is_no_layer(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    assert await _written(store, pieces(archive(["etc/hosts"])), 1 << 20) is None
    assert not list(store.blobs.digests())


async def test_a_stream_without_end_is_cut(tmp_path: Path) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            yield archive(["a"])[:512]

    with pytest.raises(BuildError, match="more than its disk can hold"):
        await _written(ImageStore(tmp_path), endless(), 100_000)


async def test_garbage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        await _written(ImageStore(tmp_path), pieces(b"x" * 2000), 1 << 20)


async def test_cancelling_a_stream_that_stalls(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def stalled() -> AsyncGenerator[bytes, None]:
        yield archive(["a"])[:100]
        began.set()
        await asyncio.Event().wait()

    store = ImageStore(tmp_path)
    work: asyncio.Future[Any] = asyncio.ensure_future(_written(store, stalled(), 1 << 20))
    await began.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await work
    assert not list(store.blobs.digests())
