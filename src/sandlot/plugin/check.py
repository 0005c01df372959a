"""Exercising a plugin that is a program: every hook that it wants, several at once, to its end."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address

from sandlot.errors import PluginFailed, Refuse
from sandlot.network.flow import Decision, Flow
from sandlot.network.flows import FlowRecord
from sandlot.plugin.hooks import (
    ConnectContext,
    DnsContext,
    ExecContext,
    ExecEndContext,
    FlowContext,
    FsContext,
    HookContext,
    HttpRequestContext,
    RefusedContext,
    SecretUseContext,
    SnapshotContext,
    StartContext,
    StopContext,
)
from sandlot.plugin.process import PluginProcess, ProcessPlugin

TIMES = 50
AT_ONCE = 200
_FLOW = Flow("tcp", ip_address("192.0.2.1"), 443, "api.example.com")
_BOX = "check"
SAMPLES: dict[str, HookContext] = {
    each.hook: each
    for each in (
        StartContext(sandbox=_BOX, id="0123456789ab", image="demo", memory=1 << 30, cpus=1),
        ExecContext(sandbox=_BOX, id=1, argv=("echo", "hello"), env={"PATH": "/usr/bin:/bin"}),
        ExecEndContext(sandbox=_BOX, id=1, argv=("echo", "hello"), exit_code=0, duration=0.01),
        ConnectContext(sandbox=_BOX, flow=_FLOW, decision=Decision(True, "public", "")),
        DnsContext(sandbox=_BOX, name="api.example.com", decision=Decision(True, "public", "")),
        HttpRequestContext(
            sandbox=_BOX, flow=_FLOW, method="GET", target="/", authority="api.example.com",
            version="1.1", headers=(("accept", "*/*"),),
        ),
        SecretUseContext(
            sandbox=_BOX, flow=_FLOW, secret="API_KEY", host="api.example.com",
            place="header authorization", replaced=True,
        ),
        FlowContext(
            sandbox=_BOX,
            record=FlowRecord(id=1, time=0.0, protocol="tcp", address="192.0.2.1", port=443),
        ),
        FsContext(sandbox=_BOX, operation="open", path="/data/file"),
        SnapshotContext(sandbox=_BOX, name="ready"),
        RefusedContext(
            sandbox=_BOX, refused="on_exec", plugin="another", about="`ls`", reason="because"
        ),
        StopContext(sandbox=_BOX, reason="stopped"),
    )
}  # fmt: skip
"""An example of each context that programs are given."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was tried. `cost` is the median round trip in seconds, or 0."""

    what: str
    ok: bool
    note: str = ""
    cost: float = 0.0


async def check(process: PluginProcess) -> AsyncIterator[Step]:
    """Try a program, step by step; after one that fails there may be no more."""
    problems: list[str] = []
    plugin = ProcessPlugin(process)
    try:
        await plugin.begin(_BOX, problems.append)
    except PluginFailed as error:
        yield Step(what="greeting", ok=False, note=error.reason)
        return
    try:
        version = f" {plugin.version}" if plugin.version else ""
        yield Step(
            what="greeting", ok=True, note=f"{plugin.name}{version}: {', '.join(plugin.wanted)}"
        )
        for hook in plugin.wanted:
            yield await _hook(plugin, hook)
        yield await _at_once(plugin)
    finally:
        began = time.monotonic()
        await plugin.end()
        took = time.monotonic() - began
    ended = took < 1.5
    note = "" if ended else "it did not end when its input did, and was killed"
    yield Step(what="end", ok=ended and not problems, note="; ".join(problems) or note)


async def _hook(plugin: ProcessPlugin, hook: str) -> Step:
    context = SAMPLES[hook]
    took, note = [], "passes"
    for _ in range(TIMES):
        began = time.perf_counter()
        try:
            answer = await getattr(plugin, hook)(context)
        except PluginFailed as error:
            return Step(what=hook, ok=False, note=error.reason)
        except Refuse as refusal:
            note = f"refuses the example: {refusal.reason}"
        else:
            if answer is not None:
                changed = [each for each in context.changes
                           if getattr(answer, each) != getattr(context, each)]  # fmt: skip
                note = f"changes {', '.join(changed)}" if changed else "passes"
        took.append(time.perf_counter() - began)
    return Step(what=hook, ok=True, note=note, cost=statistics.median(took))


async def _at_once(plugin: ProcessPlugin) -> Step:
    hook = plugin.wanted[0]
    calls = [getattr(plugin, hook)(SAMPLES[hook]) for _ in range(AT_ONCE)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    wrong = [each for each in answers if isinstance(each, PluginFailed)]
    note = wrong[0].reason if wrong else f"{AT_ONCE} requests"
    return Step(what="many at once", ok=not wrong, note=note)
