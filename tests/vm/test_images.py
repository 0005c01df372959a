"""Images of others run unchanged: from scratch, musl, glibc, a whole distribution, Node.js."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandlot import ConfigError, ExecError, Sandbox
from sandlot.image import ImageStore
from sandlot.image.archive import load_images
from sandlot.image.manifest import MAX_MANIFEST, Manifest, parse_manifest
from sandlot.image.packing import PackedLayer, add_image, pack_layer
from sandlot.image.saving import save_images
from sandlot.sandbox.host import Host
from tests.framework import images
from tests.framework.images import entry, layer
from tests.framework.programs import dynamic, musl, node, probe

# One worker for all: the store is every worker's, and each test clears it of the names here.
pytestmark = pytest.mark.xdist_group("images")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1234:99::/home/app:\n"
GROUP = b"root:x:0:\nstaff:x:77:\n"


@pytest.fixture
def store() -> Iterator[ImageStore]:
    """The store of all tests; what the tests here name `t-` there is removed."""
    store = Host.current().images
    yield store
    for image in store.list():
        if image.name.startswith("t-"):
            store.remove(image.name)


def by_skopeo(store: ImageStore, tmp_path: Path, name: str) -> None:
    """Through another tool's hands: saved, copied by skopeo into a new archive, loaded."""
    save_images(store, [name], tmp_path / "saved.tar")
    store.remove(name)
    copied = tmp_path / "copied.tar"
    subprocess.run(
        ["skopeo", "copy", "-q", f"docker-archive:{tmp_path / 'saved.tar'}",
         f"docker-archive:{copied}:{name}"],
        check=True,
    )  # fmt: skip
    assert [image.name for image in load_images(store, copied)] == [name]


async def saw(sb: Sandbox, *argv: str, **options: Any) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(
        (await sb.exec(["/probe", *argv], check=True, **options)).text
    )
    assert "error" not in seen
    return seen


async def test_one_static_program(store: ImageStore, tmp_path: Path) -> None:
    images.add_image(
        store, "t-scratch:1", layer(entry("probe", probe(), mode=0o755)), Entrypoint=["/probe"],
        WorkingDir="/not/there/yet", Volumes={"/data/deep": {}}, Env=["A=b"], StopSignal="SIGINT",
    )  # fmt: skip
    by_skopeo(store, tmp_path, "t-scratch:1")
    async with Sandbox.create(image="t-scratch:1", memory="256M") as sb:
        seen = await saw(sb, "one")
        assert seen["cwd"] == "/not/there/yet" and seen["args"] == ["one"]
        assert (seen["uid"], seen["shell"], seen["passwd"]) == (0, False, False)
        assert (await saw(sb, workdir="/data/deep"))["cwd"] == "/data/deep"
        assert (await saw(sb, user="55:66"))["uid"] == 55
        with pytest.raises(ConfigError, match="nobody"):
            await sb.exec(["/probe"], user="nobody")
        with pytest.raises(ExecError):
            await sb.exec("a shell line, and no shell")
        assert sb.record.stop_signal == "SIGINT"
    async with Sandbox.create(image="t-scratch:1", memory="256M", workdir="/made/here") as sb:
        assert (await saw(sb))["cwd"] == "/made/here"


async def test_users_of_the_image(store: ImageStore) -> None:
    base = layer(
        entry("probe", probe(), mode=0o755), entry("etc/passwd", PASSWD), entry("etc/group", GROUP)
    )
    images.add_image(store, "t-users:1", base, User="app")
    images.add_image(store, "t-users:2", base, User="app:staff")
    images.add_image(store, "t-users:3", base, User="ghost")
    async with Sandbox.create(image="t-users:1", memory="256M") as sb:
        seen = await saw(sb)
        assert (seen["uid"], seen["gid"], seen["home"]) == (1234, 99, "/home/app")
    async with Sandbox.create(image="t-users:2", memory="256M") as sb:
        assert (await saw(sb))["gid"] == 77
    async with Sandbox.create(image="t-users:3", memory="256M") as sb:
        with pytest.raises(ConfigError, match="ghost"):
            await sb.exec(["/probe"])


