"""Questions that wait."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from sandlot.errors import ConfigError
from sandlot.network.flow import Decision, Flow
from sandlot.network.hooks import Answer, Hooks
from sandlot.network.questions import MOST_WAITING, Questions
from tests.unit.network.test_gateway import until

NO = Decision(False, "default deny", "no rule allows it", "allow x")


def flow(port: int) -> Flow:
    return Flow("tcp", ip_address("93.184.216.34"), port)


class Person:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked: list[Flow] = []
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.given_up = 0

    async def __call__(self, flow: Flow, decision: Decision) -> Answer:
        self.asked.append(flow)
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.given_up += 1
            raise


async def test_not_more_than_so_many_wait() -> None:
    person = Person()
    questions = Questions(person, 60)
    waiting = [asyncio.ensure_future(questions.put(n, flow(n), NO)) for n in range(MOST_WAITING)]
    await until(lambda: len(person.asked) == MOST_WAITING)
    answer, decision = await questions.put("more", flow(1000), NO)
    assert answer == "deny" and not decision.allowed and "other questions" in decision.reason
    assert decision.hint == NO.hint
    person.answer.set_result("once")
    assert {answer for answer, _ in await asyncio.gather(*waiting)} == {"once"}
    assert (await questions.put("more", flow(1000), NO))[1].allowed


async def test_the_same_question_is_asked_once() -> None:
    person = Person()
    questions = Questions(person, 60)
    waiting = [asyncio.ensure_future(questions.put("name", flow(0), NO)) for _ in range(100)]
    await until(lambda: bool(person.asked))
    person.answer.set_result("always")
    assert all(decision.allowed for _, decision in await asyncio.gather(*waiting))
    assert len(person.asked) == 1


async def test_nobody_answers() -> None:
    person = Person()
    answer, decision = await Questions(person, 0.05).put(1, flow(1), NO)
    assert answer == "deny" and "nobody answered within 0.05 s" in decision.reason
    assert person.given_up == 1


async def test_who_no_longer_asks_takes_the_question_back() -> None:
    person = Person()
    questions = Questions(person, 60)
    waiting = [asyncio.ensure_future(questions.put(1, flow(1), NO)) for _ in range(2)]
    await until(lambda: bool(person.asked))
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    await asyncio.sleep(0)
    given_up = person.given_up
    assert given_up == 0  # the other one still wants to know
    waiting[1].cancel()
    await asyncio.wait({waiting[1]})
    await until(lambda: person.given_up == 1)


async def test_a_hook_that_fails_or_says_something_else_denies() -> None:
    def broken(flow: Flow, decision: Decision) -> Answer:
        raise RuntimeError("no")

    answer, decision = await Questions(broken, 60).put(1, flow(1), NO)
    assert answer == "deny" and "asking failed" in decision.reason
    said = await Questions(lambda flow, decision: "maybe", 60).put(1, flow(1), NO)  # type: ignore[arg-type,return-value]
    assert said == ("deny", NO)


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan"), True])
def test_times_that_are_none(wrong: float) -> None:
    with pytest.raises(ConfigError, match="ask_timeout"):
        Hooks(ask_timeout=wrong)
