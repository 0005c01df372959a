"""The public names, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import sandlot
from sandlot import errors


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has after `code`; its own output is dropped."""
    script = f"import sys\n{code}\nsys.stderr.write('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return set(done.stderr.decode().split())


def test_all_is_sorted_and_importable() -> None:
    assert sorted(sandlot.__all__) == list(sandlot.__all__)
    assert len(set(sandlot.__all__)) == len(sandlot.__all__)
    for name in sandlot.__all__:
        assert getattr(sandlot, name) is not None


def test_what_type_checkers_see_is_what_is_exported() -> None:
    tree = ast.parse(Path(sandlot.__file__).read_text())
    seen: set[str] = set()
    for node in tree.body:
        names = node.body if isinstance(node, ast.If) else [node]
        for each in names:
            if isinstance(each, ast.ImportFrom) and each.module != "typing":
                seen |= {alias.name for alias in each.names}
            elif isinstance(each, ast.Import):
                seen |= {alias.asname or alias.name for alias in each.names}
    assert seen - {"annotations"} == set(sandlot.__all__)


def test_every_error_is_exported() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.SandboxError):
            assert getattr(sandlot, name) is value
            assert name in sandlot.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(sandlot, "Sandpit")


def test_importing_is_light() -> None:
    loaded = loaded_by("import sandlot")
    assert "sandlot.errors" in loaded
    assert not loaded & {"asyncio", "click", "qemu", "cryptography", "sandlot.sandbox.sandbox"}


def test_help_loads_no_event_loop() -> None:
    loaded = loaded_by(
        "sys.argv = ['sandlot', '--help']\n"
        "from sandlot.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert "click" in loaded
    assert not loaded & {"asyncio", "rich", "qemu", "sandlot.sandbox.sandbox"}


def test_what_fleets_need_is_imported_for_fleets_only() -> None:
    loaded = loaded_by("import sandlot.sync, sandlot.cli.look, sandlot.cli.run, sandlot.cli.exec")
    assert not loaded & {"pydantic", "ruamel.yaml", "sandlot.fleet.models"}
    assert "pydantic" in loaded_by("import sandlot; sandlot.Fleet")
