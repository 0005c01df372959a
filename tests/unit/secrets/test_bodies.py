"""Values in bodies, and out of answers."""

from __future__ import annotations

import gzip
import json
import zlib
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.secrets import bodies
from sandlot.secrets.bodies import Body, masking, request_body, response_body
from sandlot.secrets.secret import Secret
from sandlot.secrets.substitution import Bound, Refusal, Substitution, Use

VALUE = b'sk-"quoted\\+value'
PLACEHOLDER = "sk-placeholder0123456789abcdef"
MARK = PLACEHOLDER.encode()


def place(
    value: bytes = VALUE, inject: str = "body", host: str = "api.example.com", **more: object
) -> Substitution:
    secret = Secret(value, hosts="api.example.com", inject=inject, **more)  # type: ignore[arg-type]
    return Substitution([Bound("KEY", secret, PLACEHOLDER, value)], host, 443)


def through(body: Body | None, data: bytes, size: int = 7) -> bytes:
    assert body is not None
    pieces = [bytes(body.feed(data[at : at + size])) for at in range(0, len(data), size)]
    return b"".join(pieces) + body.finish()


def ignore(_: Use) -> None:
    pass


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text/plain", VALUE),
        ("", VALUE),
        ("application/json; charset=utf-8", json.dumps(VALUE.decode())[1:-1].encode()),
        ("application/vnd.api+json", json.dumps(VALUE.decode())[1:-1].encode()),
        ("application/x-www-form-urlencoded", quote_plus(VALUE).encode()),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_escaped_as_the_content_asks(kind: str, expected: bytes, size: int) -> None:
    uses: list[Use] = []
    body = request_body(place(), kind, "", uses.append)
    data = b"a=" + MARK + b"&b=" + MARK
    assert through(body, data, size) == b"a=" + expected + b"&b=" + expected
    assert [(use.place, use.replaced) for use in uses] == [("body", True)] * 2


def test_bodies_pass_untouched_unless_named() -> None:
    assert request_body(place(inject="credentials"), "", "", ignore) is None
    assert request_body(place(host="evil.example"), "", "", ignore) is None
    assert request_body(place(), "", "br", ignore) is None


@pytest.mark.parametrize("size", [1, 9, 100_000])
def test_gzip_and_deflate(size: int) -> None:
    plain = b"x" * 5000 + MARK + b"y" * 5000
    expected = plain.replace(MARK, VALUE)
    packed = gzip.compress(plain[:6000]) + gzip.compress(plain[6000:])  # two members
    made = through(request_body(place(), "", "gzip", ignore), packed, size)
    assert gzip.decompress(made) == expected
    made = through(request_body(place(), "", "deflate", ignore), zlib.compress(plain), size)
    assert zlib.decompress(made) == expected


def test_damaged_and_cut_off_compression() -> None:
    packed = gzip.compress(b"x" * 1000)
    with pytest.raises(Refusal, match="damaged"):
        through(request_body(place(), "", "gzip", ignore), b"nothing like gzip")
    with pytest.raises(Refusal, match="too early"):
        through(request_body(place(), "", "gzip", ignore), packed[:-3])
    with pytest.raises(Refusal, match="after its end"):
        through(request_body(place(), "", "deflate", ignore), zlib.compress(b"x") + b"more")
    assert through(request_body(place(), "", "gzip", ignore), b"") == b""


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MIN_UNPACKED", 1024 * 1024)
    bomb = gzip.compress(b"\0" * 16_000_000)
    with pytest.raises(Refusal, match="far more") as raised:
        through(request_body(place(), "", "gzip", ignore), bomb, 1000)
    assert raised.value.status == 413


def test_refusing_misuse_in_a_body() -> None:
    strict = request_body(place(inject="credentials", on_misuse="refuse"), "", "", ignore)
    assert strict is not None and strict.same_length
    strict.feed(b"nothing " + MARK[:-1])
    with pytest.raises(Refusal, match="in the body"):
        strict.feed(MARK[-1:])
    assert request_body(place(inject="credentials", on_misuse="refuse"), "", "gzip", ignore) is None


def test_a_missing_value() -> None:
    substitution = place()
    substitution.bound[0].value = None
    body = request_body(substitution, "", "", ignore)
    assert body is not None and bytes(body.feed(b"no need of it")) == b"no need of it"
    with pytest.raises(Refusal, match="missing"):
        through(body, MARK)


def test_equal_lengths_are_known() -> None:
    same = request_body(place(b"x" * len(MARK)), "", "", ignore)
    other = request_body(place(b"x"), "", "", ignore)
    assert same is not None and same.same_length
    assert other is not None and not other.same_length


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_as_gzip(data: bytes, size: int) -> None:
    try:
        through(request_body(place(), "", "gzip", ignore), data, size)
    except Refusal:
        pass


def test_masking() -> None:
    substitution = place(mask_echo=True)
    table = masking(substitution)
    answer = b'{"plain": "%b", "json": "%b", "url": "%b"}' % (
        VALUE, json.dumps(VALUE.decode())[1:-1].encode(), b"sk-%22quoted%5C%2Bvalue",
    )  # fmt: skip
    expected = b'{"plain": "%b", "json": "%b", "url": "%b"}' % (MARK, MARK, MARK)
    assert through(response_body(table, ""), answer) == expected
    packed = through(response_body(table, "gzip"), gzip.compress(answer))
    assert gzip.decompress(packed) == expected
    with pytest.raises(Refusal, match="packed as `br`"):
        response_body(table, "br")
    assert response_body({}, "br") is None
    assert masking(place()) == {}
    assert masking(place(b"short", mask_echo=True)) == {}


def test_tokens_of_basic_authentication_are_masked_too() -> None:
    import base64

    substitution = place(inject="credentials", mask_echo=True)
    sent = base64.b64encode(b"user:" + MARK)
    head = substitution.head(b"/", [(b"authorization", b"Basic " + sent)])
    token = head.fields[0][1].removeprefix(b"Basic ")
    assert token != sent
    assert through(response_body(masking(substitution), ""), b"you sent " + token) == (
        b"you sent " + sent
    )
