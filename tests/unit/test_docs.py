"""The documentation is complete, current, and names nothing that does not exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
_SKIPPED = {".venv", ".git", "node_modules", "build", "dist"}


def _make_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "docs" / "make_reference.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _make_reference()
COMMANDS = {path: command for path, command, _ in reference.commands()}


def pages() -> list[Path]:
    """Every Markdown file of the repository."""
    found = ROOT.rglob("*.md")
    return sorted(p for p in found if not _SKIPPED & set(p.relative_to(ROOT).parts[:-1]))


def without_code(text: str) -> str:
    """Markdown without its fenced blocks, in which brackets mean other things."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_and_an_example(path: str) -> None:
    command = COMMANDS[path]
    assert command.help, f"`{path}` has no help"
    assert command.epilog and command.epilog.startswith("Example"), f"`{path}` has no example"
    assert path.split()[-1] in command.epilog or path == "sandlot"
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), f"`{path}` {parameter.opts} has no help"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_in_the_reference(path: str) -> None:
    assert f"## `{path}`\n" in (REFERENCE / "cli.md").read_text()


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_current(name: str) -> None:
    """`python docs/make_reference.py` writes it."""
    assert (REFERENCE / name).read_text() == reference.PAGES[name]()


@pytest.mark.parametrize("kind", reference.error_classes())
def test_every_error_is_in_the_reference(kind: type[Exception]) -> None:
    assert kind.__doc__
    assert f"## `{kind.__name__}`\n" in (REFERENCE / "errors.md").read_text()


def test_every_variable_is_in_the_reference() -> None:
    text = (REFERENCE / "environment.md").read_text()
    named = reference.variables()
    assert named
    assert not {name for name in named if f"`{name}`" not in text}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = without_code(page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name} links to {target}"
        assert there.is_relative_to(ROOT), f"{page.name} links outside: {target}"
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", without_code(there.read_text()), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}"


def names_in(file: Path) -> set[str]:
    """The names of the test functions of a file, also those in classes."""
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def promises() -> list[str]:
    """The numbered lines of the specification."""
    text = (ROOT / "SPECIFICATION.md").read_text()
    return re.findall(r"^\d+\. .+$", text, re.MULTILINE)


def test_promises_are_numbered_in_order() -> None:
    assert [int(line.split(".")[0]) for line in promises()] == list(range(1, len(promises()) + 1))


@pytest.mark.parametrize("promise", promises(), ids=lambda line: line.split(".")[0])
def test_every_promise_names_its_proof(promise: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", promise)
    assert named or "[pending]" in promise, f"neither a test nor [pending]: {promise}"
    for file, test in named:
        assert (ROOT / file).is_file(), f"{file} does not exist"
        assert test in names_in(ROOT / file), f"{file} has no {test}"


def escapes() -> list[str]:
    """The rows of the tables in docs/security; what was tried in vain has no test of its own."""
    rows: list[str] = []
    for page in sorted((ROOT / "docs" / "security").glob("*.md")):
        found = re.findall(r"^\| .+ \|$", page.read_text(), re.MULTILINE)
        heads = ("| escape |", "| attempt |")
        rows += [row for row in found if not (row.startswith(heads) or row.endswith("| no |"))]
    return rows


def test_there_are_escapes() -> None:
    assert escapes()


@pytest.mark.parametrize("row", escapes(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_every_escape_names_its_test(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)(?:\[[\w-]+\])?`", row)
    assert named, f"no test: {row}"
    for file, test in named:
        assert (ROOT / file).is_file(), f"{file} does not exist"
        assert test in names_in(ROOT / file), f"{file} has no {test}"


def test_every_attempt_of_the_guest_has_its_row() -> None:
    from tests.vm.escapes import ALL, APART

    text = (ROOT / "docs" / "security" / "network.md").read_text()
    rows = re.findall(r"::test_(?:no_escape|a_machine_taken_apart)\[([\w-]+)\]`", text)
    assert sorted(rows) == sorted([*ALL, *APART])
    assert len(rows) >= 60
