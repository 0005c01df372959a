"""Sizes, durations and names as people write them."""

from __future__ import annotations

import pytest

from sandlot.errors import ConfigError
from sandlot.sandbox.sizes import check_hostname, check_name, parse_duration, parse_size


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
