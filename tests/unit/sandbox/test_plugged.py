"""What a sandbox does, as its plugins are told: with a gateway, and without a machine."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot import (
    Budget,
    ConfigError,
    Decision,
    Flow,
    Hooks,
    Network,
    PluginFailed,
    RateLimiter,
    Refuse,
)
from sandlot.filesystem.types import Context, FileAccess
from sandlot.guest.session import Command
from sandlot.network.http.events import RequestHead
from sandlot.network.relay import Stopped
from sandlot.sandbox.plugged import Plugged, ask_about_stopped
from sandlot.secrets.substitution import Use
from sandlot.wire.messages import Failed, Ok
from tests.unit.network.harness import HOST, echo, guest, server

OPEN = Network(allow=["host"])
FLOW = Flow("tcp", ip_address("192.0.2.1"), 443, "api.example")
YES = Decision(True, "allow", "")


class Told:
    """Notes all that it is told, and refuses what is named in `refuses`."""

    def __init__(self, *refuses: str) -> None:
        self.contexts: list[Any] = []
        self._refuses = refuses

    def note(self, ctx: Any) -> None:
        self.contexts.append(ctx)
        if ctx.hook in self._refuses:
            raise Refuse(f"no {ctx.hook}")

    on_exec = on_exec_end = on_connect = on_dns = on_http_request = on_secret_use = note
    on_fs = on_flow = on_snapshot = on_start = on_stop = note


def plugged(*plugins: object, listed: list[dict[str, Any]] | None = None) -> Plugged:
    """The plugins of an owner of which there is just enough."""
    given = listed if listed is not None else [{"given": type(each).__name__} for each in plugins]
    record = SimpleNamespace(
        name="box", id="1", image="demo", memory=1, cpus=1, detached=False, plugins=given
    )
    saved = SimpleNamespace(exists=lambda: False)
    folder = SimpleNamespace(saved=saved, run_state=lambda: SimpleNamespace(exit_code=3))
    events: list[tuple[str, dict[str, Any]]] = []
    owner: Any = SimpleNamespace(
        record=record, folder=folder, asleep=False, events=events,
        event=lambda kind, **details: events.append((kind, details)),
    )  # fmt: skip
    return Plugged(owner, plugins)


async def test_a_command_is_asked_about_and_changed() -> None:
    class Changes:
        def on_exec(self, ctx: Any) -> Any:
            return dataclasses.replace(
                ctx, argv=("nice", *ctx.argv), env={"A": "\udcff"}, user="1", workdir="/w",
                timeout=2.5, limits=("cpu=1",),
            )  # fmt: skip

    told = Told()
    command = Command(argv=[b"ls", b"\xff"], env={b"B": b"\xfe"}, tty=(24, 80), stdin=True)
    made, running = await plugged(told, Changes()).exec(command)
    (context,) = told.contexts
    assert (context.argv, context.env, context.tty) == (("ls", "\udcff"), {"B": "\udcfe"}, (24, 80))
    assert made == Command(
        argv=[b"nice", b"ls", b"\xff"], env={b"A": b"\xff"}, cwd=b"/w", user="1", tty=(24, 80),
        stdin=True, timeout=2.5, limits=("cpu=1",),
    )  # fmt: skip
    assert running is not None
    running.ended(7)
    running.ended(8)  # the first word counts
    assert [each.exit_code for each in told.contexts if each.hook == "on_exec_end"] == [7]
    with pytest.raises(Refuse, match="no on_exec"):
        await plugged(Told("on_exec")).exec(command)


async def test_nothing_is_made_where_nobody_listens() -> None:
    class Other:
        def on_stop(self, ctx: object) -> None: ...

    command = Command(argv=[b"ls"])
    box = plugged(Other())
    assert await box.exec(command) == (command, None)
    assert box.flow_watcher is None and box.pace is None
    hooks = box.hooks(None)
    assert hooks is not None and hooks.on_connect is None and hooks.on_fs is None


async def test_decisions_about_the_network_come_after_the_programs_own_hooks() -> None:
    def own(flow: Flow, decision: Decision) -> Decision:
        return Decision(False, "own", "by the hook")

    told = Told()
    hooks = plugged(told).hooks(Hooks(on_connect=own, ask_timeout=5))
    assert hooks is not None and hooks.on_connect is not None and hooks.ask_timeout == 5
    assert (await hooks.on_connect(FLOW, YES)).rule == "own"
    assert told.contexts[0].decision.rule == "own" and told.contexts[0].flow == FLOW
    hooks = plugged(Told("on_connect", "on_dns")).hooks(None)
    assert hooks is not None and hooks.on_connect is not None and hooks.on_dns is not None
    for decision in (await hooks.on_connect(FLOW, YES), await hooks.on_dns("a.example", YES)):
        assert not decision.allowed and decision.rule == "plugin Told"


async def test_requests_secrets_and_files() -> None:
    head = RequestHead(1, "GET", "/x", "api.example", ((b"Accept", b"*/*"),), "1.1")  # type: ignore[arg-type]
    use = Use("KEY", "api.example", "header authorization", True)
    access = FileAccess("rename", "/data/a", Context(pid=7, uid=1000, gid=1000), 0, "/data/b")
    told = Told()
    hooks: Any = plugged(told).hooks(None)
    await hooks.on_http_request(FLOW, head)
    await hooks.on_secret_use(FLOW, use)
    await hooks.on_fs(access)
    request, secret, file = told.contexts
    assert (request.method, request.headers) == ("GET", (("Accept", "*/*"),))
    assert (secret.secret, secret.replaced) == ("KEY", True)
    assert (file.operation, file.target, file.pid, file.writes) == ("rename", "/data/b", 7, True)
    hooks = plugged(Told("on_http_request", "on_secret_use", "on_fs")).hooks(None)
    for call in (
        hooks.on_http_request(FLOW, head),
        hooks.on_secret_use(FLOW, use),
        hooks.on_fs(access),
    ):
        with pytest.raises(Refuse) as caught:
            await call
        assert caught.value.plugin == "Told"


async def test_a_gateway_with_plugins() -> None:
    told = Told()
    box = plugged(told)
    async with server(echo) as port, guest(OPEN, hooks=box.hooks(None)) as side:
        side.gateway.log.watchers.append(box.flow_watcher)  # type: ignore[arg-type]
        stream, answer = await side.connect(HOST, port)
        assert isinstance(answer, Ok)
        await stream.write(b"hello")
        stream.finish()
        while await stream.read():
            pass
    verdicts = [each.record.verdict for each in told.contexts if each.hook == "on_flow"]
    assert verdicts == ["open", "closed"]
    assert [each for each in told.contexts if each.hook == "on_flow"][-1].record.sent == 5
    async with guest(OPEN, hooks=plugged(Told("on_connect")).hooks(None)) as side:
        _, answer = await side.connect(HOST, 80)
        assert isinstance(answer, Failed)
        (flow,) = side.gateway.log.all()
        assert flow.rule == "plugin Told" and "no on_connect" in flow.reason


async def test_bytes_over_the_budget_cut_a_connection() -> None:
    box = plugged(RateLimiter(max_bytes_per_sec="1G"), Budget(bytes="100K"))
    assert box.pace is not None and box.pace(1) == 0
    async with server(echo) as port, guest(OPEN) as side:
        side.gateway.add_pace(box.pace)
        stream, answer = await side.connect(HOST, port)
        assert isinstance(answer, Ok)
        with pytest.raises(BrokenPipeError):
            for _ in range(100):
                await stream.write(b"x" * 100_000)
        (flow,) = side.gateway.log.all()
        assert flow.verdict == "denied" and "budget of 102400 bytes" in flow.reason
    with pytest.raises(Stopped):
        box.pace(1)


async def test_from_start_to_stop() -> None:
    told = Told()
    box = plugged(told)
    await box.start()
    await box.start()
    await box.snapshot("fork", "", False, ())
    box.stopped("idle")
    box.stopped("again")
    await box.settled()
    start, again, snapshot, stop = told.contexts
    assert (start.kind, again.kind, snapshot.kind) == ("start", "restart", "fork")
    assert (stop.reason, stop.exit_code) == ("idle", 3)
    with pytest.raises(Refuse, match="starting sandbox box was refused by Told"):
        await plugged(Told("on_start")).start()


async def test_a_failure_is_an_event() -> None:
    class Broken:
        def on_exec(self, ctx: object) -> None:
            raise ValueError("a bug")

    box = plugged(Broken())
    with pytest.raises(PluginFailed):
        await box.exec(Command(argv=[b"ls"]))
    owner: Any = box._owner
    assert owner.events == [
        ("plugin-failed", {"plugin": "Broken", "hook": "on_exec", "reason": "ValueError: a bug"})
    ]


async def test_the_disk_of_a_stopped_one_is_asked_about() -> None:
    record: Any = SimpleNamespace(name="box", plugins=[{"given": "Told"}])
    told = Told()
    await ask_about_stopped(record, [told], "ready", ["a"])
    (context,) = told.contexts
    assert (context.name, context.disk_only, context.tags) == ("ready", True, ("a",))
    with pytest.raises(Refuse):
        await ask_about_stopped(record, [Told("on_snapshot")], "ready", [])
    with pytest.raises(ConfigError):
        await ask_about_stopped(record, [], "ready", [])
