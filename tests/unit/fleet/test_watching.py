"""Who is stopped when a member becomes unhealthy."""

from __future__ import annotations

from pathlib import Path

from sandlot.fleet.reading import read_fleet
from sandlot.fleet.watching import dependents


def test_those_that_need_it_healthy_and_those_that_need_them(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("""
sandboxes:
  db: {image: x, health: {command: "true"}}
  api: {image: x, depends_on: {db: {condition: healthy}}}
  web: {image: x, depends_on: [api]}
  tool: {image: x, depends_on: [db]}
  other: {image: x}
""")
    spec = read_fleet(tmp_path / "f.yaml", variables={})
    assert dependents(spec, "db") == ["api", "web"]
    assert dependents(spec, "web") == []
