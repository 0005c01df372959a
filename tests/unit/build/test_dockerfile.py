from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.build.dockerfile import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Run,
    Shell,
    User,
    Volume,
    Workdir,
    parse_dockerfile,
)
from sandlot.errors import BuildError


def one(text: str) -> Any:
    """The only instruction after FROM."""
    (instruction,) = parse_dockerfile(f"FROM x\n{text}\n").stages[0].instructions
    return instruction


def test_stages_and_arguments() -> None:
    made = parse_dockerfile(
        "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=linux/amd64 a:$V AS Build\nRUN x\nFROM build\n"
    )
    assert [(s.base.image, s.name, s.base.line) for s in made.stages] == [
        ("a:$V", "build", 3),
        ("build", "", 5),
    ]
    assert made.arguments[0].variables == (("V", "1"),)
    assert made.stages[0].base.platform == "linux/amd64"


def test_run() -> None:
    assert one("RUN a && \\\n  b").words == ("a &&   b",) and one("RUN a").shell
    exact = one('RUN ["a", "b c"]')
    assert isinstance(exact, Run) and exact.words == ("a", "b c") and not exact.shell
    assert one("RUN --network=none a").network == "none"
    script = one("RUN <<-EOF\n\t\techo $x\n\tEOF")
    assert script.heredocs[0].content == "echo $x\n" and script.heredocs[0].expand
    assert not one("RUN <<'EOF'\necho $x\nEOF").heredocs[0].expand


def test_copy() -> None:
    made = one("COPY --from=build --chown=1:2 --chmod=755 --link a b /dir/")
    assert isinstance(made, Copy)
    assert made.sources == ("a", "b") and made.target == "/dir/" and not made.unpack
    assert (made.source_image, made.chown, made.chmod) == ("build", "1:2", "755")
    assert one('COPY ["a b", "/c d"]').sources == ("a b",)
    assert one("ADD a.tar /x").unpack
    text = one("COPY <<one <<two a /dir/\n1\none\n2\ntwo")
    assert text.sources == ("a",) and [h.content for h in text.heredocs] == ["1\n", "2\n"]


def test_the_others() -> None:
    kinds: dict[str, type[Instruction]] = {
        "ENV A=1 B='x y'": Env, "ENV A b c": Env, "ARG A": Arg, "LABEL a=b": Label, "MAINTAINER me": Label,
        "CMD a": Cmd, 'CMD ["a"]': Cmd, "ENTRYPOINT []": Entrypoint, 'SHELL ["a","-c"]': Shell,
        "WORKDIR /a b": Workdir, "USER a:b": User, "EXPOSE 80 81/udp": Expose, 'VOLUME ["/a"]': Volume,
        "HEALTHCHECK NONE": Healthcheck,
    }  # fmt: skip
    for text, kind in kinds.items():
        assert type(one(text)) is kind, text
    assert one("ENV A b c").variables == (("A", "b c"),)
    assert one("MAINTAINER me").labels == (("maintainer", "me"),)
    health = one("HEALTHCHECK --interval=5s --retries=3 CMD curl x")
    assert health.test == ("CMD-SHELL", "curl x") and health.options == (
        ("interval", "5s"),
        ("retries", "3"),
    )
    assert one('HEALTHCHECK CMD ["a"]').test == ("CMD", "a")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "has no FROM"),
        ("RUN x", 1, "before the first FROM"),
        ("FROM x\nBOGUS y", 2, "BOGUS"),
        ("FROM x\n\nONBUILD RUN y", 3, "ONBUILD is not supported"),
        ("FROM x\nRUN --mount=type=cache,target=/x y", 2, "--mount is not supported"),
        ("FROM x\nRUN --network=host y", 2, "--network=host is not supported"),
        ("FROM x\nRUN <<EOF\nno end", 2, "heredoc"),
        ("FROM x\nRUN", 2, "needs an argument"),
        ("FROM x\nCOPY a", 2, "where to"),
        ("FROM x\nCOPY --parents a b", 2, "--parents is not supported"),
        ("FROM x\nCOPY --chown a b", 2, "needs a value"),
        ("FROM x\nCOPY --chown=1 --chown=2 a b", 2, "given twice"),
        ("FROM x\nADD --from=y a b", 2, "--from is not supported"),
        ("FROM x\nADD https://files.example.com/a /a", 2, "of an address is not supported"),
        ("FROM x\nADD git@files.example.com:a/b.git /a", 2, "of an address is not supported"),
        ("FROM x\nSHELL /bin/sh", 2, "JSON"),
        ("FROM x\nENV A", 2, "two arguments"),
        ("FROM x\nARG 1A=2", 2, "cannot name a variable"),
        ("FROM x\nHEALTHCHECK maybe", 2, "takes CMD"),
        ("FROM a b c d", 1, "takes an image"),
        ("FROM a AS 1", 1, "cannot name a stage"),
        ("FROM a AS b\nFROM c AS B", 2, "two stages are named 'b'"),
        ("# escape=x\nFROM a", 1, "escape"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse_dockerfile(text)
    assert caught.value.line == line and message in caught.value.message
    assert line is None or caught.value.message.startswith(f"line {line}: ")


WORDS = ["FROM x", "RUN", "COPY", "ADD", "ENV", "<<EOF", "EOF", "\\", "\n", " ", "--from=a", "[", '"a"', "]", "a=b", "$x", "#"]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join) | st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_dockerfile(text)
    except BuildError:
        pass
