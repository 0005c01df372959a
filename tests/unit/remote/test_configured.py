from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.remote.address import parse_address
from sandlot.remote.configured import (
    Remotes,
    add_remote,
    find_remote,
    parse_remotes,
    read_remotes,
    remove_remote,
    written,
)
from sandlot.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SANDLOT_REMOTES", str(tmp_path / "new" / "remotes.toml"))
    return Settings.read()


def test_names_and_the_default(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="none is the default"):
        find_remote("", settings)
    with pytest.raises(ConfigError, match="no remote 'team'") as caught:
        find_remote("team", settings)
    assert "remote add" in caught.value.hint
    add_remote("team", parse_address("s3://bucket/a"), settings, default=True)
    add_remote("nas", parse_address("/mnt/nas"), settings)
    assert find_remote("", settings) == find_remote("team", settings) == "s3://bucket/a"
    assert find_remote("nas", settings) == "/mnt/nas"
    assert find_remote("oci://registry.example.com/a", settings) == "oci://registry.example.com/a"
    with pytest.raises(ConfigError, match="no remote 'x'") as caught:
        find_remote("x", settings)
    assert caught.value.hint == "there are nas, team"
    monkeypatch.setenv("SANDLOT_REMOTE", "nas")
    assert find_remote("", Settings.read()) == "/mnt/nas"
    monkeypatch.setenv("SANDLOT_REMOTE", "ssh://host/a")
    assert find_remote("", Settings.read()) == "ssh://host/a"
    remove_remote("team", settings)
    assert read_remotes(settings) == Remotes({"nas": "/mnt/nas"})
    with pytest.raises(ConfigError, match="no remote 'team'"):
        remove_remote("team", settings)


def test_a_name_is_not_given_twice(settings: Settings) -> None:
    add_remote("team", parse_address("s3://bucket/a"), settings)
    with pytest.raises(ConfigError, match="a remote team already: s3://bucket/a"):
        add_remote("team", parse_address("s3://bucket/b"), settings)
    add_remote("team", parse_address("s3://bucket/a"), settings, default=True)
    assert read_remotes(settings).default == "team"


def test_folders_are_absolute(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    add_remote("here", parse_address("./x"), settings)
    add_remote("home", parse_address("~/x"), settings)
    assert find_remote("here", settings) == str(tmp_path / "x")
    assert find_remote("home", settings) == "/home/me/x"


def add(number: int) -> None:
    add_remote(f"r{number}", parse_address(f"/mnt/{number}"), Settings.read())


def test_programs_that_add_at_once_lose_nothing(settings: Settings) -> None:
    context = multiprocessing.get_context("fork")
    programs = [context.Process(target=add, args=(number,)) for number in range(8)]
    for program in programs:
        program.start()
    for program in programs:
        program.join()
    assert set(read_remotes(settings).addresses) == {f"r{number}" for number in range(8)}
    assert {path.name for path in settings.remotes.parent.iterdir()} == {
        "remotes.toml", ".remotes.toml.lock",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x =", "not TOML"), ("x = 1", "'x' is not known"), ("remote = 1", "wrong type"),
        ("default = 1", "wrong type"), ("default = 'x'", "no remote of it"),
        ("[remote.a]", "an address"), ("[remote.a]\naddress = 1", "not a text"),
        ("[remote.a]\naddress = 's3://'", "names no bucket"),
        ("[remote.'a b']\naddress = '/a'", "not a name for a remote"),
        ("[remote.a]\naddress = '/a'\nkey = 'x'", "more or less"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse_remotes(text.encode(), "remotes.toml")


def test_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SANDLOT_REMOTES", str(tmp_path / "file" / "remotes.toml"))
    with pytest.raises(ConfigError, match="cannot write"):
        add_remote("a", parse_address("/a"), Settings.read())


@given(
    st.dictionaries(
        st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", fullmatch=True),
        st.text(min_size=1, max_size=30).filter(str.isprintable).map(lambda text: f"/{text}"),
        max_size=4,
    )
)
def test_what_is_written_is_read(addresses: dict[str, str]) -> None:
    addresses = {name: text for name, text in addresses.items() if "://" not in text}
    remotes = Remotes(addresses, next(iter(addresses), ""))
    assert parse_remotes(written(remotes).encode(), "x") == remotes
