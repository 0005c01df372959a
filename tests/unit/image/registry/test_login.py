from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.framework.fake_registry import FakeRegistry, answers

from sandlot.errors import RegistryError
from sandlot.image.registry.credentials import AuthFile, AuthFiles, Credentials
from sandlot.image.registry.headers import Challenge
from sandlot.image.registry.keychain import Keychain
from sandlot.image.registry.login import Login
from sandlot.image.registry.registries import Endpoint, is_loopback
from sandlot.image.registry.transport import Transport

HOST = "registry.example.com"


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        yield registry


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(lambda host: ssl.create_default_context()) as made:
        yield made


def login(transport: Transport, found: Credentials | None = None) -> Login:
    auths = {HOST: found} if found else {}
    files = AuthFiles(((Path("f"), AuthFile(auths)),))
    return Login(transport, Endpoint(HOST, HOST), "team/app", Keychain(files), is_loopback)


def bearer(fake: FakeRegistry, **more: str) -> list[Challenge]:
    return [Challenge("bearer", {"realm": f"http://{fake.host}/token", "service": "s", **more})]


def token(**data: object) -> bytes:
    return json.dumps(data).encode()


async def test_basic_needs_credentials(transport: Transport) -> None:
    assert await login(transport).renew([Challenge("basic")], "") == ""
    one = login(transport, Credentials("me", "x"))
    header = await one.renew([Challenge("basic")], "")
    assert header == one.header == "Basic " + base64.b64encode(b"me:x").decode()
    assert await one.renew([Challenge("basic")], header) == ""  # it was refused already


async def test_an_unknown_scheme(transport: Transport) -> None:
    assert await login(transport).renew([Challenge("negotiate")], "") == ""


async def test_a_token_for_nobody(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault("/token", answers(200, token(token="abc", expires_in=300)))
    one = login(transport)
    assert await one.renew(bearer(fake), "") == "Bearer abc"
    assert one.header == "Bearer abc"
    asked = fake.asked[0]
    query = urllib.parse.parse_qs(asked.target.partition("?")[2])
    assert query == {"service": ["s"], "scope": ["repository:team/app:pull"]}
    assert "authorization" not in asked.headers


async def test_a_token_for_a_password(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault("/token", answers(200, token(access_token="abc")))
    one = login(transport, Credentials("me", "x"))
    challenge = bearer(fake, scope="repository:other:pull", realm=f"http://{fake.host}/token?a=b")
    assert await one.renew(challenge, "") == "Bearer abc"
    query = urllib.parse.parse_qs(fake.asked[0].target.partition("?")[2])
    assert query["account"] == ["me"] and query["a"] == ["b"]
    assert query["scope"] == ["repository:other:pull"]
    assert fake.asked[0].headers["authorization"] == Credentials("me", "x").basic()


async def test_a_token_for_an_identity_token(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault("/token", answers(200, token(access_token="abc")))
    one = login(transport, Credentials(identity_token="i&d"))
    assert await one.renew(bearer(fake), "") == "Bearer abc"
    form = urllib.parse.parse_qs(fake.asked[0].body.decode())
    assert fake.asked[0].method == "POST" and "authorization" not in fake.asked[0].headers
    assert form["refresh_token"] == ["i&d"] and form["grant_type"] == ["refresh_token"]


async def test_a_ready_token_is_used_as_it_is(fake: FakeRegistry, transport: Transport) -> None:
    one = login(transport, Credentials(registry_token="abc"))
    assert await one.renew(bearer(fake), "") == "Bearer abc" and not fake.asked


async def test_a_token_expires(
    fake: FakeRegistry, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.fault("/token", answers(200, token(token="abc", expires_in=5)))
    one = login(transport)
    await one.renew(bearer(fake), "")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert one.header == ""


async def test_another_request_has_got_it_already(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault("/token", answers(200, token(token="abc")))
    one = login(transport)
    assert await one.renew(bearer(fake), "") == await one.renew(bearer(fake), "")
    assert len(fake.asked) == 1


@pytest.mark.parametrize("realm", ["", "nonsense", "ftp://a.example", "http://a.example/token"])
async def test_credentials_go_nowhere_unsafe(transport: Transport, realm: str) -> None:
    one = login(transport, Credentials("me", "x"))
    with pytest.raises(RegistryError, match=r"names no server|unencrypted"):
        await one.renew([Challenge("bearer", {"realm": realm})], "")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", token(token=5), token(token="a\r\nX: y"), token(token="ä"), token(token=" "), token(token="x" * 70_000), b"[" * 9999, token(token="a", expires_in="x")],
)  # fmt: skip
async def test_answers_that_are_no_token(
    fake: FakeRegistry, transport: Transport, body: bytes
) -> None:
    fake.fault("/token", answers(200, body))
    with pytest.raises(RegistryError, match="did not answer with a token"):
        await login(transport).renew(bearer(fake), "")


async def test_a_refusal_is_told(fake: FakeRegistry, transport: Transport) -> None:
    fake.fault("/token", answers(401, b'{"details":"locked"}'))
    with pytest.raises(RegistryError, match="refused the credentials of me: locked") as caught:
        await login(transport, Credentials("me", "x")).renew(bearer(fake), "")
    assert caught.value.hint
    fake.fault("/token", answers(503))
    with pytest.raises(RegistryError, match="answered with 503") as busy:
        await login(transport).renew(bearer(fake), "")
    assert busy.value.status == 503
