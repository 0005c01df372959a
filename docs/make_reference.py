"""Writes docs/reference from the code: commands, errors and settings.

python docs/make_reference.py           writes the files
python docs/make_reference.py --check   fails when one of them would change
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sandlot import errors, settings
from sandlot.cli.main import cli

FOLDER = Path(__file__).resolve().parent / "reference"
WIDTH = 100
_NOTE = "Made by `docs/make_reference.py`; change the code, not this file."


def commands(
    command: click.Command = cli, name: str = "sandlot", parent: click.Context | None = None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command below `command` and itself, with its full name, in the order of the help."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from commands(found, child, context)


def cli_page() -> str:
    """docs/reference/cli.md."""
    parts = ["# Command line", _NOTE]
    for path, command, context in commands():
        help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts += [f"## `{path}`", f"```text\n{help_text.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def error_classes() -> list[type[errors.SandboxError]]:
    """Every error, in the order of the file."""
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.SandboxError)
    ]
    return sorted(found, key=lambda kind: inspect.getsourcelines(kind)[1])


def errors_page() -> str:
    """docs/reference/errors.md."""
    tree = (errors.__doc__ or "").split("\n\n", 1)[1].strip()
    parts = [
        "# Errors",
        _NOTE,
        "All of them can be imported from `sandlot`. Each has `message` and `hint`, its remedy.",
        f"```text\n{tree}\n```",
    ]
    for kind in error_classes():
        bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
        parts += [f"## `{kind.__name__}`", f"Is a {bases}. {inspect.getdoc(kind)}"]
    return "\n\n".join(parts) + "\n"


def _settings() -> Iterator[tuple[str, str]]:
    """The attributes of `Settings` with the text below each."""
    tree = ast.parse(inspect.getsource(settings.Settings)).body[0]
    assert isinstance(tree, ast.ClassDef)
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            yield field.target.id, str(text.value.value)


def variables() -> set[str]:
    """Every variable of Sandlot's own that the settings name."""
    return set(re.findall(r"SANDLOT_[A-Z_]+", inspect.getsource(settings)))


def environment_page() -> str:
    """docs/reference/environment.md."""
    rows = []
    for name, text in _settings():
        variable, separator, rest = text.partition(":")
        first, _, other = variable.partition(",")
        meaning = " ".join(rest.split())
        if other:
            meaning += f" Otherwise: {other.strip().removeprefix('else ')}."
        if not separator:
            raise SystemExit(f"the text of Settings.{name} does not begin with its variable")
        rows.append(f"| `{first}` | {meaning} |")
    table = "\n".join(["| variable | meaning |", "|---|---|", *rows])
    notes = [
        "`XDG_DATA_HOME` is `~/.local/share` when it is not set.",
        "Without a writable `XDG_RUNTIME_DIR`, sockets lie in `run` below the data folder.",
        "Empty means not set.",
    ]
    return "\n\n".join(["# Environment", _NOTE, table, *notes]) + "\n"


def docker_page() -> str:
    """docs/reference/docker.md."""
    from sandlot.cli.docker import COMMANDS, IMAGES, REFUSED

    parts = [
        "# Docker's commands and flags",
        _NOTE,
        "*same*: as Docker does it. *different*: it works, and the note says how it differs.",
        "*refused*: the command or flag ends with status 125, its name, and the note as a hint.",
        "What is not listed is not known, and refused by name.",
    ]
    rows = ["| command | | note |", "|---|---|---|"]
    rows += [f"| `{name}` | {d.verdict} | {d.note} |" for name, d in COMMANDS.items()]
    for name, there in IMAGES.items():
        note = f"is `sandlot {there}`" if there else "not there yet"
        rows.append(f"| `{name}` | {'different' if there else REFUSED} | {note} |")
    parts += ["## Commands", "\n".join(rows)]
    for name, docker in COMMANDS.items():
        if docker.flags:
            rows = ["| flag | | note |", "|---|---|---|"]
            rows += [f"| `{flag}` | {v} | {note} |" for flag, (v, note) in docker.flags.items()]
            parts += [f"## Flags of `{name}`", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


_HOOKS = (
    "A plugin is an object with some of these methods, each of which is given its context, which "
    "can be imported from `sandlot`; [the guide](../guides/plugins.md) shows them at work."
)
_KINDS = (
    "*asks*: the plugin may raise `Refuse`, and return the context with other values in the "
    "fields that it may change. *tells*: it has happened, and nobody waits for the answer."
)


def hooks_page() -> str:
    """docs/reference/hooks.md."""
    from sandlot.plugin.hooks import CONTEXTS, HookContext

    parts = [
        "# Hooks of plugins",
        _NOTE,
        _HOOKS,
        _KINDS,
        f"Every context has `sandbox` and `caller_id`. {' '.join(_text(HookContext).split()[4:])}",
    ]
    rows = ["| hook | context | | may change | programs too |", "|---|---|---|---|---|"]
    for context in CONTEXTS:
        changes = ", ".join(f"`{name}`" for name in context.changes)
        rows.append(
            f"| `{context.hook}` | `{context.__name__}` | {'asks' if context.asks else 'tells'} "
            f"| {changes} | {'yes' if context.remote else 'no'} |"
        )
    parts.append("\n".join(rows))
    for context in CONTEXTS:
        told = _text(context).partition(": ")[2]
        fields = [f for f in dataclasses.fields(context) if f.name not in ("sandbox", "caller_id")]
        listed = ["| field | type |", "|---|---|"]
        listed += [f"| `{f.name}` | `{f.type}` |".replace(" | None", " or None") for f in fields]
        parts += [f"## `{context.hook}`", f"`{context.__name__}`: {told}", "\n".join(listed)]
    return "\n\n".join(parts) + "\n"


def _text(kind: type) -> str:
    return inspect.getdoc(kind) or ""


PAGES = {
    "cli.md": cli_page,
    "errors.md": errors_page,
    "environment.md": environment_page,
    "docker.md": docker_page,
    "hooks.md": hooks_page,
}


def main() -> int:
    """Write or check every page; the number of pages that were wrong."""
    check = "--check" in sys.argv[1:]
    wrong = 0
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if path.exists() and path.read_text() == text:
            continue
        if check:
            sys.stderr.write(f"{path} is not current: run `python docs/make_reference.py`\n")
            wrong += 1
        else:
            path.write_text(text)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
