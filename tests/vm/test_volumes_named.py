"""Named volumes in machines: shared, counted, kept by detached sandboxes, and on the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot import Sandbox
from sandlot.errors import WrongState
from sandlot.volume.declared import NamedVolume
from sandlot.volume.store import VolumeStore
from sandlot.volume.volume import Volume


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for a volume, which is removed after the test."""
    chosen = "test-" + request.node.name.strip("_").replace("_", "-")[:50]
    yield chosen
    store = VolumeStore.current()
    for folder, record in store.records():
        if record.name == chosen:
            store.remove(folder)


def sandlot(*words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sandlot.cli.main", *words], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


async def test_two_sandboxes_share_a_volume_which_outlives_both(image: str, name: str) -> None:
    async with (
        Sandbox.create(image=image, memory="256M", volumes={"/data": name}) as one,
        Sandbox.create(
            image=image, memory="256M", volumes={"/in": NamedVolume(name, readonly=True)}
        ) as two,
    ):
        await one.exec("echo hello > /data/file && chown 1000:1000 /data/file", check=True)
        seen = await two.exec("cat /in/file; stat -c %u:%g /in/file; echo x > /in/file")
        assert seen.stdout == b"hello\n1000:1000\n" and b"Read-only" in seen.stderr
        found = await Volume.get(name)
        assert found.mounted and len(found.sandboxes()) == 2
        with pytest.raises(WrongState, match="used by"):
            await found.remove()
    assert (await Volume.get(name)).path.joinpath("file").read_text() == "hello\n"
    assert not found.mounted


async def test_a_size_is_enospc_in_all_guests_together(image: str, name: str) -> None:
    made = await Volume.create(name, size="8M")
    fill = "head -c 20000000 /dev/zero > /data/$(hostname); df -k /data | tail -1; du -sk /data"
    async with (
        Sandbox.create(image=image, memory="256M", volumes={"/data": made}) as one,
        Sandbox.create(image=image, memory="256M", volumes={"/data": made}) as two,
    ):
        both = await asyncio.gather(one.exec(fill), two.exec(fill))
        for each in both:
            assert b"No space left" in each.stderr
        size, _, free = both[1].stdout.split()[1:4]
        assert int(size) == 8192 and int(free) < 1024
        assert 7 << 20 < await made.used() <= 8 << 20
        await one.exec("rm /data/*", check=True)
        assert await made.used() < 8192
        await two.exec("head -c 7000000 /dev/zero > /data/again", check=True)


def _of_paths_only(file: str) -> list[Path]:
    """Volumes without a name in which there is this file; other tests have theirs."""
    store = VolumeStore.current()
    return [f.path for f, r in store.records() if r.anonymous and (f.data / file).exists()]


def test_run_with_volumes_of_every_kind(image: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_text("from the host\n")
    said = sandlot(
        "run", "--rm", "--memory", "256M", "-v", f"{tmp_path}/src:/src:ro", "-v", f"{name}:/data",
        "-v", "/own", "--tmpfs", "/fast:size=1m", image, "--", "sh", "-c",
        "cat /src/file; touch /src/no 2>/dev/null || echo ro; echo kept > /data/a; touch /own/b;"
        " head -c 2000000 /dev/zero > /fast/c 2>/dev/null || echo full",
    )  # fmt: skip
    assert said == "from the host\nro\nfull\n"
    assert (VolumeStore.current().find(name).data / "a").read_text() == "kept\n"
    assert not _of_paths_only("b")
    complaint = sandlot("run", "--rm", "-v", f"{tmp_path}/none:/x", image, "true", status=125)
    assert "does not exist" in complaint and "mkdir -p" in complaint


def test_a_detached_sandbox_opens_its_volumes_again(image: str, name: str) -> None:
    box = sandlot(
        "run", "-d", "--memory", "256M", "--name", name, "-v", f"{name}:/data", "-v", "/own", image,
        "--", "sleep", "1000",
    ).strip()  # fmt: skip
    try:
        sandlot("exec", box, "sh", "-c", "echo one > /data/f; echo own > /own/f")
        (shown,) = json.loads(sandlot("inspect", box))
        assert [v["path"] for v in shown["volumes"]] == ["/data", "/own"]
        assert name in sandlot("ps", "--format", "{{.Mounts}}")
        assert "mounted by" in sandlot("volume", "rm", "-f", name, status=125)
        sandlot("restart", "-t", "1", box)
        assert sandlot("exec", box, "cat", "/data/f", "/own/f") == "one\nown\n"
    finally:
        sandlot("rm", "-f", "-v", box)
    assert not _of_paths_only("f")
    (known,) = json.loads(sandlot("volume", "inspect", name))
    assert known["sandboxes"] == [] and not known["mounted"]


async def test_a_disk_is_for_one_sandbox_at_a_time(image: str, name: str) -> None:
    disk = await Volume.create(name, kind="disk", size="32M")
    async with Sandbox.create(image=image, memory="256M", volumes={"/db": disk}) as sb:
        said = await sb.exec("ls -A /db; findmnt -no FSTYPE /db; echo kept > /db/a", check=True)
        assert said.stdout == b"ext4\n"
        full = await sb.exec("head -c 64000000 /dev/zero > /db/b")
        assert b"No space left" in full.stderr
        await sb.exec("rm /db/b", check=True)
        with pytest.raises(WrongState, match="used by another sandbox"):
            await Sandbox.create(image=image, memory="256M", volumes={"/x": name})
        with pytest.raises(WrongState, match="cannot be saved"):
            await sb.snapshot("never")
        with pytest.raises(WrongState, match="cannot be saved"):
            await sb.fork("never")
        await sb.stop()
        assert not disk.mounted
    async with Sandbox.create(
        image=image, memory="256M", volumes={"/x": NamedVolume(name, readonly=True)}
    ) as sb:
        seen = await sb.exec("cat /x/a; touch /x/c")
        assert seen.stdout == b"kept\n" and b"Read-only" in seen.stderr
