from __future__ import annotations

import pytest

from sandlot.build.dockerfile import Arg
from sandlot.build.variables import Scope, platform_arguments
from sandlot.errors import BuildError


def arg(*variables: tuple[str, str | None]) -> Arg:
    return Arg(line=1, text="ARG", variables=variables)


def test_replacement() -> None:
    scope = Scope(arguments={"a": "1", "empty": ""}, environment={"b": "x y"})
    for word, expected in {
        "$a": "1", "${a}b": "1b", '"$b"': "x y", "'$a'": "$a", "\\$a": "$a", "$none": "",
        "${none:-2}": "2", "${empty:-2}": "2", "${empty-2}": "", "${a:+3}": "3", "${b#x }": "y",
    }.items():  # fmt: skip
        assert scope.expand(word, 1) == expected, word
    assert scope.expand_words("$b z", 1) == ["x", "y", "z"]
    assert scope.expand_text("'$a' \"$b\"\n", 1) == "'1' \"x y\"\n"


def test_the_environment_counts_before_arguments() -> None:
    scope = Scope(arguments={"a": "argument"}).setting([("a", "environment")])
    assert scope.expand("$a", 1) == "environment"


def test_declarations() -> None:
    scope = Scope(given={"a": "given", "other": "x"}, known={"c": "known"})
    scope = scope.declare(arg(("a", "default"), ("b", "${a}!"), ("c", None), ("d", None)))
    assert scope.arguments == {"a": "given", "b": "given!", "c": "known"}
    assert scope.for_run() == {"a": "given", "b": "given!", "c": "known"}


def test_proxies_need_no_declaration_and_change_no_key() -> None:
    scope = Scope(given={"HTTPS_PROXY": "p", "secret": "s"})
    assert scope.for_run() == {"HTTPS_PROXY": "p"} and scope.for_key() == {}


def test_errors_tell_the_line() -> None:
    with pytest.raises(BuildError, match=r"line 7: .*must be set") as caught:
        Scope().expand("${a:?must be set}", 7)
    assert caught.value.line == 7
    with pytest.raises(BuildError):
        Scope().expand("${a", 7)


def test_platforms() -> None:
    made = platform_arguments("linux", "arm64", "v8")
    assert made["TARGETPLATFORM"] == made["BUILDPLATFORM"] == "linux/arm64/v8"
    assert made["TARGETARCH"] == "arm64" and made["BUILDVARIANT"] == "v8"
