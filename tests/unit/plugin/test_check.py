"""What `sandlot plugins check` finds out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sandlot import PluginProcess
from sandlot.plugin.check import SAMPLES, Step, check
from sandlot.plugin.protocol import REMOTE

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins"
BAD = """
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    if "hello" in said:
        print(json.dumps({"protocol": 1, "name": "bad", "hooks": ["on_exec", "on_stop"]}), flush=True)
    elif said["hook"] == "on_stop":
        print(json.dumps({"id": said["id"], "change": {"reason": "x"}}), flush=True)
    else:
        print(json.dumps({"id": said["id"]}), flush=True)
"""


async def steps(*command: str) -> dict[str, Step]:
    process = PluginProcess(list(command), timeout=60, start_timeout=60)
    return {step.what: step async for step in check(process)}


def test_there_is_an_example_for_every_hook_of_programs() -> None:
    assert set(SAMPLES) == set(REMOTE)


@pytest.mark.parametrize(
    "command",
    [("node", str(EXAMPLES / "monitor.js")), (sys.executable, str(EXAMPLES / "monitor.py"))],
)
async def test_the_examples_pass(command: tuple[str, ...]) -> None:
    found = await steps(*command)
    assert found.pop("end").what == "end"  # which is about time, and this machine may be busy
    assert all(step.ok for step in found.values()), found
    assert found["on_exec"].note == "changes env" and found["on_exec"].cost > 0
    assert found["greeting"].note.startswith("monitor")


async def test_what_is_wrong_is_told() -> None:
    found = await steps(sys.executable, "-c", BAD)
    assert found["greeting"].ok and found["on_exec"].ok and found["many at once"].ok
    assert not found["on_stop"].ok and "lets nobody change reason" in found["on_stop"].note
    (greeting,) = (await steps(sys.executable, "-c", "raise SystemExit('no licence')")).values()
    assert not greeting.ok and "no licence" in greeting.note
