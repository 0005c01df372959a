from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.image.reference import DEFAULT_REGISTRY
from sandlot.image.registry.registries import (
    DEFAULT_HOST,
    Endpoint,
    Registries,
    RegistryOptions,
    is_loopback,
    parse_mirrors,
    parse_options,
    split_mirror,
    split_port,
)

HOST = "registry.example.com"


def read(tmp_path: Path, text: str | None = None, **environment: str) -> Registries:
    if text is not None:
        (tmp_path / "sandlot").mkdir(exist_ok=True)
        (tmp_path / "sandlot/registries.toml").write_text(text)
    return Registries.read({"XDG_CONFIG_HOME": str(tmp_path), **environment})


def test_nothing_set(tmp_path: Path) -> None:
    assert list(read(tmp_path).endpoints(HOST)) == [Endpoint(HOST, HOST)]
    default = list(read(tmp_path).endpoints(DEFAULT_REGISTRY))
    assert default == [Endpoint(DEFAULT_REGISTRY, DEFAULT_HOST)]


def test_the_file(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        f"""
        [registry.default]
        mirrors = ["mirror.example.com", "https://cache.example.com:444/hub/"]
        [registry."{HOST}:5000"]
        insecure = true
        ca = "~/ca.pem"
        """,
    )
    assert list(made.endpoints(DEFAULT_REGISTRY)) == [
        Endpoint("mirror.example.com", "mirror.example.com", mirror=True),
        Endpoint("cache.example.com:444", "cache.example.com:444", "hub", mirror=True),
        Endpoint(DEFAULT_REGISTRY, DEFAULT_HOST),
    ]
    assert list(made.endpoints(f"{HOST}:5000")) == [
        Endpoint(f"{HOST}:5000", f"{HOST}:5000", plain=True)
    ]
    assert made.authorities(f"{HOST}:5000") == [str(Path("~/ca.pem").expanduser())]


def test_the_environment_counts_before_the_file(tmp_path: Path) -> None:
    made = read(
        tmp_path, '[registry.default]\nmirrors = ["a.example"]\n',
        SANDLOT_REGISTRY_MIRRORS="b.example,c.example/x registry.example.com=d.example",
        SANDLOT_INSECURE_REGISTRIES="e.example:80, c.example", SANDLOT_REGISTRY_CA="/ca.pem",
    )  # fmt: skip
    assert [e.host for e in made.endpoints(DEFAULT_REGISTRY)] == [
        "b.example", "c.example", DEFAULT_HOST,
    ]  # fmt: skip
    assert [e.host for e in made.endpoints(HOST)] == ["d.example", HOST]
    assert made.allows_plain("e.example:80") and not made.allows_plain("e.example")
    assert made.authorities(HOST) == ["/ca.pem"]


def test_plain_http_only_for_loopback_or_when_named() -> None:
    made = Registries({"a.example": RegistryOptions(mirrors=("http://b.example",))})
    with pytest.raises(ConfigError, match="neither encrypted nor named"):
        list(made.endpoints("a.example"))
    options = {**made.options, "b.example": RegistryOptions(insecure=True)}
    first, last = Registries(options).endpoints("a.example")
    assert first == Endpoint("b.example", "b.example", plain=True, secure=False, mirror=True)
    assert not last.plain
    (local,) = Registries().endpoints("localhost:5000")
    assert local.plain and local.secure


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:5000",
        "127.0.0.1",
        "127.3.2.1:80",
        "[::1]:5000",
        "::1",
        "a.localhost",
    ],
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.example", "128.0.0.1", "[::2]:1", "127.0.0.1.example:5000", "10.0.0.1", ""]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_hosts_and_ports() -> None:
    assert split_port("a.example:5000") == ("a.example", 5000)
    assert split_port("[::1]:5000") == ("::1", 5000)
    assert split_port("a.example") == ("a.example", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://a.example",
        "https://",
        "http://user:secret@a.example",
        "a.example/UPPER",
        "a b",
        "a.example/../x",
    ],
)
def test_malformed_mirrors(text: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a mirror") as caught:
        split_mirror(text)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "is not TOML"),
        ("x = 1", "'x' is not known"),
        ("registry = 1", "not a table"),
        ("[registry]\na = 1", "a is not a table"),
        ("[registry.a]\nmirror = []", "no option 'mirror'"),
        ("[registry.a]\nmirrors = 'b'", "not a list"),
        ("[registry.a]\nmirrors = ['b c']", "not the address"),
        ("[registry.a]\ninsecure = 'no'", "wrong type"),
        ("[registry.'a/b']", "not a host"),
        (f"[registry.a]\nmirrors = {['b'] * 17}", "more than 16"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, text)
    assert caught.value.hint or "more than" in message


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SANDLOT_REGISTRIES names"):
        Registries.read({"SANDLOT_REGISTRIES": str(tmp_path / "none.toml")})


def test_malformed_names_of_insecure_registries(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without https"):
        try:
            read(tmp_path, SANDLOT_INSECURE_REGISTRIES="https://a.example")
        except ConfigError as error:
            raise ConfigError(f"{error.message} {error.hint}") from error


@given(st.binary())
def test_any_file_is_read_or_refused(data: bytes) -> None:
    try:
        parse_options(data, "file")
    except ConfigError:
        pass


@given(st.text())
def test_any_mirrors_are_read_or_refused(text: str) -> None:
    try:
        found = parse_mirrors(text)
        for mirrors in found.values():
            for mirror in mirrors:
                split_mirror(mirror)
    except ConfigError:
        pass
