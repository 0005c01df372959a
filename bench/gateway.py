"""The gateway end to end: bytes, requests and connections through it, and what they cost.

`gateway` has a guest's end in a process of its own instead of a guest (`bench/guest_end.py`): so
the figures are the gateway's, whatever the accelerator is. `reach` is the same from inside a
sandbox. Both also measure the same work without a sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import mmap
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Row, row
from bench.upstream import HOST
from bench.visitor import AUTHORITY
from sandlot import Network, Sandbox
from sandlot.engine.config import WINDOW_SIZE
from sandlot.engine.qemu.process import make_window
from sandlot.guest.channel import Channel
from sandlot.network.flows import FlowLog
from sandlot.network.gateway import Gateway
from sandlot.network.hooks import Hooks
from sandlot.network.interception import Interceptor
from sandlot.network.router import ROUTER4
from sandlot.network.tls.authority import Authority
from sandlot.network.tls.trust import Trust
from sandlot.secrets import Secret, Vault

VISITOR = Path(__file__).with_name("visitor.py")
VALUE = "sk-proj-" + "aB3_" * 30
SIZE = 256 << 20
SAMPLES = 5
IDLE = 1000
RELAY, INTERCEPTED = ">= 200 MB/s", ">= 60 MB/s"

Ask = Callable[..., Awaitable[Any]]
"""Does what the visitor can do, by its name: the port of the server comes first."""


class Helper:
    """A process that answers each line with a line of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, words: object) -> None:
        """Send it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        await self._process.stdin.drain()

    async def answer(self) -> Any:
        """Its next line."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    async def end(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()


@contextlib.asynccontextmanager
async def _helper(*words: str, **options: Any) -> AsyncIterator[Helper]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=pipe, stdout=pipe, **options
    )
    helper = Helper(process)
    try:
        yield helper
    finally:
        await helper.end()


@dataclass
class World:
    """A server, what it is reached by through the gateway, and without it."""

    ports: dict[str, Any]
    bundle: str
    through: Ask
    worked: Callable[[], float] = time.process_time
    """Seconds of the processor that the gateway has taken."""

    async def plain(self, what: str, *numbers: int) -> Any:
        """Something of the visitor's, through the gateway."""
        return await self.through(what, self.ports["plain"], *numbers)

    async def tls(self, what: str, *numbers: int) -> Any:
        """The same where a secret is for the server."""
        return await self.through(what, self.ports["tls"], *numbers)

    async def direct(self, what: str, *numbers: int) -> Any:
        """The same without a sandbox."""
        port = self.ports["tls" if what.startswith("tls") or what == "requests" else "plain"]
        words = (str(VISITOR), what, "127.0.0.1", str(port), *map(str, numbers))
        environment = os.environ | {"SSL_CERT_FILE": self.bundle}
        async with _helper(*words, env=environment) as visitor:
            return await visitor.answer()


@contextlib.asynccontextmanager
async def _upstream() -> AsyncIterator[tuple[dict[str, Any], str]]:
    async with _helper("-m", "bench.upstream") as server:
        ports = await server.answer()
        with tempfile.NamedTemporaryFile(suffix=".pem") as bundle:
            bundle.write(ports["authority"].encode())
            bundle.flush()
            yield ports, bundle.name


@contextlib.asynccontextmanager
async def alone() -> AsyncIterator[World]:
    """A gateway in this process, and a guest's end in another."""
    async with _upstream() as (ports, bundle):
        secret = Secret(VALUE, hosts=f"{HOST}:{ports['tls']}")
        vault = await Vault.fresh({"API_KEY": secret})
        authority = Authority("bench")
        hooks = Hooks()
        trust = Trust(extra_ca=bundle, gets_secrets=vault.concerns)
        gateway = Gateway(
            Network(allow=["host"]), FlowLog(), hostname="bench", hooks=hooks,
            interceptor=Interceptor(vault, authority, trust, hooks),
        )  # fmt: skip
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        descriptor = make_window(WINDOW_SIZE)
        window = mmap.mmap(descriptor, WINDOW_SIZE)
        inherited = (theirs.fileno(), descriptor)
        words = ("-m", "bench.guest_end", *map(str, inherited))
        async with _helper(*words, pass_fds=inherited) as end:
            theirs.close()
            os.close(descriptor)
            channel = Channel(memoryview(window))
            await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
            gateway.attach(channel)
            pem = authority.certificate_pem.decode()
            await end.tell({"authority": pem, "key": vault.environment()["API_KEY"]})

            async def through(*words: object) -> Any:
                await end.tell(words)
                return await end.answer()

            yield World(ports, bundle, through)
            gateway.close()
            channel.close()


