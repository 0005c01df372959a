"""Builds without machines: everything but RUN, whose place a stand-in takes."""

from __future__ import annotations

import io
import json
import re
import stat
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sandlot.build import builder as builder_module
from sandlot.build.api import build_image
from sandlot.build.sources import ImageFiles
from sandlot.cli.main import cli
from sandlot.errors import BuildError, ConfigError
from sandlot.image.config import ImageConfig
from sandlot.image.manifest import MAX_CONFIG, parse_config
from sandlot.image.packing import PackedLayer, add_image, pack_layer
from sandlot.image.records import Image
from sandlot.image.steps import KEPT_FOR, is_step
from sandlot.sandbox.host import Host
from sandlot.sandbox.housekeeping import prune

PASSWD = b"root:x:0:0::/:\napp:x:5:6::/:\n"


@pytest.fixture
def host(own_state: Path) -> Host:
    return Host.current()


@pytest.fixture
def base(host: Host) -> str:
    """An image named `base` with some files."""
    with host.images.working():
        with pack_layer(host.images.blobs) as packer:
            for name, data in {"etc/passwd": PASSWD, "bin/sh": b"#!", "keep/old": b"old"}.items():
                info = tarfile.TarInfo(name)
                info.size, info.uid, info.gid = len(data), 3, 4
                packer.tar.addfile(info, io.BytesIO(data))
        config = ImageConfig(env={"PATH": "/bin", "BASE": "1"}, cmd=("/bin/sh",))
        add_image(host.images, "base", config, [packer.layer])
    return "base"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "app/lib").mkdir(parents=True)
    (folder / "app/main.py").write_text("main")
    (folder / "app/lib/a.py").write_text("a")
    (folder / "app/main.py").chmod(0o750)
    return folder


class Built:
    """An image, the files in it, and what was told."""

    def __init__(self, host: Host, image: Image, lines: list[str]) -> None:
        self.image = image
        self.config = image.config
        self.files = ImageFiles(host.images, image)
        self.lines = lines

    def paths(self) -> set[str]:
        return {p.decode() for p, node in self.files.tree.walk() if not node.is_dir}

    def text(self, path: str) -> str:
        return self.files.text(path.encode())

    def stat(self, path: str) -> tuple[int, int, int]:
        node = self.files.tree.find(path.encode())
        assert node is not None
        return stat.S_IMODE(node.mode), node.uid, node.gid

    @property
    def cached(self) -> int:
        return sum(line.endswith(" CACHED") for line in self.lines)


async def build(host: Host, context: Path, text: str, **more: Any) -> Built:
    (context / "Dockerfile").write_text(text)
    lines: list[str] = []
    image = await build_image(context, "made:1", tell=lines.append, **more)
    return Built(host, host.images.get("made:1"), lines) if image else Built(host, image, lines)


async def test_from_scratch(host: Host, context: Path) -> None:
    made = await build(
        host, context, 'FROM scratch\nCOPY app /srv\nWORKDIR /data\nENV A=1\nCMD ["/srv/main.py"]\n'
    )
    assert made.paths() == {"srv/main.py", "srv/lib/a.py"}
    assert made.stat("srv/main.py") == (0o750, 0, 0) and made.text("/srv/lib/a.py") == "a"
    assert made.files.tree.find(b"data") is not None
    assert made.config.cmd == ("/srv/main.py",) and made.config.working_dir == "/data"
    assert dict(made.config.env)["A"] == "1"
    assert next(line for line in made.lines if line.startswith("#2")) == "#2 [2/3] COPY app /srv"


async def test_over_an_image(host: Host, base: str, context: Path) -> None:
    made = await build(
        host, context,
        "ARG BASE=base\nFROM $BASE\nCOPY --chown=app --chmod=700 app/main.py /usr/local/bin/x\n"
        "COPY --chown=1:2 app /opt/app\nCOPY app/lib/ /keep\n",
    )  # fmt: skip
    assert made.stat("usr/local/bin/x") == (0o700, 5, 6)
    assert made.stat("opt/app/lib/a.py")[1:] == made.stat("opt/app/lib")[1:] == (1, 2)
    assert made.stat("opt")[1:] == (1, 2)
    assert {"keep/old", "keep/a.py", "bin/sh"} <= made.paths()
    assert made.stat("keep/old") == (0o644, 3, 4)
    assert made.config.cmd == ("/bin/sh",)


async def test_stages(host: Host, base: str, context: Path) -> None:
    text = (
        "FROM base AS one\nCOPY app/main.py /made/\n"
        "FROM scratch AS unused\nCOPY nothing /\n"
        "FROM scratch\nCOPY --from=one /made /out\nCOPY --from=base /etc/passwd /keep/old /x/\n"
    )
    made = await build(host, context, text)
    assert made.paths() == {"out/main.py", "x/passwd", "x/old"}
    assert made.stat("x/passwd") == (0o644, 3, 4)
    only = await build(host, context, text, target="one")
    assert "made/main.py" in only.paths()


