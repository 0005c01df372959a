"""Plugins of real machines: asked, changing, refusing; as objects and as programs; from any program."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sandlot import (
    AuditLog,
    ConfigError,
    ExecContext,
    HookContext,
    MemFs,
    Network,
    PluginFailed,
    PluginProcess,
    RateLimiter,
    Recorder,
    Refuse,
    Sandbox,
    sync,
)
from sandlot.plugin.builtin.audit_log import verify
from sandlot.plugin.builtin.metrics import Metrics

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "plugins"
PYTHON = f"{sys.executable} {EXAMPLES / 'monitor.py'}"


class Audit:
    """The audit log, written again on the public hooks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, ctx: HookContext) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"hook": ctx.hook, "what": ctx.subject()}) + "\n")

    on_start = on_stop = on_exec = on_connect = on_dns = on_fs = on_snapshot = note


class Guard:
    """Refuses some, changes some, fails at some, and sees all."""

    def __init__(self) -> None:
        self.ends: list[Any] = []
        self.kinds: list[str] = []

    def on_start(self, ctx: Any) -> None:
        self.kinds.append(ctx.kind)

    async def on_exec(self, ctx: ExecContext) -> ExecContext | None:
        await asyncio.sleep(0)
        if "forbidden" in ctx.argv:
            raise Refuse("it is forbidden")
        if "broken" in ctx.argv:
            raise RuntimeError("a bug")
        if ctx.argv[0] == "whoami":
            return dataclasses.replace(ctx, argv=("id", "-un"), user="nobody", workdir="/tmp")
        return None

    def on_exec_end(self, ctx: Any) -> None:
        self.ends.append(ctx)

    def on_fs(self, ctx: Any) -> None:
        if ctx.path.endswith("/secret"):
            raise Refuse("not this file")

    def on_connect(self, ctx: Any) -> None:
        if ctx.flow.port == 81:
            raise Refuse("not this port")

    def on_snapshot(self, ctx: Any) -> None:
        if ctx.name == "no":
            raise Refuse("no snapshot")