@contextlib.asynccontextmanager
async def inside() -> AsyncIterator[World]:
    """A sandbox whose programs do the work."""
    async with (
        _upstream() as (ports, bundle),
        Sandbox.create(
            image="demo", network=Network(allow=["host"]), upstream_ca=bundle,
            secrets={"API_KEY": (VALUE, f"{HOST}:{ports['tls']}")},
        ) as sandbox,
    ):  # fmt: skip
        await sandbox.files.write("/tmp/visitor.py", VISITOR.read_bytes())
        await sandbox.files.write(AUTHORITY, ports["authority"].encode())

        async def through(what: str, port: int, *numbers: int) -> Any:
            words = [
                "python3",
                "/tmp/visitor.py",
                what,
                str(ROUTER4),
                str(port),
                *map(str, numbers),
            ]
            done = await sandbox.exec(words, check=True)
            return json.loads(done.text)

        yield World(ports, bundle, through)


async def _moved(world: World, size: int, samples: int) -> list[Row]:
    """The lines about bytes and requests."""
    rows = []
    cases = [
        ("plain relay, from the server, one stream", RELAY, "down", (1, size)),
        ("plain relay, from the server, 16 streams", RELAY, "down", (16, size)),
        ("plain relay, to the server, one stream", RELAY, "up", (1, size)),
        ("plain relay, to the server, 16 streams", RELAY, "up", (16, size)),
        ("intercepted TLS, an answer", INTERCEPTED, "tls-down", (size,)),
        ("intercepted TLS, a request", INTERCEPTED, "tls-up", (size,)),
        ("intercepted requests over keep-alive", ">= 500/s", "requests", (max(200, size >> 17),)),
    ]
    for title, goal, what, numbers in cases:
        by_tls = what.startswith("tls") or what == "requests"
        ask = world.tls if by_tls else world.plain
        values, direct, worked = [], [], []
        for _ in range(samples):
            direct.append(await world.direct(what, *numbers))
            before = world.worked()
            values.append(await ask(what, *numbers))
            worked.append(numbers[-1] / (world.worked() - before))
        unit = "/s" if what == "requests" else "MB/s"
        if unit == "MB/s":
            worked = [value / 1e6 for value in worked]
        share = statistics.median(v / d for v, d in zip(values, direct, strict=True))
        rows += [
            row(title, goal, values, unit),
            row("— the same without a sandbox", "", direct, unit),
            row("— the part of it that comes through", "", [share * 100], "%"),
            row("— for each second of the processor that the gateway takes", "", worked, unit),
        ]
    return rows


async def _set_up(world: World, times: int) -> list[Row]:
    """The lines about connections."""
    plain, plain_direct = await world.plain("connect", times), await world.direct("connect", times)
    shaken = await world.tls("tls-connect", times)
    shaken_direct = await world.direct("tls-connect", times)
    over = [value - statistics.median(plain_direct) for value in plain]
    shaken_over = [value - statistics.median(shaken_direct) for value in shaken]
    return [
        row("connection set-up, plain, over one without a sandbox", "<= 3 ms", over, "ms"),
        row("connection set-up, intercepted, over TLS without a sandbox", "<= 15 ms",
            shaken_over, "ms"),
        row("— TLS without a sandbox", "", shaken_direct, "ms"),
    ]  # fmt: skip


def _private() -> int:
    """Bytes of this process that are its own."""
    gc.collect()
    text = Path("/proc/self/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines()[1:])
    return sum(int(words[1]) << 10 for words in lines if words[0].startswith("Private_"))


async def gateway() -> list[Row]:
    """Without a guest."""
    async with alone() as world:
        rows = await _moved(world, SIZE, SAMPLES)
        rows += await _set_up(world, 50)
    for title, what in (("", "idle"), (", intercepted", "tls-idle")):
        async with alone() as world:
            ask = world.plain if what == "idle" else world.tls
            await ask(what, 20)
            before = _private()
            await ask(what, IDLE)
            await asyncio.sleep(0.5)
            each = (_private() - before) / IDLE / 1024
        rows.append(
            row(f"gateway memory of each of {IDLE:,} idle connections{title}",
                "<= 40 KB", [each], "KiB")
        )  # fmt: skip
    return rows


async def reach() -> list[Row]:
    """From inside a sandbox."""
    async with inside() as world:
        rows = await _moved(world, SIZE >> 2, 3)
        own = statistics.median(await world.plain("connect-own", 50))
        set_up = await _set_up(world, 50)
        relayed = await world.through("tls-connect", world.ports["other"], 50)
    rows += set_up
    rows += [
        row("— a connection of two programs inside the sandbox", "", [own], "ms"),
        row("— TLS from inside the sandbox that is not looked into", "", relayed, "ms"),
    ]
    return [
        Row(f"{one.what}, inside" if one.goal else one.what, one.goal, one.median, one.p95,
            one.unit, one.samples)
        for one in rows
    ]  # fmt: skip


BENCHES = {"gateway": gateway, "reach": reach}
