from __future__ import annotations

import re

from sandlot.build.progress import BuildProgress


def test_lines_as_docker_writes_them() -> None:
    lines: list[str] = []
    progress = BuildProgress(lines.append)
    progress.warn("odd")
    progress.begin("[1/2] FROM demo")
    progress.done()
    progress.begin("[2/2] RUN x")
    progress.output("stdout", b"one\ntw")
    progress.output("stderr", b"10%\r20%\r\n")
    progress.output("stdout", b"o\nthree")
    progress.output("stdout", b" \x1b[31m")
    progress.finish_output()
    progress.cached()
    progress.failed()
    progress.say("by the way")
    plain = [re.sub(r"\d+\.\d+", "T", line) for line in lines]
    assert plain == [
        "warning: odd", "#1 [1/2] FROM demo", "#1 DONE Ts", "", "#2 [2/2] RUN x", "#2 T one",
        "#2 T 20%", "#2 T two", "#2 T three ?[31m", "#2 CACHED", "#2 ERROR after Ts",
        "#2 by the way",
    ]  # fmt: skip


def test_a_line_without_end_is_bounded() -> None:
    lines: list[str] = []
    progress = BuildProgress(lines.append)
    progress.begin("x")
    for _ in range(10):
        progress.output("stdout", b"x" * 50_000)
    progress.finish_output()
    assert len(lines) > 3 and max(map(len, lines)) < 1 << 17