async def test_distroless(store: ImageStore, tmp_path: Path) -> None:
    """A program, what it is linked to, a user who is no root, and nothing else."""
    parts = [entry(path, data, mode=mode) for path, data, mode in dynamic("/usr/bin/id")]
    passwd = b"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
    images.add_image(
        store, "t-distroless:1", layer(*parts),
        layer(entry("etc/passwd", passwd), entry("etc/group", b"nonroot:x:65532:\n")),
        Entrypoint=["/usr/bin/id"], User="nonroot", WorkingDir="/home/nonroot",
    )  # fmt: skip
    by_skopeo(store, tmp_path, "t-distroless:1")
    async with Sandbox.create(image="t-distroless:1", memory="256M") as sb:
        said = "uid=65532(nonroot) gid=65532(nonroot) groups=65532(nonroot)\n"
        assert (await sb.exec(["id"], check=True)).text == said
        assert (await sb.exec(["id", "-u"], user="0", check=True)).text == "0\n"
        with pytest.raises(ExecError):
            await sb.exec("id")


@pytest.mark.network
async def test_musl(store: ImageStore) -> None:
    images.add_image(store, "t-musl:1", musl(), layer(entry("x", b"x")))
    async with Sandbox.create(image="t-musl:1", memory="256M") as sb:
        loader = "/lib/ld-musl-x86_64.so.1"
        result = await sb.exec([loader, "--list", loader])
        assert b"musl" in result.stdout + result.stderr


async def test_a_distribution(store: ImageStore, image: str, tmp_path: Path) -> None:
    store.alias(store.get(image), "t-debian:1")
    by_skopeo(store, tmp_path, "t-debian:1")
    async with Sandbox.create(image="t-debian:1", memory="512M") as sb:
        script = "import json, ssl, os; print(json.dumps(os.stat('/usr/bin/su').st_mode))"
        assert int((await sb.exec(["python3", "-c", script], check=True)).text) == 0o104755
        # Documentation is left out of images from packages; all other files are what they were.
        verified = (await sb.exec("dpkg --verify libc6", timeout=120)).text.splitlines()
        assert [line for line in verified if not line.startswith("missing ")] == []


@pytest.mark.network
async def test_node(store: ImageStore, image: str) -> None:
    program = b"console.log(JSON.stringify({sum: [1, 2, 3].reduce((a, b) => a + b)}))"
    with store.working():
        with pack_layer(store.blobs) as packer:
            for member, data in (
                entry("usr/local/bin/node", node(), mode=0o755), entry("app/main.js", program),
            ):  # fmt: skip
                packer.tar.addfile(member, io.BytesIO(data))
        base = store.get(image)
        below = parse_manifest(store.blobs.read(base.manifest, MAX_MANIFEST))
        assert isinstance(below, Manifest)
        lower = list(map(PackedLayer, below.layers, base.diff_ids))
        made = add_image(store, "t-node:1", base.config, [*lower, packer.layer])
    assert made.diff_ids[0] == base.diff_ids[0]
    async with Sandbox.create(image="t-node:1", memory="1G", workdir="/app") as sb:
        result = await sb.exec(["node", "main.js"], check=True, timeout=200)
        assert json.loads(result.text) == {"sum": 6}


async def test_contents_are_never_taken_for_a_disk_of_another_format(
    store: ImageStore, tmp_path: Path
) -> None:
    """A layer's contents begin with what a file of it says: here, a qcow2 that names a file of
    the host as its backing."""
    (tmp_path / "secret").write_bytes(b"of the host" * 1000)
    name = str(tmp_path / "secret").encode()
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 512, len(name), 16, 1 << 20, 0, 1, 4096,
                         8192, 1, 0, 0)  # fmt: skip
    evil = header.ljust(512, b"\0") + name.ljust(9000, b"\0")
    images.add_image(
        store, "t-evil:1", layer(entry("evil", evil), entry("probe", probe(), mode=0o755))
    )
    async with Sandbox.create(image="t-evil:1", memory="256M") as sb:
        assert await sb.files.read("/evil") == evil
        await saw(sb)


@pytest.fixture
async def kept(store: ImageStore) -> AsyncIterator[Sandbox]:
    images.add_image(
        store, "t-kept:1", layer(entry("probe", probe(), mode=0o755)), layer(entry("x", b"first"))
    )
    sb = await Sandbox.create(image="t-kept:1", memory="256M")
    yield sb
    await sb.remove()


async def test_a_sandbox_keeps_its_layers(store: ImageStore, kept: Sandbox) -> None:
    await kept.stop()
    images.add_image(store, "t-kept:1", layer(entry("x", b"second")))
    store.remove("t-kept:1")
    store.clean(older=-1)
    await kept.start()
    assert await kept.files.read("/x") == b"first"
    await saw(kept)
