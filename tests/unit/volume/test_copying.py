from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.errors import ConfigError, FileNotFound, ResourceError, WrongState
from sandlot.volume.ledger import count
from sandlot.volume.volume import Volume


async def test_a_folder_goes_in_and_out(own_state: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "file").write_text("x")
    (source / "link").symlink_to("a/file")
    volume = await Volume.create("data")
    done = await volume.upload(source, "/src")
    assert done.files == 4 and (volume.path / "src" / "a" / "file").read_text() == "x"
    await volume.upload(source / "a" / "file", "/one")
    out = tmp_path / "out"
    await volume.download("/", out)
    assert (out / "one").read_text() == "x" and (out / "src" / "link").readlink() == Path("a/file")
    with pytest.raises(FileNotFound):
        await volume.download("/none", out)


async def test_no_link_of_a_guests_is_followed(own_state: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    volume = await Volume.create("data")
    (volume.path / "out").symlink_to(tmp_path)
    (volume.path / "file").symlink_to(tmp_path / "secret")
    for path in ("/out/secret", "/../../x"):
        with pytest.raises(ConfigError, match="link or upwards"):
            await volume.download(path, tmp_path / "got")
    done = await volume.download("/", tmp_path / "got")
    assert set(done.skipped) == {"out", "file"} and not list((tmp_path / "got").iterdir())
    for path in ("/out/x", "/out"):
        with pytest.raises(ConfigError):
            await volume.upload(tmp_path / "secret", path)


async def test_a_size_holds(own_state: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(600_000))
    volume = await Volume.create("data", size="1M")
    await volume.upload(source, "/a")
    with pytest.raises(ResourceError, match="no room"):
        await volume.upload(source, "/b")
    assert count(volume.path) == await volume.used() < 1 << 20


async def test_not_while_a_sandbox_has_it(own_state: Path, tmp_path: Path) -> None:
    volume = await Volume.create("data")
    hold = volume._folder.hold()
    assert hold is not None
    with pytest.raises(WrongState, match="sandbox that runs"):
        await volume.download("/", tmp_path / "out")
    hold.release()
