"""What the README and the guides tell people to type does what they say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot.image import ImageStore
from sandlot.image.steps import untagged
from tests.conftest import STATE

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md")))
_PYTHON = re.compile(r"^(<!-- not run: .+ -->\n)?```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CONSOLE = re.compile(r"^<!-- runnable -->\n```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


def python_blocks(*, run: bool) -> list[tuple[str, str]]:
    """The programs of the README and the guides, or those that say why they are not run: a name
    for each, and its text."""
    return [
        (f"{page.stem}-{number}", text)
        for page in PAGES
        for number, (mark, text) in enumerate(_PYTHON.findall(page.read_text()), 1)
        if bool(mark) != run
    ]


def console_blocks() -> list[tuple[str, list[str]]]:
    """The commands of each block that is marked runnable, with a name."""
    return [
        (f"{page.stem}-{number}", [x[2:] for x in block.splitlines() if x.startswith("$ ")])
        for page in PAGES
        for number, block in enumerate(_CONSOLE.findall(page.read_text()), 1)
    ]


@pytest.fixture
def demo(image: str) -> Iterator[dict[str, str]]:
    """The environment of a program for which the tests' image is named `demo` too."""
    import fcntl

    with (STATE / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = ImageStore(STATE / "images")
        tests = store.get(image)
        if not any(i.name == "demo" and i.digest == tests.digest for i in store.list()):
            store.alias(tests, "demo")
    yield {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"}


def run(argv: list[str], environment: dict[str, str], folder: str | Path = "/") -> str:
    done = subprocess.run(
        argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.xdist_group("readme")  # their sandboxes have names
@pytest.mark.parametrize(("name", "program"), python_blocks(run=True), ids=lambda v: v[:40])
def test_python_block(demo: dict[str, str], name: str, program: str) -> None:
    names = re.findall(r'(?:Sandbox\.create|\.restore)\(f?"([\w-]+)', program)
    snapshots = re.findall(r'\.snapshot\("([\w-]+)"', program)
    try:
        assert run([sys.executable, "-c", program], demo)
    finally:
        for each in names:
            run([sys.executable, "-m", "sandlot.cli.main", "rm", "-f", each], demo)
        for each in snapshots:
            words = ["snapshot", "rm", "-f", "--cascade", each]
            run([sys.executable, "-m", "sandlot.cli.main", *words], demo)
        for each in re.findall(r'Volume\.create\("([\w-]+)"', program):
            run([sys.executable, "-m", "sandlot.cli.main", "volume", "rm", "-f", each], demo)
        untagged_away(program)


def untagged_away(program: str) -> None:
    """The image that a program built without a name."""
    if "build_image" in program:
        store = ImageStore(STATE / "images")
        for image in untagged(store):
            store.remove(image.name)


@pytest.mark.parametrize(("name", "program"), python_blocks(run=False), ids=lambda v: v[:40])
def test_a_python_block_that_is_not_run(name: str, program: str) -> None:
    compile(program, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.xdist_group("readme")  # their sandboxes have names
@pytest.mark.parametrize(("name", "lines"), console_blocks(), ids=lambda v: str(v)[:40])
def test_console_block(demo: dict[str, str], tmp_path: Path, name: str, lines: list[str]) -> None:
    """As one script of a shell, in which any line that fails ends it."""
    assert lines
    sandlot = tmp_path / "sandlot"
    sandlot.write_text(f'#!/bin/sh\nexec {sys.executable} -m sandlot.cli.main "$@"\n')
    sandlot.chmod(0o755)
    environment = {**demo, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = "\n".join(lines)
    page = next(each for each in PAGES if each.stem == name.rpartition("-")[0])
    files = dict(_FILE.findall(page.read_text()))
    for path, text in files.items():
        (tmp_path / path).write_text(text)
    try:
        said = run(
            ["bash", "-euo", "pipefail", "-c", script], environment, tmp_path if files else "/"
        )
        for word, answer in ANSWERS.items():
            if word in script:
                assert answer in said.splitlines(), said
    finally:
        # The names are those of the page: a run that was killed may have left one.
        if "Sandboxfile.yaml" in files:
            run([str(sandlot), "down", "-v"], environment, tmp_path)
        for each in re.findall(r"--name (\S+)", script):
            run([str(sandlot), "rm", "-f", each], environment)
        for each in re.findall(r"snapshot create .*?(\S+)$", script, re.MULTILINE):
            run([str(sandlot), "snapshot", "rm", "-f", "--cascade", each], environment)


ANSWERS = {
    "echo hi": "hi", "cat /root/note": "kept", "cat /root/file": "data", "step $i": "step 3",
    "it runs": "it runs", "fleet run test": "level 2", "echo $WORKER_ID": "1: ready",
}  # fmt: skip
