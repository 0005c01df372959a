"""Several plugins in their order: what they see, change, refuse, and how they fail."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import time
from typing import Any

import pytest

from sandlot import ConfigError, Decision, ExecContext, ExecEndContext, PluginFailed, Refuse
from sandlot.network.flow import Flow
from sandlot.plugin.chain import Chain, hooks_of, name_of
from sandlot.plugin.hooks import CONTEXTS, HOOKS, ConnectContext, HookContext, TransferContext

EXEC = ExecContext(sandbox="box", id=1, argv=("ls", "-l"), env={"A": "1"})


def plugin(**hooks: Any) -> object:
    """An object with these functions as its hooks."""
    return type("Given", (), {name: staticmethod(each) for name, each in hooks.items()})()


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda c: c.hook)
def test_every_hook_is_described_by_its_context(context: type[HookContext]) -> None:
    text = inspect.getdoc(context) or ""
    assert text.startswith(f"`{context.hook}`: ")
    assert HOOKS[context.hook] is context and context.hook.startswith("on_")
    fields = {field.name for field in dataclasses.fields(context)}
    assert set(context.changes) <= fields
    assert context.asks or not context.changes


async def test_plugins_are_asked_in_their_order_and_see_what_the_one_before_changed() -> None:
    seen: list[tuple[str, ...]] = []

    def first(ctx: ExecContext) -> ExecContext:
        seen.append(ctx.argv)
        return dataclasses.replace(ctx, argv=("nice", *ctx.argv), sandbox="another")

    async def second(ctx: ExecContext) -> ExecContext:
        await asyncio.sleep(0)
        seen.append(ctx.argv)
        return dataclasses.replace(ctx, env={**ctx.env, "B": "2"}, timeout=3)

    chain = Chain("box", [plugin(on_exec=first), plugin(on_exec=second)])
    made = await chain.ask(EXEC)
    assert seen == [("ls", "-l"), ("nice", "ls", "-l")]
    assert made.argv == ("nice", "ls", "-l") and made.env == {"A": "1", "B": "2"}
    assert made.timeout == 3 and made.sandbox == "box"  # what `changes` does not name stays


async def test_a_refusal_is_told_with_the_plugin_and_its_reason_and_ends_it() -> None:
    def no(ctx: ExecContext) -> None:
        raise Refuse("not today", hint="come tomorrow")

    def never(ctx: ExecContext) -> None:
        raise AssertionError("asked after a refusal")

    refusals: list[Any] = []
    chain = Chain(
        "box",
        [plugin(on_refused=refusals.append), plugin(on_exec=no), plugin(on_exec=never)],
    )
    with pytest.raises(Refuse) as caught:
        await chain.ask(EXEC)
    error = caught.value
    assert (error.plugin, error.reason, error.hint) == ("Given", "not today", "come tomorrow")
    assert error.message == "`ls` in sandbox box was refused by Given: not today"
    assert not isinstance(error, PluginFailed)
    (told,) = refusals
    assert (told.refused, told.plugin, told.reason, told.failed) == (
        "on_exec", "Given", "not today", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "hook",
    [
        lambda ctx: 1 / 0,
        lambda ctx: "yes",
        lambda ctx: dataclasses.replace(ctx, argv=()),
        lambda ctx: dataclasses.replace(ctx, argv=["a", 3]),
        lambda ctx: dataclasses.replace(ctx, env={"A=": "1"}),
        lambda ctx: dataclasses.replace(ctx, env={"A": "nul\0"}),
        lambda ctx: dataclasses.replace(ctx, timeout=float("nan")),
        lambda ctx: dataclasses.replace(ctx, user=None),
        lambda ctx: ExecEndContext(sandbox="box", id=1, argv=(), exit_code=0, duration=0),
    ],
)
async def test_a_plugin_that_fails_is_reported_and_refuses(hook: Any) -> None:
    reports: list[tuple[str, str, str]] = []
    chain = Chain("box", [plugin(on_exec=hook)], lambda *told: reports.append(told))
    with pytest.raises(PluginFailed) as caught:
        await chain.ask(EXEC)
    assert caught.value.plugin == "Given" and caught.value.reason
    assert [told[:2] for told in reports] == [("Given", "on_exec")]


async def test_a_decision_can_be_changed_and_nothing_else_of_a_connection() -> None:
    flow = Flow("tcp", __import__("ipaddress").ip_address("1.2.3.4"), 443, "example.com")
    ctx = ConnectContext(sandbox="box", flow=flow, decision=Decision(True, "allow", ""))
    no = Decision(False, "mine", "because")
    other = Flow("udp", flow.address, 1)
    chain = Chain(
        "box", [plugin(on_connect=lambda c: dataclasses.replace(c, decision=no, flow=other))]
    )
    made = await chain.ask(ctx)
    assert made.decision == no and made.flow == flow


async def test_observers_are_told_and_their_failures_are_reported() -> None:
    told: list[str] = []
    reports: list[str] = []

    async def later(ctx: ExecEndContext) -> None:
        await asyncio.sleep(0)
        told.append("later")

    async def fails(ctx: ExecEndContext) -> None:
        raise ValueError("async")

    def fails_now(ctx: ExecEndContext) -> None:
        raise Refuse("too late")

    plugins = [
        plugin(on_exec_end=each) for each in (later, fails, fails_now, lambda c: told.append("now"))
    ]
    chain = Chain("box", plugins, lambda name, hook, reason: reports.append(reason))
    chain.note(ExecEndContext(sandbox="box", id=1, argv=("x",), exit_code=0, duration=0.1))
    assert told == ["now"]
    await chain.settle()
    assert told == ["now", "later"]
    assert reports == ["Refuse: too late", "ValueError: async"]


def test_transfers_are_asked_at_once() -> None:
    longer = plugin(on_transfer=lambda c: dataclasses.replace(c, pause=c.pause + c.size / 10))
    assert Chain("box", [longer, longer]).transferred(5) == 1.0

    async def slow(ctx: TransferContext) -> None: ...

    with pytest.raises(PluginFailed, match="synchronous"):
        Chain("box", [plugin(on_transfer=slow)]).transferred(1)


def test_what_is_no_plugin_is_refused_with_the_nearest_hook() -> None:
    with pytest.raises(ConfigError) as caught:
        hooks_of(plugin(on_exce=print))
    assert "on_exce" in caught.value.message and "on_exec" in caught.value.hint
    with pytest.raises(ConfigError, match="no hook"):
        hooks_of(object())
    with pytest.raises(ConfigError, match="is a class"):
        hooks_of(type(plugin(on_exec=print)))


def test_names_and_hooks() -> None:
    class Named:
        name = "mine"

        def on_stop(self, ctx: object) -> None: ...

        def on_exec(self, ctx: object) -> None: ...

    assert name_of(Named()) == "mine"
    assert hooks_of(Named()) == ["on_stop", "on_exec"]


async def test_asking_nobody_costs_little() -> None:
    """The figure is bench/plugins.py's; this holds only against something absurd."""
    chain = Chain("box", [])
    began = time.perf_counter()
    for _ in range(1000):
        if chain.listens("on_exec"):
            await chain.ask(EXEC)
    assert time.perf_counter() - began < 1
