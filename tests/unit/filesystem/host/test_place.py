from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from sandlot.errors import ConfigError
from sandlot.filesystem.host import place
from sandlot.filesystem.host.hostfs import HostFs
from tests.unit.filesystem.host.conftest import Mounted


def refused(path: object, words: str, *, readonly: bool = False) -> None:
    with pytest.raises(ConfigError, match=words) as found:
        HostFs(str(path), readonly=readonly).check()
    assert found.value.hint and "\n" not in str(found.value)
    assert str(path).rstrip("/") in str(found.value)


def test_paths_that_cannot_be_volumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(folder / "nothing", "does not exist")
    (folder / "dangling").symlink_to("nowhere")
    refused(folder / "dangling", "does not exist")
    os.mkfifo(folder / "pipe")
    refused(folder / "pipe", "neither a folder nor a file")
    refused("/dev/null", "neither a folder nor a file")
    (folder / "file").touch()
    refused(folder / "file/below", "cannot be opened")
    refused("a\0b", "cannot be opened")
    monkeypatch.setattr(os, "access", lambda _, how: not how & os.W_OK)
    refused(folder, "cannot be written")
    HostFs(folder, readonly=True).check()
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused(folder, "may not read it", readonly=True)


def test_wrong_arguments(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no cache 'warm'"):
        HostFs(folder, cache="warm")
    with pytest.raises(ConfigError, match="needs a folder"):
        HostFs("")


async def test_sandlots_own_state(folder: Path, mounted: Mounted) -> None:
    state = folder.parent / "state"
    (state / "images").mkdir(parents=True)
    (state / "volumes/data").mkdir(parents=True)
    for inside in (state, state / "images", state / "volumes"):
        refused(inside, "own state", readonly=True)
    (folder / "link").symlink_to(state)
    refused(folder / "link", "own state", readonly=True)
    refused(folder.parent, "own state in it")
    await mounted(state / "volumes/data")
    guest = await mounted(folder.parent, readonly=True, sandbox="two")
    assert sorted(await guest.list()) == sorted(await guest.list(plus=False)) == ["volume"]
    with pytest.raises(PermissionError):
        await guest.find("state")
    with pytest.raises(PermissionError):
        await guest.find("state/images")


async def test_the_whole_host(folder: Path, mounted: Mounted) -> None:
    refused("/", "cannot be a volume that is written|own state in it")
    guest = await mounted(Path("/"), readonly=True)
    assert "etc" in await guest.list()


def test_as_many_files_as_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        assert place.raise_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert place.raise_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_folder_is_opened_when_it_is_needed(folder: Path) -> None:
    fs = HostFs(folder / "later")
    (folder / "later").mkdir()
    assert fs.root is fs.tree.root
    assert fs.declaration() == {
        "kind": "host", "source": str(folder / "later"), "readonly": False, "cache": "coherent",
        "owner": None,
    }  # fmt: skip
