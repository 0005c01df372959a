"""`Recorder`: sessions at a terminal, as files that asciinema plays."""

from __future__ import annotations

import codecs
import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import TextIO

from sandlot.errors import ConfigError
from sandlot.plugin.hooks import ExecContext, ExecEndContext, StopContext, TerminalContext

DEFAULT_SIZE = 256 << 20


class Recorder:
    """Writes what programs with a terminal show, one asciicast (version 2) for each.

        Sandbox.create(image="demo", plugins=[Recorder("recordings")])

    Jobs are not recorded: their output is in their log.

    Args:
        folder: where the files `SANDBOX-TIME-ID.cast` are made.
        record_input: also what is typed, passwords too.
        max_bytes: of one file; what comes after that is left out, and the file says so.
    """

    name = "recorder"

    def __init__(
        self, folder: str | os.PathLike[str], *, record_input: bool = False,
        max_bytes: int = DEFAULT_SIZE,
    ) -> None:  # fmt: skip
        self.folder = Path(folder).absolute()
        self._input, self._most = record_input, max_bytes
        self._open: dict[tuple[str, int], _Recording] = {}

    @classmethod
    def from_argument(cls, argument: str, folder: Path) -> Recorder:
        """`recorder=FOLDER`."""
        if not argument:
            raise ConfigError("recorder needs a folder", hint="use recorder=recordings")
        return cls(folder / argument)

    def on_exec(self, ctx: ExecContext) -> None:
        if ctx.tty is not None and not ctx.detached:
            self._open[ctx.sandbox, ctx.id] = _Recording(self.folder, ctx, self._most)

    def on_terminal(self, ctx: TerminalContext) -> None:
        recording = self._open.get((ctx.sandbox, ctx.id))
        if recording is None:
            return
        if ctx.kind == "resize":
            recording.note("r", f"{ctx.columns}x{ctx.rows}")
        elif ctx.kind == "output" or self._input:
            recording.bytes("o" if ctx.kind == "output" else "i", ctx.data)

    def on_exec_end(self, ctx: ExecEndContext) -> None:
        if recording := self._open.pop((ctx.sandbox, ctx.id), None):
            recording.close()

    def on_stop(self, ctx: StopContext) -> None:
        for key in [key for key in self._open if key[0] == ctx.sandbox]:
            self._open.pop(key).close()


class _Recording:
    def __init__(self, folder: Path, ctx: ExecContext, most: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        assert ctx.tty is not None
        sandbox = re.sub(r"[^\w.-]", "_", ctx.sandbox)
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._file = self._make(folder, f"{sandbox}-{moment}-{ctx.id}")
        self._began = time.monotonic()
        self._left = most
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {code: decoder("replace") for code in "io"}
        head = {
            "version": 2, "width": ctx.tty[1], "height": ctx.tty[0], "timestamp": int(time.time()),
            "command": shlex.join(ctx.argv), "title": f"{ctx.sandbox}: {shlex.join(ctx.argv)[:60]}",
            "env": {"TERM": ctx.env.get("TERM", "xterm")},
        }  # fmt: skip
        self._file.write(json.dumps(head) + "\n")

    @staticmethod
    def _make(folder: Path, name: str) -> TextIO:
        for number in range(1000):
            path = folder / (f"{name}-{number}.cast" if number else f"{name}.cast")
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            return os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)
        raise FileExistsError(str(folder / name))

    def bytes(self, code: str, data: bytes) -> None:
        if text := self._decoders[code].decode(data):
            self.note(code, text)

    def note(self, code: str, text: str) -> None:
        if self._left <= 0:
            return
        line = json.dumps([round(time.monotonic() - self._began, 6), code, text]) + "\n"
        self._left -= len(line)
        if self._left <= 0:
            line = json.dumps([round(time.monotonic() - self._began, 6), "m", "cut here"]) + "\n"
        self._file.write(line)

    def close(self) -> None:
        if rest := self._decoders["o"].decode(b"", final=True):
            self.note("o", rest)
        self._file.close()
