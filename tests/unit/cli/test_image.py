"""How images are listed and described."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from sandlot.cli.main import cli
from sandlot.sandbox.host import Host
from tests.framework.fake_registry import layer
from tests.framework.images import add_image


def sandlot(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_quiet_is_ids(own_state: Path) -> None:
    made = add_image(Host.current().images, "demo:1", layer({"a": b"x"}))
    assert sandlot("images", "-q").output == f"{made.id[7:19]}\n"
    assert sandlot("image", "ls", "-q", "--no-trunc").output == f"{made.id}\n"
    assert made.id[7:19] in sandlot("images").output
    assert sandlot("rmi", made.id[7:19]).output == "demo:1\n"
    assert sandlot("images", "-q").output == ""


def test_an_image_without_a_date_was_created_when_it_came(own_state: Path) -> None:
    add_image(Host.current().images, "demo:1", layer({"a": b"x"}))
    (listed,) = json.loads(sandlot("image", "ls", "--json").output)
    (seen,) = json.loads(sandlot("image", "inspect", "demo:1").output)
    assert seen["Created"] == listed["created"] and seen["Created"].endswith("Z")


def test_the_list_of_commands_is_not_cut(own_state: Path) -> None:
    text = sandlot("image", "--help").output
    listed = text.partition("Commands:")[2]
    assert "..." not in listed and "that Docker uses" in " ".join(listed.split())


def test_a_file_that_is_no_archive_is_named(own_state: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("no archive")
    for words in (("load", "-q", "-i", str(tmp_path / "f")),
                  ("import", "-q", str(tmp_path / "f"), "x")):  # fmt: skip
        error = sandlot("image", *words).exception
        assert str(error).startswith(f"{tmp_path}/f: "), error
