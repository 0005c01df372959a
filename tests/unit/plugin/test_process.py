"""Programs as plugins: the examples, and programs that die, hang, lie and come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandlot import ConfigError, ExecContext, ExecEndContext, PluginFailed, PluginProcess, Refuse
from sandlot.plugin import process as module
from sandlot.plugin.chain import Chain
from sandlot.plugin.process import ProcessPlugin

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins"
EXEC = ExecContext(sandbox="box", id=1, argv=("ls",), env={"A": "1"})

PROGRAM = """
import json, sys, time, os
hooks = {hooks!r}
def send(**said):
    sys.stdout.write(json.dumps(said) + "\\n"); sys.stdout.flush()
for line in sys.stdin:
    said = json.loads(line)
    if "hello" in said:
        send(protocol=1, name="it", version="1", hooks=hooks)
        continue
    id, context = said["id"], said["context"]
    word = context["argv"][0]
{body}
"""


def program(body: str, hooks: tuple[str, ...] = ("on_exec",)) -> list[str]:
    """A program whose `body` answers `id`, about the command whose first word is `word`."""
    inside = "\n".join("    " + each for each in body.strip().splitlines())
    return [sys.executable, "-c", PROGRAM.format(hooks=list(hooks), body=inside)]


@contextlib.asynccontextmanager
async def running(command: Any, **options: Any) -> AsyncIterator[tuple[Chain, Any, list[str]]]:
    reports: list[str] = []
    plugin = ProcessPlugin(
        PluginProcess(command, **{"timeout": 60, "start_timeout": 60, **options})
    )
    await plugin.begin("box", reports.append)
    try:
        yield Chain("box", [plugin], lambda *told: reports.append(told[2])), plugin, reports
    finally:
        await plugin.end()


def asked(word: str) -> ExecContext:
    return ExecContext(sandbox="box", id=1, argv=(word,))


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "name"),
    [(["node", str(EXAMPLES / "monitor.js")], "monitor"),
     ([sys.executable, str(EXAMPLES / "monitor.py")], "monitor-py")],
)  # fmt: skip
async def test_the_examples(command: list[str], name: str) -> None:
    async with running(command) as (chain, plugin, reports):
        assert (plugin.name, plugin.version) == (name, "1.0") and "on_exec" in plugin.wanted
        assert (await chain.ask(EXEC)).env == {"A": "1", "MONITORED": "1"}
        with pytest.raises(Refuse) as caught:
            await chain.ask(asked("shutdown"))
        assert (caught.value.plugin, caught.value.reason) == (name, "this stays on")
    assert not reports


async def test_many_at_once_are_answered_each_with_its_own() -> None:
    body = 'send(id=id, change={"argv": [word, word]})'
    async with running(program(body)) as (chain, _, _reports):
        made = await asyncio.gather(*(chain.ask(asked(f"w{n}")) for n in range(300)))
    assert [each.argv for each in made] == [(f"w{n}", f"w{n}") for n in range(300)]


async def test_answers_may_come_in_another_order() -> None:
    body = """
if word == "first":
    kept = id
else:
    send(id=id)
    send(id=kept, refuse="late")
