"""What a build tells while it runs, as lines like those of `docker build --progress=plain`."""

from __future__ import annotations

import time
from collections.abc import Callable

Tell = Callable[[str], object]


class BuildProgress:
    """Numbers the steps and writes their output, each line with the seconds since its step began.

    progress = BuildProgress(print)
    progress.begin("[1/2] FROM demo")
    progress.cached()
    """

    def __init__(self, tell: Tell = lambda line: None) -> None:
        self._tell = tell
        self._number = 0
        self._began = 0.0
        self._rest: dict[str, bytes] = {}

    def begin(self, title: str) -> None:
        """A step begins."""
        self._number += 1
        self._began = time.monotonic()
        if self._number > 1:
            self._tell("")
        self._tell(f"#{self._number} {_fit(title)}")

    def output(self, stream: str, data: bytes) -> None:
        """A piece of what a command says; whole lines are written."""
        *lines, rest = (self._rest.pop(stream, b"") + data).split(b"\n")
        if len(rest) > 1 << 16:
            lines, rest = [*lines, rest], b""
        self._rest[stream] = rest
        for line in lines:
            self._line(line)

    def finish_output(self) -> None:
        """Write what has come without an end of line."""
        for rest in self._rest.values():
            if rest:
                self._line(rest)
        self._rest.clear()

    def say(self, text: str) -> None:
        """A line of our own."""
        self._tell(f"#{self._number} {_fit(text)}")

    def warn(self, text: str) -> None:
        """Something that may not be meant."""
        self._tell(f"warning: {_fit(text)}")

    def cached(self) -> None:
        """The step was done before."""
        self._tell(f"#{self._number} CACHED")

    def done(self) -> None:
        """The step has ended well."""
        self._tell(f"#{self._number} DONE {time.monotonic() - self._began:.1f}s")

    def failed(self) -> None:
        """The step has failed; why is said by the error."""
        self._tell(f"#{self._number} ERROR after {time.monotonic() - self._began:.1f}s")

    def _line(self, line: bytes) -> None:
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        self._tell(f"#{self._number} {time.monotonic() - self._began:.3f} {_fit(text, 1 << 16)}")


def _fit(text: str, limit: int = 400) -> str:
    """Without control characters: commands come from strangers too."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text[:limit])
