from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandlot.cli.mounts import volumes_of
from sandlot.errors import ConfigError
from sandlot.filesystem.host.hostfs import HostFs
from sandlot.volume.declared import Memory, NamedVolume


def given(*, volume: tuple[str, ...] = (), mount: tuple[str, ...] = (),
          tmpfs: tuple[str, ...] = ()) -> dict[str, Any]:  # fmt: skip
    return volumes_of({"volume": volume, "mount": mount, "tmpfs": tmpfs})


def test_nothing_is_nothing() -> None:
    assert given() == {}


def test_names_and_paths_of_the_sandboxs_own() -> None:
    assert given(volume=("data:/data", "logs:/logs:ro,cache=none", "/own", "a:/b:z")) == {
        "/data": NamedVolume("data"), "/logs": NamedVolume("logs", True, "none"),
        "/own": NamedVolume(""), "/b": NamedVolume("a"),
    }  # fmt: skip


def test_folders_and_files_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "src").mkdir()
    (tmp_path / "file").touch()
    for text in ("./src:/app", f"{tmp_path}/src:/app", "~/src:/app:rw"):
        fs = given(volume=(text,))["/app"]
        assert isinstance(fs, HostFs) and fs.source == f"{tmp_path}/src"
        assert not fs.readonly and fs.cache == "coherent"
    fs = given(volume=("./file:/file:ro,cache=fast",))["/file"]
    assert fs.readonly and fs.cache == "fast"


def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as caught:
        given(volume=(f"{tmp_path}/a b:/x",))
    assert caught.value.hint == f"make it first: `mkdir -p '{tmp_path}/a b'`"
    assert not list(tmp_path.iterdir())


def test_mount_in_words(tmp_path: Path) -> None:
    assert given(mount=("source=data,target=/a", "type=volume,dst=/b", "src=x,dst=/c,ro")) == {
        "/a": NamedVolume("data"), "/b": NamedVolume(""), "/c": NamedVolume("x", True),
    }  # fmt: skip
    fs = given(mount=(f"type=bind,src={tmp_path},destination=/d,readonly=true,cache=none",))["/d"]
    assert (fs.source, fs.readonly, fs.cache) == (str(tmp_path), True, "none")
    assert not given(mount=(f"type=bind,src={tmp_path},dst=/d,readonly=false",))["/d"].readonly
    assert given(mount=("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",)) == {
        "/t": Memory(1 << 20, 0o700)
    }


def test_memory() -> None:
    assert given(tmpfs=("/a", "/b:size=64m,mode=755", "/c:rw")) == {
        "/a": Memory(), "/b": Memory(64 << 20, 0o755), "/c": Memory(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("volume", "a:b:c:d", "not a volume"), ("volume", "", "not a volume"),
        ("volume", "a:", "not a volume"), ("volume", "name", "not an absolute path"),
        ("volume", "./a:/b:ro,rw", "either ro or rw"), ("volume", "a:b", "not an absolute path"), ("volume", "a:/b:shared", "'shared' is not known"),
        ("volume", "a:/b:cache=much", "no cache 'much'"),
        ("mount", "target=b", "no absolute target"), ("mount", "nothing", "not known"),
        ("mount", "type=bind,target=/b", "no source"), ("mount", "type=npipe,target=/b", "no type"),
        ("mount", "source=./x,target=/b", "not the name of a volume"),
        ("mount", "type=bind,src=/,dst=/b,bind-propagation=shared", "'bind-propagation' is not"),
        ("tmpfs", "a", "not an absolute path"), ("tmpfs", "/a:noexec", "cannot be honoured"),
        ("tmpfs", "/a:size=much", "not a size"), ("tmpfs", "/a:mode=9", "not a mode"),
    ],
)  # fmt: skip
def test_what_is_refused_by_name(kind: str, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        given(**{kind: (text,)})


def test_two_at_one_path_are_refused() -> None:
    with pytest.raises(ConfigError, match="two volumes"):
        given(volume=("a:/x",), tmpfs=("/x",))


def test_the_caches_are_those_of_file_systems() -> None:
    """They are written once more, so that `sandlot --help` imports no file system."""
    from sandlot.cli import mounts
    from sandlot.filesystem import base

    assert mounts._CACHES == base.CACHES
