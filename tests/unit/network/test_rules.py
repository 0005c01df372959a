"""Rules as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.network.rules import Rule, Target, parse_rule


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("api.example.com", "api.example.com"),
        (" API.Example.com. ", "api.example.com"),
        ("api.example.com:443", "api.example.com:443"),
        ("api.example.com:443/UDP", "api.example.com:443/udp"),
        ("*.example.com:8000-8999/tcp", "*.example.com:8000-8999/tcp"),
        ("*.com", "*.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*", "*"),
        ("*:443", "*:443"),
        ("*:*", "*"),
        ("a.com:1-65535", "a.com"),
        ("host", "host"),
        ("Host:8080", "host:8080"),
        ("host.", "host"),
        ("\uff48ost:1", "host:1"),
        ("HOST.Sandlot.internal.", "host"),
        ("host.sandlot.internal:8080", "host:8080"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4/32", "1.2.3.4"),
        ("1.2.3.4:80-90", "1.2.3.4:80-90"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
        ("10.0.0.0/8/udp", "10.0.0.0/8/udp"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:80", "[::1]:80"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("[2001:db8::/32]:443/udp", "[2001:db8::/32]:443/udp"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("[::ffff:a00:1]:80", "10.0.0.1:80"),
        ("a_b.example", "a_b.example"),
    ],
)
def test_spellings(text: str, canonical: str) -> None:
    rule = parse_rule(text)
    assert str(rule) == canonical
    assert parse_rule(canonical) == rule


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "is no rule", "use NAME"),
        ("   ", "is no rule", "use NAME"),
        ("a" * 600, "is no rule", "use NAME"),
        ("a.com\n", "", ""),
        ("a.com\nb.com", "is no rule", "use NAME"),
        ("https://api.example.com/v1", "is a URL", "use api.example.com:443"),
        ("http://u:p@api.example.com:8080/x", "is a URL", "use api.example.com:8080"),
        ("tcp://1.2.3.4:80", "is a URL", "use 1.2.3.4:80/tcp"),
        ("udp://1.1.1.1", "is a URL", "use 1.1.1.1/udp"),
        ("https://", "is a URL", "use NAME"),
        ("api.example.com:https", "'https'", "use :443"),
        ("api.example.com:", "''", "use :443"),
        ("api.example.com:80,443", "'80,443'", "one rule for each port"),
        ("api.example.com:0", "'0'", "from 1 to 65535"),
        ("api.example.com:65536", "'65536'", "from 1 to 65535"),
        ("api.example.com:90-80", "'90-80'", "ascending"),
        ("api.example.com:٣", "'٣'", "use :443"),
        ("10.0.0.1/8", "bits set", "use 10.0.0.0/8"),
        ("2001:db8::1/32", "bits set", "use 2001:db8::/32"),
        ("10.0.0.0/33", "no address range", "use 10.0.0.0/8"),
        ("10.0.0.0/8/8", "no address range", "use 10.0.0.0/8"),
        ("example.com/24", "no address range", "use 10.0.0.0/8"),
        ("[::1", "brackets", "[2001:db8::1]:443"),
        ("[::1]80", "brackets", "[2001:db8::1]:443"),
        ("[1.2.3.4]:80", "brackets", "[2001:db8::1]:443"),
        ("[example.com]:80", "brackets", "[2001:db8::1]:443"),
        ("fe80::1%eth0", "zone", "leave the %"),
        ("1:2:3", "neither", "use NAME"),
        ("api.*.com", "`*`", "*.SUFFIX"),
        ("*example.com", "`*`", "*.SUFFIX"),
        ("**.example.com", "`*`", "*.SUFFIX"),
        ("*.", "empty", "use NAME"),
        ("a..b", "empty part", "use NAME"),
        ("127.1", "neither a name nor a plain address", "use 127.0.0.1"),
        ("0x7f.1", "neither a name nor a plain address", "use 127.0.0.1"),
        ("2130706433:80", "neither a name nor a plain address", "use 127.0.0.1"),
        ("0177.0.0.1", "neither a name nor a plain address", "use 127.0.0.1"),
        ("1.2.3.400", "neither a name nor a plain address", "four decimal numbers"),
        ("*.1", "neither a name nor a plain address", "four decimal numbers"),
        ("*.10.0.0.1", "neither a name nor a plain address", "four decimal numbers"),
        ("localhost:80", "the sandbox itself", "use host"),
        ("x.localhost", "the sandbox itself", "use host"),
        ("faß.de", "names no host", "use NAME"),
    ],
)  # fmt: skip
def test_wrong_rules_say_what_to_write(text: str, said: str, hint: str) -> None:
    if not said:
        assert parse_rule(text)  # what a line of a file ends with is no part of the rule
        return
    with pytest.raises(ConfigError) as caught:
        parse_rule(text)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert text[:64] == "" or repr(text)[:40].strip("'") in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("value", [None, 443, b"a.com", ["a.com"]])
def test_a_rule_is_text(value: object) -> None:
    with pytest.raises(ConfigError, match="not text"):
        parse_rule(value)  # type: ignore[arg-type]


def test_what_a_rule_holds() -> None:
    assert parse_rule("*.a.com:1-2/udp") == Rule(Target.SUFFIX, "a.com", None, 1, 2, "udp")
    assert parse_rule("host").target is Target.HOST
    assert parse_rule("*").target is Target.ANY


@given(st.text(max_size=80) | st.text("[]:/*.-%0123456789abcdefx", max_size=40))
def test_any_text_is_a_rule_or_one_clear_error(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ConfigError as error:
        assert error.hint
        return
    assert parse_rule(str(rule)) == rule
