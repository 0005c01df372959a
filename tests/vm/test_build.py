"""`sandlot build` with real machines."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sandlot import BuildError, Sandbox, build_image
from sandlot.build.sources import ImageFiles
from sandlot.sandbox.host import Host

DOCKERFILE = """
FROM {base} AS made
ARG GREETING=hello
ENV NAME=world
WORKDIR /work
COPY input.txt .
SHELL ["/bin/bash", "-ec"]
RUN echo "$GREETING $NAME" > greeting && cat input.txt >> greeting && id -u > who
RUN ["/bin/sh", "-c", "mkdir -p tree/deep && echo x > tree/deep/file && ln greeting hard && ln -s greeting soft"]
RUN <<EOF
mv tree moved
rm -r /usr/share/doc /etc/debian_version || true
rm input.txt && mkdir input.txt && touch input.txt/inside
chown 7:8 who
EOF
RUN <<'EOF'
#!/usr/bin/env python3
import os
open("script", "w").write("from python")
os.setxattr("script", "user.test", b"value")
EOF
USER 7
RUN id -u > /tmp/user
FROM scratch
COPY --from=made /work /work
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "input.txt").write_text("input\n")
    return tmp_path


async def test_a_build(image: str, context: Path) -> None:
    text = DOCKERFILE.format(base=image)
    (context / "Dockerfile").write_text(text)
    lines: list[str] = []
    arguments = {"GREETING": os.urandom(4).hex()}  # nothing of it was made before
    made = await build_image(
        context, "built", target="made", arguments=arguments, tell=lines.append
    )
    files = ImageFiles(Host.current().images, made)
    tree = files.tree
    assert files.text(b"work/greeting") == f"{arguments['GREETING']} world\ninput\n"
    assert files.text(b"work/moved/deep/file") == "x\n"
    assert files.text(b"work/script") == "from python"
    assert files.text(b"tmp/user") == "7\n" and files.text(b"work/who") == "0\n"
    node = tree.find(b"work/script")
    assert node is not None and (node.xattrs or {}).get(b"user.test") == b"value"
    who, hard = tree.find(b"work/who"), tree.find(b"work/hard")
    assert who is not None and (who.uid, who.gid) == (7, 8)
    assert hard is tree.find(b"work/greeting")
    for gone in (b"work/tree", b"usr/share/doc", b"etc/debian_version"):
        assert tree.find(gone) is None, gone
    assert tree.find(b"work/input.txt/inside") is not None
    for own in (b"etc/hostname", b"etc/machine-id"):
        assert files.text(own) == ImageFiles(
            Host.current().images, Host.current().images.get(image)
        ).text(own)

    async with Sandbox.create(image="built", memory="512M") as sandbox:
        result = await sandbox.exec("cat greeting; echo $NAME; pwd; id -u", check=True)
        assert result.text.split()[-3:] == ["world", "/work", "7"]

    lines.clear()
    again = await build_image(
        context, "built", target="made", arguments=arguments, tell=lines.append
    )
    assert again.id == made.id
    assert sum(line.endswith("CACHED") for line in lines) == 7

    whole = await build_image(context, "built-files", arguments=arguments)
    assert ImageFiles(Host.current().images, whole).text(b"work/soft").endswith("input\n")
    for name in ("built", "built-files"):
        Host.current().images.remove(name)


async def test_a_command_that_fails(image: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN echo before; echo why >&2; exit 3\n")
    lines: list[str] = []
    with pytest.raises(BuildError, match=r"line 2: .* failed with 3") as caught:
        await build_image(context, "failed", tell=lines.append)
    assert caught.value.exit_code == 3 and caught.value.line == 2
    said = [line.split(" ", 2)[2] for line in lines if line.startswith("#2 ")]
    assert {"before", "why"} <= set(said)
    assert lines[-1].startswith("#2 ERROR after ") and not any("failed with" in x for x in lines)
    assert not [i for i in Host.current().images.list() if i.name == "failed:latest"]


async def test_a_user_that_is_not_there(image: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {image}\nUSER ghost\nWORKDIR /x\nRUN true\n")
    with pytest.raises(BuildError, match=r"^line 4: .*ghost") as caught:
        await build_image(context, "failed")
    assert caught.value.line == 4 and caught.value.hint == "USER in line 2 names it"


async def test_what_a_command_leaves_running_is_ended_before_its_layer_is_taken(
    sb: Sandbox,
) -> None:
    left = "trap '' TERM HUP; while true; do echo x >> /noise; sleep 0.01; done"
    await sb.exec(f"setsid sh -c {shlex.quote(left)} >/dev/null 2>&1 &", check=True)
    job = await sb.spawn("sleep 1000", detached=True)
    await sb.exec("until [ -s /noise ]; do sleep 0.05; done", check=True, timeout=60)
    layer = b"".join([piece async for piece in sb.files.upper_layer()])
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        noise = archive.extractfile("noise")
        assert noise is not None
        size = len(noise.read())
    assert (await job.wait()).signal == 9
    assert (await sb.exec(["pgrep", "-f", "noise"])).exit_code == 1
    assert (await sb.files.stat("/noise")).size == size > 0


def test_the_command_line(image: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {image}\nARG A\nRUN echo $A\n")

    def sandlot(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sandlot.cli.main", *words], capture_output=True, text=True, timeout=200,
            stdin=subprocess.DEVNULL, cwd=context,
        )  # fmt: skip

    done = sandlot("build", "-t", "by-hand:1", "-t", "by-hand:2", "--build-arg", "A=said", ".")
    assert done.returncode == 0, done.stderr
    assert "#2 [2/2] RUN echo $A" in done.stderr
    assert done.stdout.startswith("sha256:") and len(done.stdout) == 72
    quiet = sandlot("build", "-q", "-t", "by-hand:1", "--build-arg", "A=said", ".")
    assert quiet.stderr == "" and quiet.stdout == done.stdout
    listed = sandlot("image", "ls").stdout
    assert "by-hand:1" in listed and "by-hand:2" in listed
    assert "internal" not in listed and "internal" in sandlot("image", "ls", "-a").stdout
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN --mount=type=ssh x\n")
    wrong = sandlot("build", "-t", "by-hand:1", ".")
    assert wrong.returncode == 125
    assert wrong.stderr.strip() == "sandlot: line 2: RUN --mount is not supported"
    assert sandlot("image", "rm", "by-hand:1", "by-hand:2").returncode == 0
