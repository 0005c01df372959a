"""What plugins cost: nobody listening, one in this process, one that is a program of its own."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import Row, row
from sandlot.plugin.builtin.audit_log import AuditLog
from sandlot.plugin.chain import Chain
from sandlot.plugin.hooks import ExecContext, HookContext
from sandlot.plugin.process import PluginProcess, ProcessPlugin

EXAMPLES = Path(__file__).parents[1] / "examples" / "plugins"
CONTEXT = ExecContext(
    sandbox="box", id=1, argv=("python3", "-c", "print(1)"),
    env={f"NAME_{n}": "value of it" for n in range(10)}, workdir="/", user="0",
)  # fmt: skip
CALLS, ROUNDS = 1000, 20


class Observer:
    """Has a hook that does nothing."""

    def on_exec(self, ctx: ExecContext) -> None:
        return None


class Waiter:
    """Has an asynchronous hook that does nothing."""

    async def on_exec(self, ctx: ExecContext) -> None:
        return None


async def _ask(chain: Chain, context: HookContext, calls: int = CALLS) -> list[float]:
    """Microseconds of a call, as the mean of each round."""
    samples = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(calls):
            if chain.listens(context.hook):
                await chain.ask(context)
        samples.append((time.perf_counter() - began) / calls * 1e6)
    return samples


async def hooks() -> list[Row]:
    """A hook, by who listens."""
    rows = [
        row("hook, nobody listens", "2 us", await _ask(Chain("box", []), CONTEXT), "us"),
        row("hook, a plugin", "20 us", await _ask(Chain("box", [Observer()]), CONTEXT), "us"),
        row("hook, an async plugin", "20 us", await _ask(Chain("box", [Waiter()]), CONTEXT), "us"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        chain = Chain("box", [AuditLog(Path(folder) / "audit.jsonl")])
        rows.append(row("hook, the audit log", "-", await _ask(chain, CONTEXT), "us"))
    return rows


async def processes() -> list[Row]:
    """The round trip to a program."""
    rows = []
    commands = {"Python": [sys.executable, str(EXAMPLES / "monitor.py")]}
    if node := shutil.which("node"):
        commands["Node"] = [node, str(EXAMPLES / "monitor.js")]
    for language, command in commands.items():
        plugin = ProcessPlugin(PluginProcess(command))
        await plugin.begin("box", lambda reason: None)
        try:
            chain = Chain("box", [plugin])
            await _ask(chain, CONTEXT, 50)
            samples = []
            for _ in range(CALLS):
                began = time.perf_counter()
                await chain.ask(CONTEXT)
                samples.append((time.perf_counter() - began) * 1e6)
            rows.append(row(f"hook, a program in {language}", "500 us", samples, "us"))
            began = time.perf_counter()
            await asyncio.gather(*(chain.ask(CONTEXT) for _ in range(CALLS)))
            rate = CALLS / (time.perf_counter() - began)
            rows.append(row(f"hooks at once, {language}", "-", [rate], "/s"))
        finally:
            await plugin.end()
    return rows


BENCHES = {"plugins": hooks, "plugin-processes": processes}


if __name__ == "__main__":
    from bench.measure import heading, line

    print(heading())
    for bench in BENCHES.values():
        for each in asyncio.run(bench()):
            print(line(each))
