from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot.errors import ConfigError, HostError, ImageError
from sandlot.image import bootstrap
from sandlot.image.debian import build_debian_image
from sandlot.image.store import ImageStore
from tests.framework.images import look


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other workers build at the same time; mapped users must be able to enter it."""
    folder = Path(tempfile.mkdtemp(prefix="debian-test-"))
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    monkeypatch.undo()
    shutil.rmtree(folder, ignore_errors=True)


def leftovers() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"sandlot-build-{os.geteuid()}/*"))


@pytest.mark.parametrize("package", ["", "-x", "a b", "../x", "?name(x)", "a,b", "Upper"])
def test_malformed_package_names(tmp_path: Path, package: str) -> None:
    with pytest.raises(ConfigError):
        build_debian_image(ImageStore(tmp_path), "x", [package])


def test_a_host_without_the_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bootstrap, "_path", lambda: str(tmp_path))
    with pytest.raises(HostError) as caught:
        bootstrap.choose_mode()
    assert "apt-get install mmdebstrap" in caught.value.hint


def fake_tool(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "bin" / "mmdebstrap"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\n" + script)
    tool.chmod(0o755)
    monkeypatch.setattr(bootstrap, "_path", lambda: f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setattr(bootstrap, "choose_mode", lambda: "unshare")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ("E: Unable to locate package nosuch", "no package `nosuch`"),
        ("E: Package 'old' has no installation candidate", "no package `old`"),
        (
            "E: The repository 'http://x nosuch Release' does not have a Release file.",
            "no release `nosuch` in the archive",
        ),
        ("Err:1 x: Temporary failure resolving 'mirror.example'", "cannot be reached"),
        ("dpkg: error: write: No space left on device", "disk is full"),
        ("E: it broke", "unshare mode: E: it broke"),
        ("", "without a word"),
    ],
)
def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, error: str) -> None:
    script = f'cat >/dev/null; echo "{says}" >&2; exit 25\n'
    fake_tool(tmp_path / "t", script, monkeypatch)
    store = ImageStore(tmp_path / "store")
    stages: list[str] = []
    with pytest.raises((ImageError, HostError), match=error):
        build_debian_image(
            store, "x", ["a1"], suite="trixie", mirror="http://mirror.example/debian",
            progress=lambda stage, _: stages.append(stage),
        )  # fmt: skip
    assert stages and "pack" not in stages, "nothing was left to pack"
    assert store.list() == [] and not leftovers()
    assert not list((tmp_path / "store/tmp").iterdir())


def test_cancelling_ends_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{pid_file}; echo 'I: downloading packages' >&2; wait\n"
    fake_tool(tmp_path / "t", script, monkeypatch)

    def progress(stage: str, fraction: float | None) -> None:
        if stage == "download":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_debian_image(
            ImageStore(tmp_path / "store"), "x", [], suite="trixie", mirror="http://m.example/",
            progress=progress,
        )  # fmt: skip
    state = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "a process of the build goes on"
    assert not leftovers()


@pytest.mark.network
def test_a_real_image(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    stages: list[tuple[str, float | None]] = []
    image = build_debian_image(
        store, "demo", ["python3"], progress=lambda *stage: stages.append(stage)
    )
    fractions = [fraction for _, fraction in stages if fraction is not None]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) > 50
    assert build_debian_image(store, "other", ["python3"]).digest == image.digest
    reader, found = look(store, image, tmp_path / "device")
    assert b"usr/bin/python3" in found and found[b"usr/bin/su"].mode == 0o104755
    assert stat.S_ISLNK(found[b"bin"].mode) and found[b"dev/null"].device == (1, 3)
    assert found[b"etc/hostname"].size == found[b"etc/resolv.conf"].size == 0
    assert b"usr/share/man/man1" not in found
    assert reader.data(found[b"etc/machine-id"]) == b""
    assert b"usr/share/doc/libc6/copyright" in found
    compiled = [path for path in found if path.endswith(b".pyc") and b"/json/" in path]
    for path in compiled:
        data = reader.data(found[path])
        folder, _, name = path.partition(b"__pycache__/")
        source = found[folder + name.split(b".")[0] + b".py"]
        # The time in the file is the source's: Python takes it as it is.
        assert data[4:8] == bytes(4) and int.from_bytes(data[8:12], "little") == source.mtime[0]
    assert compiled and not leftovers()
    reader.close()


@pytest.mark.network
def test_a_package_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no package `no-such-package-at-all`"):
        build_debian_image(ImageStore(tmp_path), "x", ["no-such-package-at-all"])
    assert not leftovers()