async def test_archives_and_texts(host: Host, context: Path) -> None:
    for mode in ("w:gz", "w:xz", "w"):
        with tarfile.open(context / f"a.{mode[2:] or 'tar'}", mode) as tar:
            tar.add(context / "app", "inside")
    (context / "plain.gz").write_bytes(b"\x1f\x8bnot an archive")
    made = await build(
        host, context,
        "FROM scratch\nADD a.gz /gz\nADD a.xz /xz/\nADD a.tar /tar\nADD plain.gz app /x/\nCOPY a.gz /\n"
        "ENV N=5\nCOPY <<one <<'two' /texts/\nis $N\none\nis $N\ntwo\n",
    )  # fmt: skip
    assert {"gz/inside/main.py", "xz/inside/main.py", "tar/inside/lib/a.py"} <= made.paths()
    assert {"x/plain.gz", "x/main.py", "a.gz"} <= made.paths()
    assert made.text("texts/one") == "is 5\n" and made.text("texts/two") == "is $N\n"


async def test_steps_are_done_once(
    host: Host, base: str, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    async def run(store: Any, state: Any, instruction: Any, *_: Any) -> PackedLayer | None:
        ran.append(instruction.words[0])
        if instruction.words[0] == "nothing":
            return None
        with pack_layer(store.blobs) as packer:
            info = tarfile.TarInfo(f"ran/{len(ran)}")
            packer.tar.addfile(info)
        return packer.layer

    monkeypatch.setattr(builder_module, "run_command", run)
    text = "FROM base\nARG V=1\nENV E=$V\nCOPY app /app\nRUN make\nRUN nothing\nCMD x\n"
    first = await build(host, context, text)
    assert ran == ["make", "nothing"] and first.cached == 0 and "ran/1" in first.paths()
    second = await build(host, context, text)
    assert len(ran) == 2 and second.cached == 3 and second.image.id == first.image.id
    (context / "app/main.py").touch()
    assert (await build(host, context, text)).cached == 3
    await build(host, context, text.replace("CMD x", "CMD y"))
    assert len(ran) == 2
    (context / "app/main.py").write_text("other")
    assert (await build(host, context, text)).cached == 0
    assert len(ran) == 4
    (context / "app/main.py").write_text("main")
    assert (await build(host, context, text)).cached == 3
    await build(host, context, text, arguments={"V": "2"})
    assert len(ran) == 6
    await build(host, context, text, cache=False)
    assert len(ran) == 8
    assert {image.name for image in host.images.list()} == {"base:latest", "made:1"}
    assert sum(is_step(image.name) for image in host.images.list(steps=True)) == 8


async def test_steps_are_kept_for_a_month(
    host: Host, base: str, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cache may grow to: at the end of a build older steps go, and their layers too."""
    await build(host, context, "FROM base\nCOPY app/lib /old\n")
    host.images.remove("made:1")
    (old,) = [image for image in host.images.list(steps=True) if is_step(image.name)]
    assert host.images.layers.has(old.diff_ids[-1])
    record = host.images._record(old.reference)
    about = json.loads(record.read_text())
    for age, kept in ((KEPT_FOR - 3600, True), (KEPT_FOR + 3600, False)):
        record.write_text(json.dumps({**about, "created": time.time() - age}))
        await build(host, context, "FROM base\nCOPY app/main.py /new\n")
        names = [image.name for image in host.images.list(steps=True) if is_step(image.name)]
        assert (old.name in names) is kept and len(names) == 1 + kept
    assert not host.images.layers.has(old.diff_ids[-1])
    assert (await build(host, context, "FROM base\nCOPY app/main.py /new\n")).cached == 1


async def test_without_a_name(host: Host, base: str, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nCOPY app /app\n")
    made = await build_image(context)
    (context / "Dockerfile").write_text("FROM base\nCOPY app /app\nENV A=1\n")
    other = await build_image(context)
    again = await build_image(context)
    assert made.id != other.id == again.id
    assert host.images.get(made.id).id == host.images.get(made.id[7:19]).id == made.id
    assert sorted(i.title for i in host.images.list()) == sorted(
        ["base:latest", made.id[7:19], other.id[7:19]]
    )
    listed = CliRunner().invoke(cli, ["image", "ls"]).stdout
    assert listed.count("<none>") == 2 and made.id[7:19] in listed and "internal" not in listed
    (one,) = [i for i in json.loads(CliRunner().invoke(cli, ["image", "ls", "--json"]).stdout)
              if i["id"] == made.id]  # fmt: skip
    assert one["name"] is None
    (one,) = json.loads(CliRunner().invoke(cli, ["image", "inspect", made.id]).stdout)
    assert one["RepoTags"] == [] and one["RepoDigests"] == []
    assert CliRunner().invoke(cli, ["image", "tag", made.id[7:19], "named"]).exit_code == 0
    assert host.images.get("named").id == made.id
    assert prune(dry_run=False) == []
    assert {found.name for found in prune(everything=True)} >= {made.id[7:19], other.id[7:19]}
    removed = CliRunner().invoke(cli, ["image", "rm", other.id])
    assert removed.stdout == other.id[7:19] + "\n"


def test_the_command_line_without_a_name(host: Host, base: str, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM base\nCOPY app /app\n")
    done = CliRunner().invoke(cli, ["build", "-q", str(context)])
    assert done.exit_code == 0 and done.stdout.strip() == host.images.list()[1].id
    with pytest.raises(ConfigError, match="cannot be standard input") as caught:
        CliRunner().invoke(cli, ["build", "-t", "x", "-"], catch_exceptions=False)
    assert "build -f - DIR" in caught.value.hint


async def test_heredocs_can_be_read_in_the_history(
    host: Host, base: str, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: Any) -> PackedLayer | None:
        return None

    monkeypatch.setattr(builder_module, "run_command", run)
    text = "FROM base\nRUN <<EOF\nset -e\n\nmake\nEOF\nCOPY <<one <<two /texts/\n1\none\n2\ntwo\nRUN x\n"
    made = await build(host, context, text)
    raw = parse_config(host.images.blobs.read(made.image.id, MAX_CONFIG), name="made").raw
    assert [line["created_by"] for line in raw["history"]] == [
        "RUN <<EOF (set -e; make)", "COPY <<one <<two /texts/ (1) (2)", "RUN x",
    ]  # fmt: skip
    assert "#2 [2/4] RUN <<EOF (set -e; make)" in made.lines


async def test_a_failed_build_keeps_what_was_done(
    host: Host, base: str, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(store: Any, state: Any, instruction: Any, *_: Any) -> PackedLayer | None:
        raise BuildError("`make` failed with 2", line=instruction.line, exit_code=2)

    monkeypatch.setattr(builder_module, "run_command", run)
    text = "FROM base\nCOPY app /app\nRUN make\n"
    with pytest.raises(BuildError, match="line 3: `make` failed with 2") as caught:
        await build(host, context, text)
    assert caught.value.exit_code == 2
    assert not [i for i in host.images.list() if i.name == "made:1"]
    made = await build(host, context, "FROM base\nCOPY app /app\n")
    assert made.cached == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM base\nCOPY nothing /x", "line 2: there is no 'nothing' in the build's context"),
        (
            "FROM base\nCOPY --from=base /nothing /x",
            "line 2: there is no '/nothing' in image 'base'",
        ),
        ("FROM base\nCOPY app/main.py app/lib /x", "line 2: what several files"),
        ("FROM base\nCOPY app /etc/passwd", "line 2: /etc/passwd is a file in the image"),
        ("FROM base\nCOPY --chown=nobody app /x", "line 2: --chown=nobody: the image has no user"),
        ("FROM base\nCOPY --chmod=u+x app /x", "line 2: --chmod=u+x is not supported"),
        ("FROM scratch\nRUN x", "line 2: there is nothing in the image to run"),
        ("FROM nothing", "line 1: there is no image `nothing`"),
        ("FROM $NOTHING", "line 1: FROM names no image"),
        ("FROM --platform=linux/s390x base", "line 1: the platform linux/s390x cannot be built"),
        ("FROM base\nENV A=${B:?nothing}", "B: nothing"),
    ],
)
async def test_what_cannot_be_built(
    host: Host, base: str, context: Path, text: str, message: str
) -> None:
    with pytest.raises(BuildError, match=re.escape(message)):
        await build(host, context, text)


async def test_what_is_left_out_is_hinted_at(host: Host, context: Path) -> None:
    (context / ".dockerignore").write_text("app")
    with pytest.raises(BuildError) as caught:
        await build(host, context, "FROM scratch\nCOPY app /x")
    assert ".dockerignore" in caught.value.hint


async def test_arguments_that_nobody_declares(host: Host, context: Path) -> None:
    made = await build(host, context, "FROM scratch\nCOPY app /x", arguments={"A": "1"})
    assert any("not declared: A" in line for line in made.lines)


async def test_options(host: Host, context: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.Dockerfile"
    other.write_text("FROM scratch\nCOPY app/main.py /x\nLABEL a=1\n")
    made = await build_image(context, "made", dockerfile=other, labels={"b": "2"})
    assert dict(made.config.labels) == {"a": "1", "b": "2"} and made.name == "made:latest"
    for wrong in (
        {"network": "host"}, {"platform": "linux/s390x"}, {"dockerfile": tmp_path / "none"},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            await build_image(context, "made", **wrong)
    with pytest.raises(ConfigError, match="is not a folder"):
        await build_image(tmp_path / "none", "made")
    with pytest.raises(ConfigError):
        await build_image(context, "UPPER CASE")
