from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.image.registry import headers
from sandlot.image.registry.headers import (
    MAX_CHALLENGES,
    Challenge,
    RateLimit,
    content_range,
    media_type,
    next_link,
    parse_challenges,
    rate_limit,
    retry_after,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="x"', (Challenge("basic", {"realm": "x"}),)),
        ('BASIC REALM = "x"', (Challenge("basic", {"realm": "x"}),)),
        ("Basic realm=x", (Challenge("basic", {"realm": "x"}),)),
        (
            'Bearer realm="https://auth.example.com/t?a=b",service="s",scope="repository:a/b:pull,push"',
            (
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.example.com/t?a=b",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                    },
                ),
            ),
        ),
        (
            'Bearer realm="r" , service = s ,, Basic realm="a \\"quoted\\" word", charset="UTF-8"',
            (
                Challenge("bearer", {"realm": "r", "service": "s"}),
                Challenge("basic", {"realm": 'a "quoted" word', "charset": "UTF-8"}),
            ),
        ),
        ("Negotiate, Basic realm=x", (Challenge("negotiate"), Challenge("basic", {"realm": "x"}))),
        ("Negotiate YWJj==, Basic realm=x", (Challenge("negotiate"), Challenge("basic", {"realm": "x"}))),
        ('Bearer realm="unclosed', (Challenge("bearer"),)),
        ("=garbage", ()),
    ],
)  # fmt: skip
def test_challenges(value: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(value) == expected


def test_challenges_are_bounded() -> None:
    assert len(parse_challenges("Basic realm=x, " * 5000)) == MAX_CHALLENGES


@given(st.text() | st.text(alphabet='Basic Bearer="\\,realm \t', max_size=300))
def test_any_challenge_is_read(value: str) -> None:
    for challenge in parse_challenges(value):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.text(st.characters(codec="latin-1", exclude_categories=["C"])),
        max_size=5,
    )
)
def test_quoted_parameters_come_back(parameters: dict[str, str]) -> None:
    quoted = [
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in parameters.items()
    ]
    assert parse_challenges("Bearer " + ",".join(quoted)) == (Challenge("bearer", parameters),)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('</v2/a/tags/list?last=b&n=5>; rel="next"', "/v2/a/tags/list?last=b&n=5"),
        ("<x>; rel=next", "x"),
        ('<a>; rel="prev", <b>; REL="next last"', "b"),
        ('<a>; rel="nextish"', None),
        ("", None),
        ("next", None),
    ],
)
def test_links(value: str, expected: str | None) -> None:
    assert next_link(value) == expected


def test_retry_after() -> None:
    assert retry_after("120", 0) == 120
    assert retry_after(" 0 ", 0) == 0
    assert retry_after("99999999999", 0) == headers.MAX_RETRY_AFTER
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1445412480 - 30) == 30
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1445412480 + 30) == 0
    for wrong in ("", "-1", "soon", "1.5", "Wed, 99 Oct 2015", "Wed, 21 Oct 99999 07:28:00 GMT"):
        assert retry_after(wrong, 0) is None


def test_rate_limits() -> None:
    assert rate_limit("100;w=21600", "0;w=21600") == RateLimit(100, 0, 21600)
    assert rate_limit("", "5") == RateLimit(None, 5)
    assert rate_limit("100, 100;window=60", "") == RateLimit(100, None)
    assert rate_limit("", "") is None
    assert rate_limit("many", "few") is None


def test_ranges() -> None:
    assert content_range("bytes 5-9/10") == (5, 9, 10)
    assert content_range("bytes 5-9/*") == (5, 9, None)
    for wrong in ("", "bytes 9-5/10", "bytes */10", "items 0-1/2", "bytes -1-2/3"):
        assert content_range(wrong) is None


def test_media_types() -> None:
    assert media_type("Application/JSON; charset=utf-8") == "application/json"


@given(st.text())
def test_any_text_is_read(value: str) -> None:
    next_link(value)
    retry_after(value, 0)
    rate_limit(value, value)
    content_range(value)
    media_type(value)
