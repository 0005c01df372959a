"""What is printed is a Sandboxfile again."""

from __future__ import annotations

from pathlib import Path

from sandlot.fleet.reading import read_fleet
from sandlot.fleet.writing import yaml_text

FILE = """
sandboxes:
  z:
    image: x
    env: {A: "$$HOME", B: "8000:1", C: "yes", D: "a\\nb: c", E: "1.10"}
    ports: ["22:22"]
    scripts: {start: "echo $$A # no", t: "y"}
    depends_on: [a]
  a: {image: y, secrets: [K@h.example]}
"""


def test_it_is_read_again_as_the_same(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(FILE)
    spec = read_fleet(tmp_path / "one.yaml", variables={})
    text = yaml_text(spec.config())
    (tmp_path / "two.yaml").write_text(text)
    again = read_fleet(tmp_path / "two.yaml", variables={})
    assert again.config() == spec.config()
    assert again.members["z"].options() == spec.members["z"].options()
    assert text.startswith(f"name: {spec.name}\nsandboxes:\n  z:\n    image: x\n")
