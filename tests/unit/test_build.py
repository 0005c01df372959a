"""The package's build: the same source gives the same programs, wherever it lies."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def built(folder: Path) -> dict[str, str]:
    for name in ("agent", "launch"):
        shutil.copytree(ROOT / name, folder / name)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files: list[Path] = module.build(folder)
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_programs_are_reproducible(tmp_path: Path) -> None:
    first = built(tmp_path / "one")
    assert first == built(tmp_path / "somewhere" / "else")
    assert set(first) == {"agent-x86_64", "agent-aarch64", "launch-x86_64", "launch-aarch64"}
