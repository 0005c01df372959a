"""Values stand in for placeholders in the head of a request, and only where they may."""

from __future__ import annotations

import base64
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.secrets.secret import Secret
from sandlot.secrets.substitution import Bound, Refusal, Substitution

VALUE = b"sk-real+value/with=signs"
PLACEHOLDER = "sk-placeholder0123456789abcdef"
MARK = PLACEHOLDER.encode()


def bind(inject: str | list[str] = "credentials", **more: object) -> Bound:
    secret = Secret(VALUE, hosts="api.example.com", inject=inject, **more)  # type: ignore[arg-type]
    return Bound("KEY", secret, PLACEHOLDER, VALUE)


def on(host: str = "api.example.com", *bound: Bound, tls: bool = True) -> Substitution:
    return Substitution(bound or [bind()], host, 443 if tls else 80, tls)


def field(substitution: Substitution, name: bytes, value: bytes) -> bytes:
    return substitution.head(b"/", [(name, value)]).fields[0][1]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"Authorization", b"Bearer " + MARK, b"Bearer " + VALUE),
        (b"authorization", b"bearer  " + MARK, b"bearer  " + VALUE),
        (b"AUTHORIZATION", MARK, VALUE),
        (b"Authorization", b"Token token=" + MARK, b"Token token=" + VALUE),
        (b"Authorization", b"Bot " + MARK, b"Bot " + VALUE),
        (b"X-Api-Key", MARK, VALUE),
        (b"api-key", MARK, VALUE),
        (b"PRIVATE-TOKEN", MARK, VALUE),
    ],
)
def test_credentials(name: bytes, value: bytes, expected: bytes) -> None:
    substitution = on()
    made = substitution.head(b"/", [(name, value)])
    assert made.fields == [(name, expected)]
    (use,) = made.uses
    assert use.replaced and use.secret == "KEY" and use.place == f"header {name.decode().lower()}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X-Request-Id", MARK),
        (b"User-Agent", b"agent " + MARK),
        (b"Cookie", b"a=" + MARK),
        (b"Referer", b"https://x/" + MARK),
        (b"Host", MARK),
        (b"Authorization", MARK + b" xyz"),  # a server may answer with a scheme it does not know
        (b"Authorization", b"Foo " + MARK),
        (b"Authorization", b'Digest username="' + MARK + b'"'),
        (b"Authorization", b"AWS4-HMAC-SHA256 Credential=" + MARK),
        (b"Authorization", b"Basic " + MARK),
        (b"Proxy-Authorization", b"Bearer " + MARK),
    ],
)
def test_other_fields_stay_as_they_are(name: bytes, value: bytes) -> None:
    made = on().head(b"/", [(name, value)])
    assert made.fields == [(name, value)]
    assert [use.replaced for use in made.uses] == [False]


@pytest.mark.parametrize("user", [b"user:%b", b"%b:", b"%b:x-oauth-basic", b"a%bb:%b"])
def test_basic(user: bytes) -> None:
    holding = user.replace(b"%b", MARK)
    sent = field(on(), b"Authorization", b"Basic " + base64.b64encode(holding))
    assert base64.b64decode(sent.removeprefix(b"Basic ")) == user.replace(b"%b", VALUE)


@pytest.mark.parametrize("token", [b"", b"!!!", b"YQ", base64.b64encode(b"user:password")])
def test_basic_without_a_placeholder_is_not_touched(token: bytes) -> None:
    value = b"basic " + token
    assert field(on(), b"Authorization", value) == value


def test_another_host_gets_the_placeholder() -> None:
    made = on("evil.example.com").head(b"/" + MARK, [(b"Authorization", b"Bearer " + MARK)])
    assert made.target == b"/" + MARK and made.fields[0][1] == b"Bearer " + MARK
    assert [use.replaced for use in made.uses] == [False, False]


def test_plain_http_only_when_named() -> None:
    line = b"Bearer " + MARK
    assert field(on(tls=False), b"Authorization", line) == line
    named = on("api.example.com", bind(plain_http=True), tls=False)
    assert field(named, b"Authorization", line) == b"Bearer " + VALUE


