"""When a check that fails is one too many."""

from __future__ import annotations

from sandlot.fleet.health import Judge, printable
from sandlot.fleet.models import HealthModel


def health(**values: object) -> HealthModel:
    return HealthModel.model_validate({"command": "true", **values})


def test_one_failure_counts_in_each_interval() -> None:
    judge = Judge(health(interval="5s", retries=2), began=100.0)
    assert [judge.failed(t) for t in (100.0, 100.1, 104.9, 105.0, 105.1, 109.0)] == [False] * 6
    assert judge.failed(110.0)


def test_nothing_counts_in_the_period_of_the_start() -> None:
    judge = Judge(health(interval="1s", retries=1, start_period="1m"), began=0.0)
    assert not any(judge.failed(float(t)) for t in range(60))
    assert judge.failed(60.0)


def test_it_is_looked_often_at_first_and_then_by_the_interval() -> None:
    judge = Judge(health(interval="1s"), began=0.0)
    assert [round(judge.pause(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_what_a_guest_says_is_harmless() -> None:
    assert printable(b"a\x1b[31mb\r\n\xffc\t") == "a?[31mb\n\ufffdc\t"
