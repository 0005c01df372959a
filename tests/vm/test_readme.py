"""What the README tells people to type does what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot.image import ImageStore
from tests.conftest import STATE

ROOT = Path(__file__).parents[2]
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CONSOLE = re.compile(r"^<!-- runnable -->\n```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


def python_blocks() -> list[tuple[str, str]]:
    """The README's and the guides' programs that use an image: a name for each, and its text."""
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))):
        for number, text in enumerate(_PYTHON.findall(page.read_text()), 1):
            if '"demo"' in text:
                found.append((f"{page.stem}-{number}", text))
    return found


def console_blocks() -> list[list[str]]:
    """The commands of each block of the README that is marked runnable."""
    blocks = _CONSOLE.findall((ROOT / "README.md").read_text())
    return [[line[2:] for line in block.splitlines() if line.startswith("$ ")] for block in blocks]


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


def run(argv: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        argv, env=environment, cwd="/", capture_output=True, text=True, timeout=200,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(("name", "program"), python_blocks(), ids=lambda value: value[:40])
def test_python_block(demo: dict[str, str], name: str, program: str) -> None:
    assert run([sys.executable, "-c", program], demo)


@pytest.mark.xdist_group("readme")  # their sandboxes have names
@pytest.mark.parametrize("number", range(len(console_blocks())))
def test_console_block(demo: dict[str, str], number: int) -> None:
    lines = console_blocks()[number]
    assert lines
    # The names are the README's: a run that was killed may have left one.
    names = re.findall(r"--name (\S+)", "\n".join(lines))
    sandlot = [sys.executable, "-m", "sandlot.cli.main"]
    try:
        for line in lines:
            words = shlex.split(line)
            assert words[0] == "sandlot"
            said = run([*sandlot, *words[1:]], demo)
            if "echo hi" in line:
                assert said == "hi\n"
            elif "cat /root/note" in line:
                assert said == "kept\n"
    finally:
        for name in names:
            run([*sandlot, "rm", "-f", name], demo)
