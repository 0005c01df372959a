from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sandlot.build.dockerfile import Run, parse_dockerfile
from sandlot.build.state import State, apply, words
from sandlot.build.variables import Scope
from sandlot.errors import BuildError
from sandlot.image.config import ImageConfig

BASE = ImageConfig(env={"PATH": "/bin"}, entrypoint=("/entry",), cmd=("/base",), working_dir="/srv")


def after(text: str, config: ImageConfig = BASE) -> State:
    state = State(key="k", image="base", config=config, scope=Scope(environment=config.env))
    for instruction in parse_dockerfile(f"FROM x\n{text}").stages[0].instructions:
        state = apply(state, instruction)
    return state


def config(text: str) -> ImageConfig:
    return after(text).config


def test_environment() -> None:
    made = config("ENV A=1 B=$A\nENV C=$A PATH=$PATH:/opt/bin")
    assert made.env == {"PATH": "/bin:/opt/bin", "A": "1", "B": "", "C": "1"}
    assert config("ARG X=5\nENV Y=$X").env["Y"] == "5"


def test_labels() -> None:
    assert config('LABEL a=1 "b c"="d e"\nLABEL a=2').labels == {"a": "2", "b c": "d e"}


def test_a_base_command_goes_with_its_entrypoint() -> None:
    assert config('ENTRYPOINT ["/new"]').cmd == ()
    assert config('CMD ["a"]\nENTRYPOINT ["/new"]').cmd == ("a",)
    assert config('CMD ["a"]').entrypoint == ("/entry",)
    assert config("ENTRYPOINT []").entrypoint == ()


def test_lines_for_the_shell() -> None:
    assert config("CMD echo $HOME").cmd == ("/bin/sh", "-c", "echo $HOME")
    made = after('SHELL ["/bin/bash", "-ec"]\nENTRYPOINT exec x')
    assert made.config.entrypoint == ("/bin/bash", "-ec", "exec x")
    run = parse_dockerfile("FROM x\nRUN a b").stages[0].instructions[0]
    assert isinstance(run, Run) and words(made, run) == ("/bin/bash", "-ec", "a b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WORKDIR /a", "/a"), ("WORKDIR a", "/srv/a"), ("WORKDIR a\nWORKDIR ../b/", "/srv/b"),
        ("WORKDIR ../../..", "/"), ("ENV D=/x\nWORKDIR $D/y", "/x/y"), ("WORKDIR //a", "/a"),
    ],
)  # fmt: skip
def test_working_folders(text: str, expected: str) -> None:
    assert config(text).working_dir == expected


def test_paths_of_targets() -> None:
    state = after("WORKDIR /w")
    for text, expected in {
        "a": "/w/a", "a/": "/w/a/", ".": "/w", "./": "/w/", "/": "/", "/a/../b/": "/b/", "..": "/",
    }.items():  # fmt: skip
        assert state.path(text) == expected, text


def test_ports_and_volumes() -> None:
    made = config('ENV P="80 81"\nEXPOSE $P 82/udp 90-92\nVOLUME ["/a"]\nVOLUME /b /a')
    assert set(made.exposed_ports) == {"80/tcp", "81/tcp", "82/udp", "90/tcp", "91/tcp", "92/tcp"}
    assert made.volumes == ("/a", "/b")
    for wrong in ("EXPOSE http", "EXPOSE 0", "EXPOSE 70000", "EXPOSE 80/http", "EXPOSE 9-8"):
        with pytest.raises(BuildError, match="line 2: EXPOSE"):
            config(wrong)


def test_health_and_signal() -> None:
    made = config(
        "STOPSIGNAL SIGINT\nHEALTHCHECK --interval=1m30s --timeout=1.5s --retries=2 CMD x"
    )
    expected: dict[str, Any] = {
        "Test": ["CMD-SHELL", "x"], "Interval": 90 * 10**9, "Timeout": 1_500_000_000, "Retries": 2,
    }  # fmt: skip
    assert made.stop_signal == "SIGINT" and made.healthcheck == expected
    assert config("HEALTHCHECK NONE").healthcheck == {"Test": ["NONE"]}
    for wrong in ("--interval=5", "--interval=s", "--retries=x"):
        with pytest.raises(BuildError):
            config(f"HEALTHCHECK {wrong} CMD x")


def test_keys() -> None:
    state = after("")
    assert state.next_key("a", {"x": 1}) == state.next_key("a", {"x": 1})
    assert state.next_key("a") != state.next_key("b")
    assert state.next_key("a") != replace(state, key="other").next_key("a")


def test_history() -> None:
    instruction = parse_dockerfile("FROM x\nUSER me").stages[0].instructions[0]
    made = after("").remember(instruction, layer=False)
    assert made.history == ({"created_by": "USER me", "empty_layer": True},)
