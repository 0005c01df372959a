"""What running a program gives back, and its trouble."""

from __future__ import annotations

from dataclasses import dataclass

from sandlot.errors import ExecTimeout, ProcessError
from sandlot.guest.process import ExitStatus


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """A finished program.

    `stdout` and `stderr` are bytes; `exit_code` is 128 plus the signal for a killed process;
    times are in seconds, `peak_memory` in bytes.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    signal: int | None
    duration: float
    user_time: float
    system_time: float
    peak_memory: int
    out_of_memory: bool

    @property
    def text(self) -> str:
        """`stdout` as UTF-8 text; what is not UTF-8 is replaced."""
        return self.stdout.decode(errors="replace")

    def check(self, command: str) -> ExecResult:
        """This result, if the program succeeded.

        Raises:
            ProcessError: it did not; carries all of the result.
        """
        if self.exit_code == 0:
            return self
        raise ProcessError(
            failure_text(command, self), exit_code=self.exit_code, signal=self.signal,
            stdout=self.stdout, stderr=self.stderr,
        )  # fmt: skip


def failure_text(command: str, result: ExecResult) -> str:
    """One line that says how a program failed, with the end of what it said."""
    if result.out_of_memory:
        how = "was killed: the sandbox ran out of memory"
    elif result.signal is not None:
        how = f"was killed by signal {result.signal}"
    else:
        how = f"ended with status {result.exit_code}"
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    return f"{command} {how}" + (f": {lines[-1]}" if lines else "")


def finished(
    status: ExitStatus, stdout: bytes, stderr: bytes, duration: float, command: str,
    timeout: float | None,
) -> ExecResult:  # fmt: skip
    """The result of a process that has ended.

    Raises:
        ExecTimeout: it was ended for running too long.
    """
    if status.timed_out:
        raise ExecTimeout(
            f"{command} ran longer than {timeout:g} s and was killed", exit_code=124,
            signal=status.signal, stdout=stdout, stderr=stderr,
        )  # fmt: skip
    return ExecResult(
        stdout=stdout, stderr=stderr, exit_code=status.exit_code, signal=status.signal,
        duration=duration, user_time=status.user_time, system_time=status.system_time,
        peak_memory=status.peak_memory, out_of_memory=status.out_of_memory,
    )  # fmt: skip
