"""Sizes, durations and names as people write them."""

from __future__ import annotations

import pytest

from sandlot.errors import ConfigError
from sandlot.sandbox.sizes import (
    check_hostname,
    check_name,
    check_range,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1), ("512M", 512 << 20), ("4GiB", 4 << 30), ("4gb", 4 << 30), ("1.5K", 1536),
        (" 7 k ", 7168), ("1T", 1 << 40), ("100", 100), ("9B", 9),
    ],
)  # fmt: skip
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", [0, -1, "", "M", "-1G", "1X", "1G2", "0.0001K", "nan", "1e9", True]
)
def test_what_is_no_size_is_named(text: int | str) -> None:
    with pytest.raises(ConfigError, match=r"memory .* is not a size") as caught:
        parse_size(text, "memory")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), (2, 2.0), (0.5, 0.5), ("250ms", 0.25), ("1.5s", 1.5), ("10m", 600.0),
     ("2h", 7200.0), ("1d", 86400.0), ("30", 30.0)],
)  # fmt: skip
def test_durations(text: float | str | None, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", 0, -1, "0s", "1w", True, float("inf"), float("nan"), "9999999999"]
)
def test_what_is_no_duration_is_named(text: float | str) -> None:
    with pytest.raises(ConfigError, match=r"timeout .* is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("name", ["a", "0", "web-1", "a.b_c", "x" * 63])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-a", ".a", "a/b", "a b", "x" * 64, "ä", "..", "a\n"],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "a.example", "x" * 63])
def test_host_names(name: str) -> None:
    assert check_hostname(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "x" * 64, "a\n", "a\0"])
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(ConfigError):
        check_hostname(name)


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("512", "disk 512 means 512 bytes, and the least is 64M", "did you mean 512M?"),
        ("1", "disk 1 means 1 byte, and", "did you mean 1G?"),
        (100000000000, "100000000000 bytes, and the most is 64G", "use for example 512M or 4G"),
        ("5K", "disk 5K is too small: the least is 64M", "use 64M to 64G"),
        ("100G", "disk 100G is too large: the most is 64G", "use 64M to 64G"),
    ],
)
def test_the_mistake_in_a_size_is_named(text: int | str, says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_range(text, parse_size(text), "disk", 64 << 20, 64 << 30)
    assert says in caught.value.message and caught.value.hint == hint
    check_range("64M", 64 << 20, "disk", 64 << 20, 64 << 30)
