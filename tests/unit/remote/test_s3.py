from __future__ import annotations

import secrets

import pytest

from sandlot.errors import (
    BlobChanged,
    ConfigError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
)
from sandlot.remote.patience import PatientStore
from sandlot.remote.s3 import S3Store
from sandlot.testing import BlobStoreSuite
from tests.framework.remotes import s3 as s3
from tests.framework.remotes import s3_environment as s3_environment
from tests.framework.s3_server import OTHER, S3Server

pytestmark = pytest.mark.xdist_group("remotes")


class TestS3(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _server(self, s3_environment: S3Server) -> None:
        self.server = s3_environment

    def make(self, place: str) -> PatientStore:
        return PatientStore(
            S3Store(self.server.bucket, f"suite/{place}", endpoint=self.server.endpoint)
        )


@pytest.fixture
def place() -> str:
    return f"t{secrets.token_hex(6)}"


async def test_a_bucket_that_is_not_there(s3_environment: S3Server) -> None:
    async with S3Store("no-such-bucket", "a", endpoint=s3_environment.endpoint) as store:
        for call in (store.get, store.read, lambda key: store.put(key, b"")):
            with pytest.raises(RemoteRefused, match="there is no bucket no-such-bucket") as caught:
                await call("a")
            assert "aws s3 mb s3://no-such-bucket" in caught.value.hint
        with pytest.raises(RemoteRefused, match="there is no bucket"):
            [blob async for blob in store.list()]


async def test_credentials(s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, endpoint = s3_environment.bucket, s3_environment.endpoint
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OTHER)
    async with S3Store(bucket, "a", endpoint=endpoint) as store:
        with pytest.raises(RemoteRefused, match="cannot keep a: AccessDenied") as caught:
            await store.put("a", b"")
        assert "AWS_PROFILE" in caught.value.hint
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    async with S3Store(bucket, "a", endpoint=endpoint) as store:
        with pytest.raises(RemoteRefused, match="cannot keep a: InvalidAccessKeyId"):
            await store.put("a", b"")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with S3Store(bucket, "a", endpoint=endpoint) as store:
        with pytest.raises(RemoteRefused, match="there are no credentials for s3://sandboxes/a"):
            await store.get("a")


async def test_the_endpoint_of_the_environment(
    s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_environment.endpoint)
    async with S3Store(s3_environment.bucket, place) as store:
        await store.put("a", b"1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    async with S3Store(s3_environment.bucket, place) as store:
        with pytest.raises(RemoteUnreachable, match="cannot read a: connection refused") as caught:
            await store.get("a")
        assert "network" in caught.value.hint


async def test_the_root_of_a_bucket(s3_environment: S3Server, place: str) -> None:
    s3_environment.make_bucket(place)
    async with S3Store(place, endpoint=s3_environment.endpoint) as store:
        assert store.address == f"s3://{place}"
        await store.put("a/b", b"1")
        assert [blob.key async for blob in store.list()] == ["a/b"]


@pytest.mark.parametrize("endpoint", ["ftp://x", "x:9000", "http://user@x", "http://x/path"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="is not the endpoint"):
        S3Store("bucket", endpoint=endpoint)


ANSWERS = {
    "status code: 503 Slow Down: <Code>SlowDown</Code>": (RemoteUnreachable, "SlowDown"),
    "status code: 500 x: <Code>InternalError</Code>": (RemoteUnreachable, "InternalError"),
    "status code: 429 x": (RemoteUnreachable, "429"),
    "status code: 507 x": (RemoteFull, "no room is left"),
    "status code: 403 x: <Code>QuotaExceeded</Code>": (RemoteFull, "no room is left"),
    "status code: 403 x: <Code>RequestTimeTooSkewed</Code>": (RemoteRefused, "the clocks differ"),
    "status code: 301 x: <Code>PermanentRedirect</Code>": (RemoteRefused, "in another region"),
    "status code: 400 x: <Code>EntityTooLarge</Code>": (RemoteRefused, "EntityTooLarge"),
    "status code: 412 x": (BlobChanged, "replaced by somebody else"),
    "status code: 409 x": (BlobChanged, "replaced by somebody else"),
    "invalid peer certificate: UnknownIssuer": (RemoteRefused, "certificate is not trusted"),
    "error: dns error: no record": (RemoteUnreachable, "dns error"),
    "whatever": (RemoteUnreachable, "the connection broke off"),
}  # fmt: skip


@pytest.mark.parametrize("text", ANSWERS)
def test_what_answers_mean(text: str) -> None:
    kind, words = ANSWERS[text]
    failure = S3Store("bucket", "a")._failure(Exception(f"Generic S3 error: {text}"), "keep x", "x")
    assert type(failure) is kind and words in failure.message
    assert failure.address == "s3://bucket/a" and "\n" not in failure.message
