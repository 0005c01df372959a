"""Names of members and scripts instead of those of sandboxes and images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot.cli.members import all_sandboxes_of, has_script, sandboxes_of
from sandlot.errors import ImageNotFound
from sandlot.sandbox.host import Host

FILE = """
name: shop
sandboxes:
  db: {image: x, scripts: {dump: pg_dump, known: "true"}}
  api: {image: x, replicas: 2}
  none: {image: x, replicas: 0}
"""


class Images:
    def get(self, name: str) -> None:
        if name != "known":
            raise ImageNotFound(name)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SANDLOT_DATA", str(tmp_path / "state"))
    host: Any = SimpleNamespace(images=Images())
    monkeypatch.setattr(Host, "current", lambda: host)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_without_a_file_a_name_is_a_name() -> None:
    assert sandboxes_of("db") == ["db"] and not has_script("dump")


def test_members_and_scripts_of_the_file_here(here: Path) -> None:
    (here / "Sandboxfile").write_text(FILE)
    assert sandboxes_of("db") == ["shop-db"]
    assert sandboxes_of("api") == ["shop-api-1", "shop-api-2"]
    assert sandboxes_of("none") == ["none"] and sandboxes_of("box") == ["box"]
    assert all_sandboxes_of(["db", "api", "shop-db", "x"]) == (
        "shop-db", "shop-api-1", "shop-api-2", "x",
    )  # fmt: skip
    assert has_script("dump")
    assert not has_script("known") and not has_script("nothing") and not has_script("x:1")


def test_what_is_there_under_its_name_comes_first(here: Path) -> None:
    (here / "Sandboxfile.yaml").write_text(FILE)
    folder = here / "state" / "sandboxes" / "db"
    folder.mkdir(parents=True)
    (folder / "sandbox.json").write_text("{")
    assert sandboxes_of("db") == ["db"]


def test_a_file_that_is_wrong_gives_no_names(here: Path) -> None:
    (here / "Sandboxfile").write_text("sandboxes: [")
    assert sandboxes_of("db") == ["db"] and not has_script("dump")
