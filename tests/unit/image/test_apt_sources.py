from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandlot.errors import ConfigError, HostError
from sandlot.image.apt_sources import Source, choose_sources, parse_deb822, parse_one_line

if TYPE_CHECKING:
    from pathlib import Path

KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = f"""\
# the archive
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: trixie trixie-updates trixie-backports
Components: main
Signed-By: {KEY}

Types: deb
URIs: http://user:secret@mirror.example/debian-security/
Suites: trixie-security
Components: main contrib
Signed-By: {KEY}

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
"""
THIRD_PARTIES = """\
deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/debian trixie main
deb https://vendor.example/linux/debian trixie stable
deb https://db.example/pub/repos/apt trixie-pgdg main
deb https://vendor.example/debian/13/prod trixie main
deb cdrom:[Debian]/ trixie main
deb-src http://mirror.example/debian trixie main
# deb http://mirror.example/debian trixie main
deb http://second.example/debian trixie main non-free # why
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "apt/sources.list.d"
    folder.mkdir(parents=True)
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="trixie"\n')
    (folder / "debian.sources").write_text(SOURCES)
    (folder / "others.list").write_text(THIRD_PARTIES)
    return tmp_path


def test_the_hosts_archive_is_taken_and_nothing_else(etc: Path) -> None:
    suite, sources = choose_sources(None, None, etc=etc)
    assert suite == "trixie"
    assert [(s.uri, s.suite, s.components) for s in sources] == [
        ("http://mirror.example/debian", "trixie", ("main",)),
        ("http://mirror.example/debian", "trixie-updates", ("main",)),
        (
            "http://user:secret@mirror.example/debian-security/", "trixie-security",
            ("main", "contrib"),
        ),
        ("http://second.example/debian", "trixie", ("main", "non-free")),
    ]  # fmt: skip
    assert f"Signed-By: {KEY}\n" in sources[0].deb822()
    assert sources[2].without_secrets().uri == "http://mirror.example/debian-security/"


def test_another_suite(etc: Path) -> None:
    suite, sources = choose_sources("forky", None, etc=etc)
    assert (suite, {s.suite for s in sources}) == (
        "forky", {"forky", "forky-updates", "forky-security"},
    )  # fmt: skip
    assert {s.suite for s in choose_sources("sid", None, etc=etc)[1]} == {"sid"}


def test_a_mirror_stands_alone(etc: Path) -> None:
    assert choose_sources(None, "http://m.example/x", etc=etc) == (
        "trixie", [Source("http://m.example/x", "trixie", ("main",))],
    )  # fmt: skip
    for bad in ("", "a b", "-x", "http://x\nTypes: deb"):
        with pytest.raises(ConfigError):
            choose_sources(None, bad, etc=etc)
        with pytest.raises(ConfigError):
            choose_sources(bad, None, etc=etc)


def test_a_host_without_apt(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="not Debian"):
        choose_sources(None, None, etc=tmp_path)
    (tmp_path / "os-release").write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    with pytest.raises(HostError, match="no archive"):
        choose_sources(None, None, etc=tmp_path)


def test_embedded_keys_and_damage() -> None:
    text = "Types: deb\nURIs: u\nSuites: s\nSigned-By:\n -----BEGIN\n .\n abc\nbroken line\n"
    (source,) = parse_deb822(text)
    assert "Signed-By: \n -----BEGIN\n .\n abc\n" in source.deb822()
    assert list(parse_deb822("\n\n:\nx\n")) == []
    assert list(parse_one_line("deb\ndeb x\n[]\n")) == []
