from __future__ import annotations

from sandlot.image.registry.credentials import Credentials
from sandlot.image.registry.refusals import limited, missing_tag, refused

HOST = "registry.example.com"


def test_a_refused_login() -> None:
    nobody = refused(HOST, "a/b", None, 401, b"")
    assert nobody.message == f"{HOST}/a/b does not exist, or needs a login"
    assert f"login` {HOST}" in nobody.hint and nobody.registry == HOST and nobody.status == 401
    wrong = refused(HOST, "a/b", Credentials("me", "secret"), 401, b"")
    assert wrong.message == f"{HOST} refused the credentials of me"
    denied = refused(HOST, "a/b", Credentials(identity_token="secret"), 403, b'{"message":"no"}')
    assert denied.message == f"your token may not pull {HOST}/a/b: no"


def test_a_limit_tells_how_long() -> None:
    error = limited(
        HOST, anonymous=False, limit="200;w=60", remaining="0;w=60", wait="", now=0, body=b""
    )
    assert "200 in 1 minute" in error.message and error.retry_after == 60
    assert "login" not in error.hint
    bare = limited(HOST, anonymous=True, limit="", remaining="", wait="5", now=0, body=b"")
    assert bare.retry_after == 5 and "login" in bare.hint and "wait 5 seconds" in bare.hint


def test_a_missing_tag() -> None:
    assert "1.2, 1.1" in missing_tag("x", "1.2.0", ["0.1", "1.1", "1.2"]).hint
    assert missing_tag("x", "latest", []).hint == ""
