"""`sandlot push` and `sandlot pull`; sandboxes that run are pushed in tests/vm/test_push.py."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sandlot import ConfigError, RemoteConflict
from sandlot.cli.key import key
from sandlot.cli.main import _names_image
from sandlot.cli.push import forget, gc, list_pushed, pull, push
from sandlot.cli.volume import volume
from sandlot.sandbox.host import Host
from tests.unit.snapshot.fakes import fitting_host, make_snapshot


@pytest.fixture
def address(own_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SANDLOT_KEY", str(tmp_path / "key"))
    monkeypatch.setenv("SANDLOT_REMOTES", str(tmp_path / "remotes.toml"))
    monkeypatch.delenv("SANDLOT_REMOTE", raising=False)
    invoked(key, "new")
    return str(tmp_path / "remote")


def invoked(command: click.Command, *words: str) -> Result:
    return CliRunner().invoke(command, list(words), catch_exceptions=False)


def test_a_snapshot_there_and_back(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host: Host = fitting_host(monkeypatch)
    make_snapshot(host)
    done = invoked(push, "--kind", "snapshot", "demo", address, "--as", "there")
    assert done.stdout == "there@1\n" and "version 1" in done.stderr
    told = json.loads(
        invoked(push, "--kind", "snapshot", "--json", "-q", "demo", f"{address}#there").stdout
    )
    assert (told["version"], told["kind"], told["moved"]) == (2, "snapshot", 0)
    back = invoked(pull, "--kind", "snapshot", "-n", "back", "there@1", address)
    assert back.stdout == f"{host.snapshots.find('back').record().id}\n"
    assert "pulled as back" in back.stderr
    only = invoked(pull, "--kind", "snapshot", "--disk-only", "-n", "disk", f"{address}#there")
    assert only.stdout and host.snapshots.find("disk").record().machine is None
    make_snapshot(host, "twin", seed=2)
    with pytest.raises(RemoteConflict):
        invoked(push, "--kind", "snapshot", "twin", address, "--as", "there")
    assert (
        invoked(push, "--kind", "snapshot", "-f", "twin", address, "--as", "there").exit_code == 0
    )


def test_a_volume_and_what_is_there(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    invoked(volume, "create", "data")
    invoked(push, "--kind", "volume", "data", address)
    assert invoked(pull, "--kind", "volume", "-n", "back", "data", address).stdout == "back\n"
    list_pushed(address, json_=False)
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["NAME", "KIND"] and line.split()[:3] == ["data", "volume", "1"]
    list_pushed(address, json_=True)
    assert json.loads(capsys.readouterr().out)[0]["versions"][0]["version"] == 1
    assert invoked(forget, "data", address).stdout == "data\n"
    assert int(invoked(gc, address).stdout) > 0
    assert json.loads(invoked(gc, "--json", address).stdout)["blobs"] == 0
    with pytest.raises(ConfigError, match="--memory"):
        invoked(push, "--kind", "volume", "--memory", "data", address)


@pytest.mark.parametrize(
    ("words", "image"),
    [
        (["python:3.12"], True), (["team/app"], True), (["-q", "a:1"], True), (["web"], False),
        (["web@3"], False), (["s3://b/x#web"], False), (["/mnt/x"], False), (["./a:b"], False), ([], False),
    ],
)  # fmt: skip
def test_images_are_pulled_as_docker_has_it(words: list[str], image: bool) -> None:
    assert _names_image(words) is image


def test_who_means_an_image_is_told(address: str) -> None:
    with pytest.raises(ConfigError, match="none is the default") as caught:
        invoked(pull, "alpine")
    assert "`sandlot image pull alpine`" in caught.value.hint
