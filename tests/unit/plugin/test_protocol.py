"""What programs say, whatever they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.plugin.hooks import HOOKS
from sandlot.plugin.protocol import (
    LONGEST_LINE,
    MOST_PENDING,
    REMOTE,
    Answer,
    Breach,
    Conversation,
    Greeting,
    Said,
    line,
)

GREETING = {"protocol": 1, "name": "monitor", "version": "2", "hooks": ["on_exec", "on_stop"]}


def greeted() -> Conversation:
    talk = Conversation()
    assert talk.receive(line(GREETING)) == [Greeting("monitor", "2", ("on_exec", "on_stop"))]
    return talk


def test_the_hello_says_what_there_is() -> None:
    said = json.loads(Conversation.hello("box", "9.9"))
    assert said == {
        "hello": "sandlot", "protocol": 1, "version": "9.9", "sandbox": "box",
        "hooks": list(REMOTE),
    }  # fmt: skip
    assert set(HOOKS) - set(REMOTE) == {"on_terminal", "on_transfer"}


def test_answers_come_in_any_order_and_in_any_pieces() -> None:
    talk = greeted()
    numbers = [talk.ask("on_exec", {"argv": ["ls"]})[0] for _ in range(3)]
    said = b"".join([
        line({"id": numbers[2], "refuse": "no"}), line({"log": "hi"}), b"\n",
        line({"id": numbers[0], "change": {"user": "x"}}), line({"id": numbers[1]}),
    ])  # fmt: skip
    wanted = [
        Answer(numbers[2], refuse="no"), Said("hi"), Answer(numbers[0], change={"user": "x"}),
        Answer(numbers[1]),
    ]  # fmt: skip
    events = [
        event for place in range(len(said)) for event in talk.receive(said[place : place + 1])
    ]
    assert events == wanted


def test_an_answer_that_nobody_waits_for_is_dropped_once() -> None:
    talk = greeted()
    number, _ = talk.ask("on_exec", {})
    talk.forget(number)
    assert talk.receive(line({"id": number})) == []
    with pytest.raises(Breach, match="not asked"):
        talk.receive(line({"id": number}))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"hello\n", "not JSON"), (b"[1]\n", "not an object"), (b'{"a":NaN}\n', "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"), (line({**GREETING, "protocol": 2}), "protocol 2"),
        (line({**GREETING, "protocol": True}), "protocol True"), (line({"protocol": 1}), "list"),
        (line({**GREETING, "hooks": []}), "list"), (line({**GREETING, "hooks": "on_exec"}), "list"),
        (line({**GREETING, "hooks": ["on_transfer"]}), "no hook for programs"),
        (line({**GREETING, "name": 3}), "text"), (b"x" * (LONGEST_LINE + 2), "longer"),
        (b'{"log":"' + b"x" * LONGEST_LINE + b'"}\n', "longer"), (line({"log": None}), "text"),
    ],
)  # fmt: skip
def test_a_wrong_greeting_is_told(said: bytes, why: str) -> None:
    with pytest.raises(Breach, match=why):
        Conversation().receive(said)


@pytest.mark.parametrize(
    "said",
    [
        {}, {"id": 7}, {"id": "1"}, {"id": True}, {"id": 1, "refuse": "a", "change": {}},
        {"id": 1, "change": []}, {"id": 1, "refuse": 5}, GREETING,
    ],
)  # fmt: skip
def test_a_wrong_answer_is_told(said: dict[str, Any]) -> None:
    talk = greeted()
    talk.ask("on_exec", {})
    with pytest.raises(Breach):
        talk.receive(line(said))


def test_there_are_bounds() -> None:
    talk = greeted()
    with pytest.raises(ValueError, match="longer"):
        talk.ask("on_exec", {"argv": ["x" * LONGEST_LINE]})
    for _ in range(MOST_PENDING):
        talk.ask("on_exec", {})
    with pytest.raises(Breach, match="without an answer"):
        talk.ask("on_exec", {})


def test_what_it_says_is_fit_for_a_terminal() -> None:
    (said,) = Conversation().receive(line({"log": "\x1b[2J" + "x" * 9000}))
    assert isinstance(said, Said) and said.text.startswith("?[2J") and len(said.text) == 2000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
)


@given(
    st.lists(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()), max_size=8)
)
def test_anything_is_an_event_or_a_breach(lines: list[bytes]) -> None:
    talk = Conversation()
    try:
        for each in lines:
            for event in talk.receive(each + b"\n"):
                assert isinstance(event, Greeting | Answer | Said)
    except Breach:
        pass


@given(st.fixed_dictionaries(
    {"id": st.integers(0, 4)},
    optional={"refuse": json_values, "change": json_values, "error": json_values},
))  # fmt: skip
def test_answers_of_any_shape(said: dict[str, Any]) -> None:
    talk = greeted()
    for _ in range(3):
        talk.ask("on_exec", {})
    try:
        events = talk.receive(line(said))
    except Breach:
        return
    (answer,) = events
    assert isinstance(answer, Answer) and 1 <= answer.id <= 3
