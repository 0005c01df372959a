from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.remote.address import Address, is_address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/mnt/team", Address("folder", "/mnt/team")),
        ("./here", Address("folder", "./here")),
        ("file:///mnt/my%20drive", Address("folder", "/mnt/my drive")),
        ("file://localhost/mnt", Address("folder", "/mnt")),
        ("s3://bucket", Address("s3", "", "bucket")),
        ("s3://my.bucket/a/b/", Address("s3", "a/b", "my.bucket")),
        (
            "s3://bucket/a?endpoint=http://127.0.0.1:9000",
            Address("s3", "a", "bucket", endpoint="http://127.0.0.1:9000"),
        ),
        ("oci://registry.example.com/team/app", Address("oci", "team/app", "registry.example.com")),
        ("oci://127.0.0.1:5000/app", Address("oci", "app", "127.0.0.1:5000")),
        ("oci://[::1]:5000/app", Address("oci", "app", "[::1]:5000")),
        ("ssh://host/path", Address("ssh", "/path", "host")),
        ("sftp://me@host:2222/a/b/", Address("ssh", "/a/b", "host", "me", 2222)),
        ("ssh://host/~/sandboxes", Address("ssh", "~/sandboxes", "host")),
        ("ssh://[fe80::1]/a", Address("ssh", "/a", "fe80::1")),
    ],
)  # fmt: skip
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address
    assert is_address(text)


def test_an_endpoint_by_itself() -> None:
    address = parse_address("s3://bucket/a", "https://store.example.com/")
    assert str(address) == "s3://bucket/a?endpoint=https://store.example.com"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not the address"), ("a\nb", "not the address"), ("x" * 3000, "not the address"),
        ("gs://bucket", "unknown beginning gs://"), ("file://nas/x", "of another machine"),
        ("s3://", "no bucket"), ("s3:///x", "no bucket"), ("s3://b_", "no bucket|prefix"),
        ("s3://bucket/a//b", "prefix"), ("s3://bucket/../b", "prefix"), ("s3://bucket/ä", "prefix"),
        ("s3://bucket?region=x", "unknown option 'region'"),
        ("s3://bucket?endpoint=ftp://x", "endpoint 'ftp://x'"),
        ("oci://registry", "no repository"), ("oci://reg/Team", "no repository"),
        ("oci://reg/app:tag", "no repository"), ("oci:///app", "no registry"),
        ("oci://reg:99999/app", "no port"), ("ssh://host", "no folder"), ("ssh:///path", "no host"),
        ("ssh://me:secret@host/path", "password"), ("ssh://-oProxy=x/path", "no host"),
        ("ssh://-x@host/path", "user"), ("ssh://host:0/path", "no port"),
    ],
)  # fmt: skip
def test_what_is_none(text: str, what: str) -> None:
    if text == "s3://b_":
        text = "s3://_b"
    with pytest.raises(ConfigError, match=what) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


def test_only_s3_has_an_endpoint() -> None:
    with pytest.raises(ConfigError, match="has no endpoint"):
        parse_address("ssh://host/path", "https://x")


def test_names_are_no_addresses() -> None:
    assert not is_address("team")
    assert is_address("~/x") and is_address(".") and is_address("a/b")


@given(st.text(max_size=80), st.sampled_from(["s3://", "oci://", "ssh://", "file://", ""]))
def test_whatever_people_write(text: str, scheme: str) -> None:
    try:
        address = parse_address(scheme + text)
    except ConfigError:
        return
    assert parse_address(str(address)) == address
