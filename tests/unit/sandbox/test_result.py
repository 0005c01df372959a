"""What running a program gives back."""

from __future__ import annotations

import pytest

from sandlot.errors import ProcessError
from sandlot.sandbox.result import ExecResult, failure_text


def result(exit_code: int = 0, signal: int | None = None, stderr: bytes = b"",
           out_of_memory: bool = False) -> ExecResult:  # fmt: skip
    return ExecResult(
        stdout=b"out\xff", stderr=stderr, exit_code=exit_code, signal=signal, duration=1.0,
        user_time=0.1, system_time=0.1, peak_memory=1, out_of_memory=out_of_memory,
    )  # fmt: skip


def test_success_is_returned() -> None:
    good = result()
    assert good.check("x") is good
    assert good.text == "out\N{REPLACEMENT CHARACTER}"


def test_failure_carries_everything() -> None:
    with pytest.raises(ProcessError) as caught:
        result(137, 9, b"bye").check("x")
    error = caught.value
    assert (error.exit_code, error.signal, error.stdout, error.stderr) == (
        137, 9, b"out\xff", b"bye",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failed", "text"),
    [
        (result(2), "x ended with status 2"),
        (result(2, stderr=b"one\ntwo\n\n"), "x ended with status 2: two"),
        (result(139, 11), "x was killed by signal 11"),
        (result(137, 9, out_of_memory=True), "x was killed: the sandbox ran out of memory"),
    ],
)
def test_failures_in_one_line(failed: ExecResult, text: str) -> None:
    assert failure_text("x", failed) == text
