from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.image.reference import Reference, nearest

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

# What Docker's own `ParseNormalizedNamed` makes of each, with `TagNameOnly` behind it.
TABLE = [
    ("python", "docker.io/library/python:latest", "python:latest"),
    ("python:3.12", "docker.io/library/python:3.12", "python:3.12"),
    ("team/app", "docker.io/team/app:latest", "team/app:latest"),
    ("team/deep/app:1", "docker.io/team/deep/app:1", "team/deep/app:1"),
    ("docker.io/python", "docker.io/library/python:latest", "python:latest"),
    ("index.docker.io/python", "docker.io/library/python:latest", "python:latest"),
    ("docker.io/library/python", "docker.io/library/python:latest", "python:latest"),
    ("library/python", "docker.io/library/python:latest", "python:latest"),
    ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
    ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
    ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
    ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
    ("registry.example/x", "registry.example/x:latest", "registry.example/x:latest"),
    ("Registry/x", "Registry/x:latest", "Registry/x:latest"),
    ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
    ("127.0.0.1/x", "127.0.0.1/x:latest", "127.0.0.1/x:latest"),
    (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}", f"python@{DIGEST}"),
    (f"a/b:1@{DIGEST}", f"docker.io/a/b:1@{DIGEST}", f"a/b:1@{DIGEST}"),
    ("a--b__c.d:V_1.2-3", "docker.io/library/a--b__c.d:V_1.2-3", "a--b__c.d:V_1.2-3"),
    ("docker.io/foo.bar/x", "docker.io/foo.bar/x:latest", "docker.io/foo.bar/x:latest"),
]


@pytest.mark.parametrize(("text", "normal", "familiar"), TABLE)
def test_as_docker_reads_them(text: str, normal: str, familiar: str) -> None:
    ref = Reference.parse(text)
    assert (str(ref), ref.familiar) == (normal, familiar)
    assert Reference.parse(normal) == ref == Reference.parse(familiar)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "@", "/x", "x/", "a//b", "UPPER", "a/UPPER", "x:", "x:-a", "x:" + "t" * 129, "a b",
        "a\n", "ä", "a___b", ".a", "a.", "-a", "x@", "x@sha256:12", "x@md5:" + HEX, HEX,
        "x@sha512:" + HEX * 2, "-.example/x", "localhost:port/x", "a" * 256, "../x", "a/../b", "a\0",
        "http://x/y", "a:b:c", "localhost:123456/x", "a_-b", "a/b@c:1",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Reference.parse(text)
    assert caught.value.hint and "\n" not in caught.value.message


def test_upper_case_is_explained() -> None:
    with pytest.raises(ConfigError, match="lower case"):
        Reference.parse("Python")


def test_with_digest() -> None:
    assert Reference.parse("x:1").with_digest(DIGEST).familiar == f"x@{DIGEST}"


@given(st.text(alphabet="aB0.:/@-_[]lochst ", max_size=40) | st.text(max_size=40))
def test_whatever_parses_has_a_normal_form(text: str) -> None:
    try:
        ref = Reference.parse(text)
    except ConfigError:
        return
    assert Reference.parse(str(ref)) == ref
    assert Reference.parse(ref.familiar) == ref
    assert ref.tag or ref.digest


part = st.from_regex(r"\A[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*\Z").filter(lambda s: len(s) < 40)


@given(
    st.sampled_from(["localhost", "localhost:5000", "r.example", "r.example:1"]),
    st.lists(part, min_size=1, max_size=4),
    st.from_regex(r"\A[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}\Z"),
)
def test_parts_come_back(registry: str, parts: list[str], tag: str) -> None:
    repository = "/".join(parts)
    ref = Reference.parse(f"{registry}/{repository}:{tag}")
    assert ref == Reference(registry, repository, tag)


@pytest.mark.parametrize(
    ("wanted", "others", "expected"),
    [
        ("pyhton:3.12", ["python:3.11", "python:3.12"], "python:3.12"),
        ("python:3.13", ["python:3.11", "demo"], "python:3.11"),
        ("dmeo", ["demo"], "demo:latest"),
        ("app", ["registry.example/team/app:1"], "registry.example/team/app:1"),
        ("alpine", ["python:3.12", "demo"], None),
        ("node", ["demo"], None),
        ("registry.example.com/team/web:1.0.0", ["registry.example.com/team/app:1.0.0"], None),
        ("x", [], None),
    ],
)
def test_what_was_perhaps_meant(wanted: str, others: list[str], expected: str | None) -> None:
    found = nearest(Reference.parse(wanted), map(Reference.parse, others))
    assert (found.familiar if found else None) == expected
