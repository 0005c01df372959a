from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sandlot.errors import ConfigError, RemoteRefused
from sandlot.remote.aws import find_aws_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / ".aws").mkdir()
    return tmp_path


async def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "three")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    found = find_aws_settings("s3://b")
    assert (found.region, found.endpoint, found.authorities) == ("eu-north-1", "", "")
    assert await found.provider() == {
        "access_key_id": "one", "secret_access_key": "two", "token": "three", "expires_at": None,
    }  # fmt: skip


async def test_a_profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n"
        "[team]\naws_access_key_id = one\naws_secret_access_key = two\n"
    )
    (home / ".aws/config").write_text(
        "[profile team]\nregion = eu-west-1\nendpoint_url = https://store.example.com\n"
        "ca_bundle = /ca.pem\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "team")
    found = find_aws_settings("s3://b")
    assert (found.region, found.endpoint, found.authorities) == (
        "eu-west-1", "https://store.example.com", "/ca.pem",
    )  # fmt: skip
    assert (await found.provider())["access_key_id"] == "one"


def test_services_of_a_profile(home: Path) -> None:
    (home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = one\naws_secret_access_key = two\n"
    )
    (home / ".aws/config").write_text(
        "[default]\nservices = here\n[services here]\ns3 =\n  endpoint_url = https://s3.example.com\n"
    )
    assert find_aws_settings("s3://b").endpoint == "https://s3.example.com"


async def test_a_program_that_gives_credentials(home: Path) -> None:
    answer = {
        "Version": 1, "AccessKeyId": "one", "SecretAccessKey": "two",
        "SessionToken": "three", "Expiration": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    program = home / "give.py"
    program.write_text(f"print({json.dumps(answer)!r})")
    (home / ".aws/config").write_text(
        f"[default]\ncredential_process = {sys.executable} {program}\n"
    )
    given = await find_aws_settings("s3://b").provider()
    assert given["token"] == "three"
    assert given["expires_at"] is not None


def test_none_at_all() -> None:
    with pytest.raises(RemoteRefused, match="there are no credentials for s3://b") as caught:
        find_aws_settings("s3://b")
    assert "aws configure" in caught.value.hint


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(RemoteRefused, match=r"profile \(none\) could not be found"):
        find_aws_settings("s3://b")


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(ConfigError, match="needs the package obstore") as caught:
        find_aws_settings("s3://b")
    assert caught.value.hint == "pip install 'sandlot[s3]'"