"""
    async with running(program(body)) as (chain, _, _reports):
        first = asyncio.ensure_future(chain.ask(asked("first")))
        await asyncio.sleep(0)
        await chain.ask(asked("second"))
        with pytest.raises(Refuse, match="late"):
            await first


BAD = """
if word == "die": os._exit(3)
elif word == "hang": pass
elif word == "lie": send(id=id + 1000)
elif word == "noise": print("what is this"); sys.stdout.flush()
elif word == "error": send(id=id, error="a bug")
elif word == "change": send(id=id, change={"sandbox": "x"})
else: send(id=id)
"""


@pytest.mark.parametrize("word", ["die", "lie", "noise", "error", "change", "hang"])
async def test_it_fails_closed_or_open_as_declared_and_comes_back(word: str) -> None:
    timeout = 1.0 if word == "hang" else 60.0
    async with running(program(BAD), timeout=timeout) as (chain, plugin, reports):
        with pytest.raises(PluginFailed) as caught:
            await chain.ask(asked(word))
        assert caught.value.plugin == "it" and reports
        plugin.process.timeout = 60.0
        assert (await chain.ask(asked("fine"))).argv == ("fine",)
    async with running(program(BAD), on_failure="open", timeout=timeout) as (
        chain,
        plugin,
        reports,
    ):
        assert (await chain.ask(asked(word))).argv == (word,)
        assert any("left out of on_exec" in report for report in reports)
        if word in ("die", "lie", "noise"):
            await until(lambda: plugin.restarts == 1)


async def test_one_that_hangs_again_and_again_is_started_anew() -> None:
    async with running(program(BAD), timeout=0.2) as (chain, plugin, reports):
        for _ in range(module.HANGS_AFTER):
            with pytest.raises(PluginFailed, match="no answer"):
                await chain.ask(asked("hang"))
        await until(lambda: plugin.restarts == 1)
        assert any("hangs" in report for report in reports)


async def test_one_that_always_dies_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(module, "MOST_RESTARTS", 2)
    async with running(program(BAD)) as (chain, plugin, reports):
        for _ in range(3):
            with pytest.raises(PluginFailed):
                await chain.ask(asked("die"))
        await until(lambda: any("in a row" in report for report in reports))
        with pytest.raises(PluginFailed, match="in a row"):
            await chain.ask(asked("fine"))
        assert plugin.restarts == 2


async def test_one_that_does_not_read_is_bounded_in_time() -> None:
    stuck = [sys.executable, "-c", (
        "import sys, time; sys.stdin.readline();"
        'print(\'{"protocol": 1, "name": "it", "hooks": ["on_exec"]}\', flush=True); time.sleep(600)'
    )]  # fmt: skip
    big = ExecContext(sandbox="box", id=1, argv=("x" * 900_000,))
    async with running(stuck, timeout=0.5) as (chain, _, _reports):
        tries = [chain.ask(big) for _ in range(100)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(answer, PluginFailed) for answer in answers)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/no/such/program"], "No such file"), ([sys.executable, "-c", "print('hi')"], "not JSON"),
        ([sys.executable, "-c", "import sys; sys.exit('no licence')"], "no licence"),
        ([sys.executable, "-c", "import time; time.sleep(600)"], "no greeting"),
    ],
)  # fmt: skip
async def test_one_that_does_not_start(command: list[str], why: str) -> None:
    patience = 1.0 if why == "no greeting" else 60.0
    with pytest.raises(PluginFailed, match=why):
        async with running(command, start_timeout=patience):
            pass
    async with running(command, start_timeout=patience, on_failure="open") as (chain, _, reports):
        assert not chain.listens("on_exec") and why in reports[0]


async def test_it_ends_with_all_that_it_started() -> None:
    body = """
import subprocess
child = subprocess.Popen(["sleep", "600"])
send(id=id, refuse=str(child.pid))
"""
    async with running(program(body)) as (chain, _, _reports):
        with pytest.raises(Refuse) as caught:
            await chain.ask(EXEC)
    child = int(caught.value.reason)

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"

    await until(gone)


async def test_what_it_wants_to_know_it_is_told() -> None:
    body = 'open(sys.argv[1], "a").write(said["hook"] + "\\n"); send(id=id)'
    async with running(program(body, ("on_exec_end",))) as (chain, _, reports):
        chain.note(ExecEndContext(sandbox="box", id=1, argv=("x",), exit_code=0, duration=0.1))
        await chain.settle()
    assert reports  # it had no file to write to, and died of it


def test_what_cannot_be_a_program_is_refused() -> None:
    for wrong in ("", "'", [], ["a", 1], None, 5):
        with pytest.raises(ConfigError):
            PluginProcess(wrong)  # type: ignore[arg-type]
    for options in (
        {"on_failure": "maybe"},
        {"timeout": 0},
        {"timeout": "5"},
        {"start_timeout": -1},
    ):
        with pytest.raises(ConfigError):
            PluginProcess("x", **options)


def test_a_record_keeps_all_of_it(tmp_path: Path) -> None:
    made = PluginProcess("node './a b.js'", on_failure="open", timeout=2, folder=tmp_path)
    assert made.argv == ["node", "./a b.js"]
    again = PluginProcess.from_json(made.to_json())
    assert again.to_json() == made.to_json() and again.folder == str(tmp_path)
