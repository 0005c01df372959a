"""`${VARIABLES}` as compose files have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.fleet.variables import VariableError, interpolated, names_in

SET = {"A": "1", "EMPTY": "", "B": "two"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A-${B}", "1-two"),
        ("${X:-d}${X-e}", "de"),
        ("${EMPTY:-d}[${EMPTY-d}]", "d[]"),
        ("${A:+yes}${X:+no}${EMPTY+set}", "yesset"),
        ("${X:-${A}${Y:-$B}}", "1two"),
        ("$$A $${A}", "$A ${A}"),
        ("${X:-a:-b}", "a:-b"),
        ("${X}", ""),
    ],
)
def test_what_is_put_in(text: str, result: str) -> None:
    assert interpolated(text, SET) == result


@pytest.mark.parametrize("text", ["$", "a $ b", "${", "${A", "${1}", "${A!x}", "${}", "$-"])
def test_what_is_no_variable(text: str) -> None:
    with pytest.raises(VariableError):
        interpolated(text, SET)


def test_one_that_has_to_be_set_says_why() -> None:
    with pytest.raises(VariableError, match="KEY has to be set: ask 1"):
        interpolated("${KEY:?ask $A}", SET)
    assert interpolated("${A:?never}", SET) == "1"


def test_those_that_are_not_set_are_told() -> None:
    told: list[str] = []
    assert interpolated("$X ${Y} ${Z:-1} $A", SET, told.append) == "  1 1"
    assert told == ["X", "Y"]


def test_names() -> None:
    assert names_in("$A ${B:-${C}} $$D $${E} $$$F") == {"A", "B", "C", "F"}


@given(st.text(alphabet="$${}:-?+AB x", max_size=60))
def test_any_text_ends_in_text_or_the_error(text: str) -> None:
    try:
        assert isinstance(interpolated(text, SET), str)
    except VariableError:
        pass


@given(st.text(max_size=60))
def test_an_escaped_text_is_the_text(text: str) -> None:
    assert interpolated(text.replace("$", "$$"), {}) == text