async def sandlot(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandlot.cli.main", *words, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_plugins_of_an_attached_sandbox(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    guard, metrics = Guard(), Metrics()
    log, own = tmp_path / "audit.jsonl", tmp_path / "own.jsonl"
    made = Sandbox.create(
        image=image, memory="256M", network=Network.deny_all(), volumes={"/data": MemFs()},
        plugins=[
            AuditLog(log), RateLimiter(max_exec_per_sec=100), Audit(own), guard, metrics,
            Recorder(tmp_path / "casts"),
        ],
        plugin_processes=["node ./monitor.js"],
    )  # fmt: skip
    async with made as sb:
        assert (await sb.exec(["whoami"])).text == "nobody\n"
        assert (await sb.exec("echo $MONITORED")).text == "1\n"  # by the program, the last of them
        with pytest.raises(Refuse) as refused:
            await sb.exec(["echo", "forbidden"])
        assert (refused.value.plugin, refused.value.reason) == ("Guard", "it is forbidden")
        with pytest.raises(Refuse, match="this stays on") as refused:
            await sb.spawn(["shutdown"])
        assert refused.value.plugin == "monitor"
        with pytest.raises(PluginFailed, match="a bug"):
            await sb.exec(["echo", "broken"])
        # Files of volumes, and the network.
        assert (await sb.exec("echo x > /data/secret")).exit_code != 0
        assert (await sb.exec("echo x > /data/other && cat /data/other")).text == "x\n"
        connect = "import socket; socket.create_connection(('1.1.1.1', 81), 5)"
        assert (await sb.exec(["python3", "-c", connect])).exit_code == 1
        assert any("not this port" in flow.reason for flow in sb.network.flows())
        # Other programs of the host come through the door.
        code, out, _ = await sandlot("exec", sb.name, "sh", "-c", "echo $MONITORED; exit 7")
        assert (code, out) == (7, "1\n")
        code, out, err = await sandlot("exec", sb.name, "echo", "forbidden")
        assert code == 125 and "refused by Guard: it is forbidden" in err and not out
        visitor = await Sandbox.get(sb.name)
        assert (await visitor.exec(["whoami"], stdin=b"x")).text == "nobody\n"
        async with await visitor.spawn(["sh"], tty=True) as process:
            await process.resize(40, 100)
            await process.stdin.write("stty size; exit 5\n")
            await process.stdout.read()
            assert (await process.wait()).exit_code == 5
        theirs = await visitor.spawn(["sh", "-c", "exit 6"], detached=True)
        assert (await theirs.wait()).exit_code == 6
        with pytest.raises(PluginFailed, match="a bug") as failed:
            await visitor.spawn(["broken"], detached=True)
        assert failed.value.plugin == "Guard"
        with pytest.raises(Refuse, match="no snapshot") as refused:
            await visitor.snapshot("no")
        assert refused.value.plugin == "Guard"
        # A terminal, a job, a snapshot, a twin with the same plugins.
        async with await sb.spawn(["sh", "-c", "echo to the terminal"], tty=(30, 90)) as process:
            await process.stdout.read()
            await process.wait()
        job = await sb.spawn(["sh", "-c", "exit 3"], detached=True)
        assert (await job.wait()).exit_code == 3
        with pytest.raises(Refuse, match="no snapshot"):
            await sb.snapshot("no")
        async with sb.fork() as twin:
            with pytest.raises(Refuse, match="forbidden"):
                await twin.exec(["echo", "forbidden"])
            assert (await twin.exec("echo $MONITORED")).text == "1\n"
        async with asyncio.timeout(60):
            while not {3, 5, 6, 7} <= {end.exit_code for end in guard.ends}:
                await asyncio.sleep(0.01)
    assert guard.kinds == ["start", "restore"]
    casts = [
        [json.loads(line) for line in each.read_text().splitlines()]
        for each in (tmp_path / "casts").iterdir()
    ]
    (head, *events), (other, *others) = sorted(casts, key=lambda cast: -int(cast[0]["width"]))
    assert (head["version"], head["width"], head["height"]) == (2, 90, 30)
    assert "to the terminal" in "".join(text for _, code, text in events if code == "o")
    assert (other["width"], other["command"]) == (80, "sh")  # through the door
    assert "40 100" in "".join(text for _, code, text in others if code == "o")
    assert "100x40" in [text for _, code, text in others if code == "r"]
    checked = verify(log)
    assert not checked.problem and checked.lines > 20
    hooks = {json.loads(each)["hook"] for each in own.read_text().splitlines()}
    assert hooks == {"on_start", "on_stop", "on_exec", "on_connect", "on_fs", "on_snapshot"}
    text = metrics.render()
    assert 'sandlot_refusals_total{hook="on_exec",plugin="Guard"} 5' in text
    assert "sandlot_running 0" in text


async def test_plugins_of_a_detached_sandbox(image: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="detached"):
        await Sandbox.create(image=image, detached=True, plugins=[Guard()])
    log = tmp_path / "audit.jsonl"
    sb = await Sandbox.create(
        image=image, memory="256M", network=Network.deny_all(), detached=True,
        plugins=[f"audit-log={log}"], plugin_processes=[PluginProcess(PYTHON, timeout=60)],
    )  # fmt: skip
    try:
        assert (await sb.exec("echo $MONITORED")).text == "1\n"
        with pytest.raises(Refuse, match="this stays on") as refused:
            await sb.exec(["shutdown", "now"])
        assert refused.value.plugin == "monitor-py"
        assert refused.value.reason == "this stays on"
    finally:
        await sb.remove()
    lines = [json.loads(each) for each in log.read_text().splitlines()]
    assert [each["hook"] for each in lines if each["hook"] in ("on_start", "on_exec")] == [
        "on_start", "on_exec", "on_exec",
    ]  # fmt: skip
    assert verify(log).lines == len(lines)


def test_the_facade_has_them_too(image: str) -> None:
    with sync.Sandbox.create(image=image, memory="256M", plugins=[Guard()]) as sb:
        with pytest.raises(Refuse, match="forbidden"):
            sb.exec(["echo", "forbidden"])
        sb.stop()
        sb.start()
        with pytest.raises(Refuse, match="forbidden"):
            sb.exec(["echo", "forbidden"])
        with pytest.raises(Refuse, match="no snapshot"):
            sb.snapshot("no")
        sb.stop()
        with pytest.raises(Refuse, match="no snapshot"):
            sb.snapshot("no", disk_only=True)
        sb.start(plugins=[])
        assert sb.exec(["echo", "forbidden"]).text == "forbidden\n"


async def test_a_program_that_does_not_start_fails_closed_or_is_left_out(image: str) -> None:
    dead = "sh -c 'echo it has no licence >&2; exit 1'"
    with pytest.raises(PluginFailed, match="no licence"):
        await Sandbox.create(image=image, memory="256M", plugin_processes=[dead])
    made = Sandbox.create(
        image=image, memory="256M", plugin_processes=[PluginProcess(dead, on_failure="open")]
    )
    async with made as sb:
        assert (await sb.exec(["true"])).exit_code == 0
        name = sb.name
    told = [e async for e in Sandbox.events() if e.kind == "plugin-failed" and e.name == name]
    assert told and "no licence" in told[0].details["reason"]
