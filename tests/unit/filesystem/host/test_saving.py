from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

from sandlot.filesystem.host.saving import MISSING, ROOT, recall_nodes, save_nodes
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest, until


def laid_out(folder: Path) -> None:
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/\udcff odd").write_text("one")
    (folder / "a/file").write_text("two")


async def saved(guest: Guest) -> tuple[str, int, int]:
    """As JSON, what a snapshot would keep."""
    nodes = [
        await guest.find(path) for path in ("a/b/\udcff odd", "a", "a/b", "a/file")
    ]  # fmt: skip
    writer = await guest.open("a/file", os.O_RDWR | os.O_APPEND)
    reader = await guest.open("a/b/\udcff odd", os.O_RDONLY)
    opened = await guest.fs.opendir(guest.ctx, nodes[1])
    handles = [
        (writer.node, writer.handle, 0), (reader.node, reader.handle, 0),
        (nodes[1], opened.handle, 0),
    ]  # fmt: skip
    return json.dumps(guest.fs.save([*nodes, guest.fs.root], handles)), 5, 3


async def test_nodes_and_open_files_come_back(folder: Path, mounted: Mounted) -> None:
    laid_out(folder)
    first = await mounted()
    text, *counts = await saved(first)
    await first.close()
    second = await mounted()
    nodes, handles = await second.fs.recall(json.loads(text), *counts)
    second.nodes |= set(nodes)
    assert [second.fs.tree.path(node) for node in nodes] == [
        "a/b/\udcff odd", "a", "a/b", "a/file", "",
    ]  # fmt: skip
    assert nodes[4] is second.fs.root
    fs, ctx = second.fs, second.ctx
    assert await fs.write(ctx, nodes[3], handles[0], 0, memoryview(b" more")) == 5
    assert (folder / "a/file").read_text() == "two more"
    assert await fs.read(ctx, nodes[0], handles[1], 0, 10) == b"one"
    listing = await fs.readdirplus(ctx, nodes[1], handles[2])
    assert sorted(entry.name for entry in listing) == ["b", "file"]  # type: ignore[union-attr]
    await asyncio.sleep(0)
    assert (await second.open(nodes[0], os.O_RDONLY)).kept


async def test_what_changed_meanwhile(folder: Path, mounted: Mounted) -> None:
    laid_out(folder)
    first = await mounted()
    text, *counts = await saved(first)
    await first.close()
    (folder / "a/file").write_text("changed by the host")
    shutil.rmtree(folder / "a/b")
    second = await mounted()
    nodes, handles = await second.fs.recall(json.loads(text), *counts)
    assert [node is None for node in nodes] == [True, False, True, False, False]
    assert [handle is None for handle in handles] == [False, True, False]
    await until(lambda: (nodes[3], True) in second.told.data)


async def test_another_copy_of_the_folder(folder: Path, mounted: Mounted, tmp_path: Path) -> None:
    laid_out(folder)
    first = await mounted()
    text, *counts = await saved(first)
    shutil.copytree(folder, tmp_path / "copy")
    second = await mounted(tmp_path / "copy", sandbox="two")
    nodes, handles = await second.fs.recall(json.loads(text), *counts)
    assert None not in nodes and None not in handles
    await until(lambda: (nodes[3], True) in second.told.data)


async def test_files_without_a_name_are_gone(folder: Path, mounted: Mounted) -> None:
    guest = await mounted()
    file = await guest.create("file")
    await guest.unlink("file")
    (folder / "file").touch()
    rows, which = save_nodes(guest.fs.root, [file.node])
    assert rows[0][0] == MISSING and which == [0]
    assert recall_nodes(guest.fs.tree, rows) == ([None], [])


async def test_rows_name_each_folder_once(folder: Path, mounted: Mounted) -> None:
    laid_out(folder)
    guest = await mounted()
    one, two = await guest.find("a/b/\udcff odd"), await guest.find("a/file")
    rows, which = save_nodes(guest.fs.root, [one, two, guest.fs.root])
    assert [row[:2] for row in rows] == [[ROOT, "a"], [0, "b"], [1, "\udcff odd"], [0, "file"]]
    assert which == [2, 3, ROOT]


async def test_of_another_file_system(guest: Guest) -> None:
    assert await guest.fs.recall({}, 2, 1) == ([None, None], [None])
