"""A hostile guest tries to get out. None of what it tries passes.

The attempts are in `escapes`; each is a row of docs/security/network.md. The machine, its policy,
the gate and the gateway are real; what they let through is led to servers on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets as random
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from sandlot import Network, Sandbox, SandboxError
from sandlot.network.router import ROUTER4, host_addresses
from sandlot.network.tls.authority import Authority
from sandlot.sandbox.process import Process
from tests.framework.internet import Internet, here, internet
from tests.framework.leaks import assert_nothing_left
from tests.framework.names import Names, name_server
from tests.vm.escapes import ALL, APART, Escape
from tests.vm.escapes.escape import GOOD, GOOD_ADDRESS, PRELUDE, RUNNER, SECOND_ADDRESS, TRICKS

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("hostile"),
    pytest.mark.shared_machine,
]
OTHER_ADDRESS = "93.184.216.36"
LIMIT = 120
REDIRECTS = (
    "http://10.0.0.5/", "http://127.0.0.1:9/", "http://169.254.169.254/latest/meta-data/",
    f"http://{ROUTER4}:%d/", "http://host.sandlot.internal:%d/", "http://[::ffff:10.0.0.5]/",
    "http://93.184.216.99/", "http://private.trick.example/", "http://2852039166/",
)  # fmt: skip


class Zone:
    """What the lying name server answers."""

    def __init__(self) -> None:
        self.turn = 0

    def __call__(self, name: str, kind: str) -> list[str]:
        def a(*addresses: str) -> list[str]:
            lines = [f"{name} 0 IN {'AAAA' if ':' in x else 'A'} {x}" for x in addresses]
            return [line for line in lines if line.split()[3] == kind]

        def alias(to: str, *addresses: str) -> list[str]:
            return [
                f"{name} 0 IN CNAME {to}.",
                *(f"{to} 0 IN A {x}" for x in addresses if kind == "A"),
            ]

        label = name.removesuffix(f".{TRICKS}")
        if name == GOOD:
            return a(GOOD_ADDRESS)
        if label in ("turns", "swaps"):
            self.turn += 1
            if label == "swaps":
                return a(("10.0.0.5", "127.0.0.1", SECOND_ADDRESS)[self.turn % 3])
            return a(SECOND_ADDRESS if self.turn == 1 else "10.0.0.5")
        answers = {
            "private": a("10.0.0.5"),
            "loopback": a("127.0.0.1", "::1"),
            "metadata": a("169.254.169.254", "fd00:ec2::254"),
            "mixed": a(SECOND_ADDRESS, "10.0.0.5", "2606:2800:220:1::35", "fd00::5"),
            "mapped": a("::ffff:127.0.0.1"),
            "nat64": a("64:ff9b::a9fe:a9fe"),
            "sixtofour": a("2002:7f00:1::1"),
            "router": a("10.231.0.1", "fd5a:6e64:6c6f:7400::1"),
            "alias-private": alias("inner.elsewhere.example", "10.0.0.5"),
            "alias-host": alias("host.sandlot.internal", "10.231.0.1"),
            "alias-local": alias("localhost", "127.0.0.1"),
            "circle": alias(f"circle.{TRICKS}"),
            "poison": [*a(SECOND_ADDRESS), f"{GOOD} 0 IN A 93.184.216.77"],
            "mx": [f"{name} 0 IN MX 5 inner.elsewhere.example."],
            "srv": [f"{name} 0 IN SRV 0 0 9 inner.elsewhere.example."],
            "other": a(OTHER_ADDRESS),
            "never": a(GOOD_ADDRESS),
        }
        return answers.get(label, [])


@dataclass
class World:
    """All that is outside of the guest."""

    net: Internet
    names: Names
    zone: Zone
    value: str
    bundle: Path
    sandbox: Sandbox | None = None
    treasure: int = 0
    web: int = 0
    plain: int = 0
    other: int = 0
    visits: list[str] = field(default_factory=list)
    """Of the treasure, which nobody may reach."""
    heard: dict[int, list[bytes]] = field(default_factory=dict)
    """What the servers that may be reached were told."""

    def setting(self) -> str:
        """What the attempts know of it."""
        hosts = [str(a) for a in host_addresses() if not a.is_loopback and not a.is_link_local]
        return (
            f"TREASURE, WEB, PLAIN, OTHER = {self.treasure}, {self.web}, {self.plain}, {self.other}\n"
            f"LIMIT, REDIRECTS, HOSTS = {LIMIT}, {len(REDIRECTS)}, {hosts!r}\n"
            "KEY, MARK = os.environ['API_KEY'], 0x53616E64\n"
        )

    def policy(self) -> Network:
        """What the machine may reach."""
        return Network(
            allow=[
                f"{GOOD}:{self.web}/tcp", f"{GOOD}:{self.plain}/tcp", f"*.{TRICKS}:{self.other}/tcp"
            ]
        )  # fmt: skip


async def _serve(
    world: World, address: str, context: ssl.SSLContext | None = None
) -> asyncio.Server:
    """A server that notes all that it hears, answers each request, and believes everything."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upgraded = False
        with contextlib.suppress(ConnectionError, TimeoutError):
            last = False
            while not last and (data := await reader.read(65536)):
                heard.append(data)
                last = b"connection: close" in data.lower() or upgraded
                for line in re.findall(rb"(?im)^[a-z_]+[ \t]+(\S+)[ \t]+HTTP/", data):
                    if line.startswith(b"/redirect/"):
                        to = REDIRECTS[int(line.rpartition(b"/")[2])].replace(
                            "%d", str(world.treasure)
                        )
                        writer.write(
                            f"HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()
                        )
                    elif line == b"/socket":
                        upgraded = True
                        writer.write(
                            b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                        )
                    else:
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, here(address), 0, ssl=context, backlog=512)
    world.heard[server.sockets[0].getsockname()[1]] = heard
    return server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    zone = Zone()
    authority = Authority("outside")
    bundle = tmp_path_factory.mktemp("hostile") / "ca.pem"
    bundle.write_bytes(authority.certificate_pem)
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        net = stack.enter_context(internet())
        names = await stack.enter_async_context(name_server(zone))
        made = World(net, names, zone, f"sk-{random.token_hex(20)}", bundle)

        async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            made.visits.append(str(writer.get_extra_info("sockname")))
            writer.write(b"treasure")
            writer.close()

        class Datagrams(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, address: object) -> None:
                made.visits.append(f"datagram of {address}")

        treasure = await asyncio.start_server(visit, "0.0.0.0", 0)
        made.treasure = treasure.sockets[0].getsockname()[1]
        treasure6 = await asyncio.start_server(visit, "::", made.treasure, family=socket.AF_INET6)
        servers = [
            treasure, treasure6,
            await _serve(made, GOOD_ADDRESS, authority.server_context(GOOD, ["http/1.1"])),
            await _serve(made, GOOD_ADDRESS),
            await _serve(made, OTHER_ADDRESS, authority.server_context("other.trick.example", [])),
        ]  # fmt: skip
        made.web, made.plain, made.other = (s.sockets[0].getsockname()[1] for s in servers[2:])
        transports = []
        for family in (socket.AF_INET, socket.AF_INET6):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("", made.treasure))
            transports.append((await loop.create_datagram_endpoint(Datagrams, sock=sock))[0])
        try:
            yield made
        finally:
            for transport in transports:
                transport.close()
            for server in servers:
                server.close()


