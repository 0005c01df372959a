from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.image.reference import DEFAULT_REGISTRY
from sandlot.image.registry.credentials import (
    DEFAULT_SERVER,
    AuthFile,
    AuthFiles,
    Credentials,
    Helper,
    auth_paths,
)

HOST = "registry.example.com"


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def parse(**data: object) -> AuthFile:
    return AuthFile.parse(json.dumps(data))


def test_a_password_with_colons() -> None:
    found = parse(auths={HOST: auth("me", "a:b")}).find(HOST)
    assert found == Credentials("me", "a:b")
    assert isinstance(found, Credentials) and found.basic() == "Basic bWU6YTpi"


@pytest.mark.parametrize(
    "key", [HOST, f"https://{HOST}", f"https://{HOST}/v1/", f"http://{HOST}/v2/", HOST.upper()]
)
def test_old_forms_of_keys(key: str) -> None:
    assert parse(auths={key: auth("me", "x")}).find(HOST) == Credentials("me", "x")


def test_the_default_registry_has_a_key_of_its_own() -> None:
    file = parse(auths={DEFAULT_SERVER: auth("me", "x")})
    assert file.find(DEFAULT_REGISTRY, "library/python") == Credentials("me", "x")
    assert file.find(HOST) is None


def test_the_most_particular_key_counts() -> None:
    file = parse(
        auths={
            HOST: auth("all", "1"),
            f"{HOST}/team": auth("team", "2"),
            f"{HOST}/team/app": auth("app", "3"),
        }
    )
    names = [
        found.username
        for path in ("other/app", "team/other", "team/app", "team/app/sub", "teams/app")
        if isinstance(found := file.find(HOST, path), Credentials)
    ]
    assert names == ["all", "team", "app", "app", "all"]


def test_another_port_is_another_registry() -> None:
    assert parse(auths={f"{HOST}:5000": auth("me", "x")}).find(HOST) is None


def test_tokens() -> None:
    file = parse(
        auths={
            "a.example": {**auth("<token>", "identity")},
            "b.example": {"identitytoken": "identity"},
            "c.example": {"registrytoken": "bearer"},
            "d.example": {},
            "e.example": {"username": "me", "password": "x"},
        }
    )
    assert file.find("a.example") == Credentials(identity_token="identity")
    assert file.find("b.example") == Credentials(identity_token="identity")
    assert file.find("c.example") == Credentials(registry_token="bearer")
    assert file.find("d.example") is None
    assert file.find("e.example") == Credentials("me", "x")


def test_helpers_come_before_what_is_stored_and_the_store_last() -> None:
    file = parse(
        auths={"a.example": auth("me", "x"), "b.example": auth("me", "x"), "c.example": {}},
        credHelpers={"a.example": "ecr-login"}, credsStore="secretservice",
    )  # fmt: skip
    assert file.find("a.example") == Helper("ecr-login", "a.example")
    assert file.find("b.example") == Credentials("me", "x")
    assert file.find("c.example") == Helper("secretservice", "c.example")
    assert file.find(DEFAULT_REGISTRY) == Helper("secretservice", DEFAULT_SERVER)


def test_a_secret_is_never_shown() -> None:
    assert "hunter2" not in repr(Credentials("me", "hunter2", "hunter2", "hunter2"))
    assert "hunter2" not in str(parse(auths={HOST: auth("me", "hunter2")}))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "[" * 100_000, '{"auths": [1]}', '{"auths": {"a": "b"}}',
        '{"auths": {"a": {"auth": 5}}}', '{"auths": {"a": {"auth": "%%%"}}}',
        '{"auths": {"a": {"auth": "bm9jb2xvbg=="}}}', '{"credHelpers": {"a": "../../bin/sh"}}',
        '{"credsStore": "a/b"}', '{"credHelpers": 5}',
    ],
)  # fmt: skip
def test_damaged_files(text: str) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        AuthFile.parse(text)


WORDS = "abeghistuvwx:/.=<>%\x00é"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(WORDS, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(WORDS, max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.binary()
    | st.fixed_dictionaries(
        {}, optional={"auths": json_values, "credHelpers": json_values, "credsStore": json_values}
    ).map(lambda data: json.dumps(data).encode())
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        AuthFile.parse(data).find(HOST, "a/b")
    except ConfigError as error:
        assert error.hint


def write(path: Path, **data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def test_where_files_lie(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    paths = [
        tmp_path / "run/containers/auth.json",
        tmp_path / ".config/containers/auth.json",
        tmp_path / ".docker/config.json",
    ]
    assert auth_paths(environment) == paths
    for number, path in reversed(list(enumerate(paths))):
        write(path, auths={HOST: auth(f"user{number}", "x")})
        found = AuthFiles.read(environment).find(HOST)
        assert found == Credentials(f"user{number}", "x")
    named = {**environment, "REGISTRY_AUTH_FILE": "/a", "DOCKER_CONFIG": "/b"}
    assert auth_paths(named) == [Path("/a"), Path("/b/config.json")]


def test_the_second_file_counts_when_the_first_one_does_not_know(tmp_path: Path) -> None:
    write(tmp_path / ".config/containers/auth.json", auths={"other.example": auth("a", "b")})
    write(tmp_path / ".docker/config.json", auths={HOST: auth("me", "x")})
    assert AuthFiles.read({"HOME": str(tmp_path)}).find(HOST) == Credentials("me", "x")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / ".docker/config.json"
    path.parent.mkdir()
    path.write_text("{nonsense")
    with pytest.raises(ConfigError, match=str(path)):
        AuthFiles.read({"HOME": str(tmp_path)})
    path.write_text(" " * (1 << 20) + "{}")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        AuthFiles.read({"HOME": str(tmp_path)})
    path.write_text("")
    assert AuthFiles.read({"HOME": str(tmp_path)}) == AuthFiles()