@pytest.mark.parametrize(
    ("inject", "target", "expected"),
    [
        ("credentials", b"/a?key=" + MARK, None),
        ("query:key", b"/a?key=" + MARK + b"&q=" + MARK,
         b"/a?key=sk-real%2Bvalue%2Fwith%3Dsigns&q=" + MARK),
        ("query", b"/a?x&" + MARK + b"&y=%20+" + MARK + b"%2B",
         b"/a?x&sk-real%2Bvalue%2Fwith%3Dsigns&y=%20+sk-real%2Bvalue%2Fwith%3Dsigns%2B"),
        ("query:key", b"/a?k%65y=%73k%2Dplaceholder0123456789abcde%66+1%2F",
         b"/a?k%65y=sk-real%2Bvalue%2Fwith%3Dsigns+1%2F"),
        ("query:key", b"/a?key=%2573k-placeholder0123456789abcdef", None),  # encoded twice
        ("query:key", b"/a?key=%", None),
        ("query:key", b"/a?" + MARK + b"=key", None),
        ("query", b"/a/" + MARK, None),
        ("path", b"/bot" + MARK + b"/send%2Fx?q=" + MARK,
         b"/botsk-real%2Bvalue%2Fwith%3Dsigns/send%2Fx?q=" + MARK),
        ("path", b"/bot%73k-placeholder0123456789abcdef/%2e%2E/",
         b"/botsk-real%2Bvalue%2Fwith%3Dsigns/%2e%2E/"),
    ],
)  # fmt: skip
def test_the_target(inject: str, target: bytes, expected: bytes | None) -> None:
    substitution = on("api.example.com", bind(inject))
    assert substitution.head(target, []).target == (target if expected is None else expected)


@given(st.text(alphabet="/?&=%+aF2", max_size=30).map(str.encode))
def test_targets_without_placeholders_are_never_changed(target: bytes) -> None:
    assert on("api.example.com", bind(["path", "query"])).head(target, []).target == target


def test_names_of_parameters_can_be_shown() -> None:
    made = on().head(b"/?%1b[2J%0a" + b"x" * 999 + b"=" + MARK, [])
    (use,) = made.uses
    assert use.place.isprintable() and len(use.place) < 100


def test_refusing_misuse() -> None:
    strict = bind(on_misuse="refuse")
    with pytest.raises(Refusal, match="placeholder of KEY") as raised:
        on("evil.example.com", strict).head(b"/", [(b"Authorization", b"Bearer " + MARK)])
    assert raised.value.status == 403 and "KEY" in raised.value.hint
    assert raised.value.use is not None and not raised.value.use.replaced
    with pytest.raises(Refusal):
        on("api.example.com", strict).head(b"/?q=" + MARK, [])
    with pytest.raises(Refusal):
        basic = base64.b64encode(b"u:" + MARK)
        on("evil.example.com", strict).head(b"/", [(b"Authorization", b"Basic " + basic)])
    assert on("api.example.com", strict).head(b"/", [(b"x-api-key", MARK)]).uses[0].replaced


def test_a_missing_value_is_told() -> None:
    one = bind()
    one.value, one.problem = None, "the environment variable KEY is not set"
    with pytest.raises(Refusal, match="value of KEY is missing") as raised:
        field(on("api.example.com", one), b"x-api-key", MARK)
    assert raised.value.status == 502
    assert "KEY is not set" in raised.value.hint and "not set" not in raised.value.reason
    assert field(on("api.example.com", one), b"accept", b"*/*") == b"*/*"


@pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\nb", b"a\x00", b"-----BEGIN\n"])
def test_a_value_cannot_split_a_head(value: bytes) -> None:
    one = bind()
    one.value = value
    with pytest.raises(Refusal, match="line breaks"):
        field(on("api.example.com", one), b"x-api-key", MARK)


def test_rotation_and_another_secret() -> None:
    one = bind()
    other = Bound("OTHER", Secret(b"o", hosts="other.example.com"), "other-placeholder-xyz", b"o")
    substitution = on("api.example.com", one, other)
    both = MARK + b"," + other.placeholder
    assert field(substitution, b"x-api-key", both) == VALUE + b"," + other.placeholder
    one.value = b"new"
    assert field(substitution, b"x-api-key", both) == b"new," + other.placeholder
    assert substitution.named() == [one]
    one.secret = Secret(VALUE, hosts="elsewhere.example.com")
    assert field(substitution, b"x-api-key", both) == both
    assert not substitution.active


def test_what_is_shown() -> None:
    one = bind()
    for shown in (repr(one), repr(on("api.example.com", one)), str(on("api.example.com", one))):
        assert VALUE.decode() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(one)


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_any_field(value: bytes, name: bytes) -> None:
    made = on().head(value, [(name, value), (b"authorization", value)])
    assert VALUE not in made.target and VALUE not in made.fields[0][1]


@given(st.sampled_from([b"bearer ", b"token ", b"Basic ", b""]), st.binary(max_size=20))
def test_nothing_is_replaced_for_hosts_that_are_not_named(scheme: bytes, salt: bytes) -> None:
    token = base64.b64encode(salt + MARK) if scheme == b"Basic " else salt + MARK
    line = scheme + token
    assert field(on("evil.example"), b"authorization", line) == line