@contextlib.asynccontextmanager
async def machine(world: World, image: str) -> AsyncIterator[Sandbox]:
    async with Sandbox.create(
        image=image, memory="512M", network=world.policy(), dns=[world.names.server],
        connections=LIMIT, upstream_ca=world.bundle,
        secrets={"API_KEY": (world.value, f"{GOOD}:{world.web}")},
    ) as sandbox:  # fmt: skip
        yield sandbox


class Attacker:
    """A process in the guest that runs one attempt after the other, each in a child of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def let_in(cls, sandbox: Sandbox, world: World, user: str) -> Attacker:
        return cls(
            await sandbox.spawn(
                ["python3", "-c", RUNNER], stdin=True, user=user,
                env={"PRELUDE": PRELUDE + world.setting()},
            )
        )  # fmt: skip

    async def attempt(self, code: str) -> str:
        await self._process.stdin.write(json.dumps(code) + "\n")
        async with asyncio.timeout(200):
            line = await self._process.stdout.read_line()
        assert line, (await self._process.stderr.read()).decode()
        said: str = json.loads(line)
        return said.strip()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attackers(world: World, net_image: str) -> AsyncIterator[dict[str, Attacker]]:
    async with machine(world, net_image) as sandbox:
        world.sandbox = sandbox
        yield {user: await Attacker.let_in(sandbox, world, user) for user in ("root", "1000")}
    assert_nothing_left(Path(sandbox.folder.path).parents[1])


def nothing_passed(world: World, escape: Escape, led: list[str], asked: int) -> None:
    """What the world saw of an attempt."""
    assert not world.visits, world.visits
    assert not world.net.touched, world.net.touched
    assert set(led) <= set(escape.led), led
    for port, heard in world.heard.items():
        every = b"".join(heard)
        assert b"evil" not in every.lower(), every
        assert world.value.encode() not in every, f"the value is on port {port}: {every!r}"
    if escape.asked is not None:
        assert (len(world.names.asked) > asked) == escape.asked, world.names.asked[asked:]


@pytest.mark.parametrize(
    ("name", "user"), [(name, user) for name, escape in ALL.items() for user in escape.users]
)
async def test_no_escape(
    world: World, attackers: dict[str, Attacker], name: str, user: str
) -> None:
    escape = ALL[name]
    led, asked = len(world.net.led), len(world.names.asked)
    world.zone.turn = 0
    for heard in world.heard.values():
        heard.clear()
    said = await attackers[user].attempt(escape.code)
    nothing_passed(world, escape, world.net.led[led:], asked)
    assert world.sandbox is not None
    flows = world.sandbox.network.flows()[-5:]
    assert "IN" not in said.split() and re.fullmatch(escape.says, said), (said, flows)


@pytest.mark.parametrize("name", APART)
async def test_a_machine_taken_apart(world: World, net_image: str, name: str) -> None:
    escape, led = APART[name], len(world.net.led)
    async with machine(world, net_image) as sandbox:
        try:
            code = PRELUDE + world.setting() + escape.code
            result = await sandbox.exec(["python3", "-c", code], timeout=150)
            assert re.fullmatch(escape.says, result.text.strip()), (
                result.text + result.stderr.decode()
            )
        except SandboxError:  # it has ended the machine, or the host has
            assert "agent" in name
    nothing_passed(world, escape, world.net.led[led:], len(world.names.asked))


async def test_what_is_allowed_is_reached(world: World, attackers: dict[str, Attacker]) -> None:
    """The attempts above fail because of the gateway, and not because nothing works."""
    code = """
auth = f"Host: {GOOD}:{WEB}\\r\\nConnection: close\\r\\nAuthorization: Bearer {KEY}"
print(exchange(f"GET / HTTP/1.1\\r\\n{auth}\\r\\n\\r\\n".encode(), WEB, tls=GOOD),
      exchange(f"GET / HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\nConnection: close\\r\\n\\r\\n".encode(), PLAIN))
"""
    for heard in world.heard.values():
        heard.clear()
    for user in ("root", "1000"):
        assert await attackers[user].attempt(code) == "200 200"
    assert b"".join(world.heard[world.web]).count(f"Bearer {world.value}".encode()) == 2
