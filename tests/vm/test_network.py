"""The network as the guest's programs see it, through the gate and the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import ConfigError, Network, Sandbox, sync
from sandlot.network.router import ROUTER4, ROUTER6
from tests.unit.network.harness import echo, server
from tests.unit.network.test_datagrams import shouting

HOST = Network(allow=["host"])
CLI = [str(Path(sys.executable).with_name("sandlot"))]


@contextlib.asynccontextmanager
async def reaching(image: str, network: Network, **options: object) -> AsyncIterator[Sandbox]:
    async with Sandbox.create(image=image, memory="512M", network=network, **options) as sandbox:  # type: ignore[arg-type]
        yield sandbox


async def python(sandbox: Sandbox, code: str) -> str:
    result = await sandbox.exec(["python3", "-c", code], timeout=120)
    assert result.exit_code == 0, result.stderr.decode()
    return result.text


async def test_connections_tell_the_truth(image: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()[1]
        async with server(echo) as port, reaching(image, HOST) as sandbox:
            said = await python(
                sandbox,
                f"""
import errno, socket
for host in ("{ROUTER4}", "host.sandlot.internal"):
    s = socket.create_connection((host, {port}), 60)
    assert s.getpeername()[:2] in (("{ROUTER4}", {port}), ("{ROUTER6}", {port}))
    s.sendall(b"x" * 300000)
    s.shutdown(socket.SHUT_WR)
    got = 0
    while data := s.recv(65536):
        got += len(data)
    assert got == 300000
def refused(family, host, port, kind=socket.SOCK_STREAM):
    s = socket.socket(family, kind)
    s.settimeout(60)
    try:
        s.connect((host, port))
        s.send(b"x")
        s.recv(10)
    except OSError as error:
        return errno.errorcode[error.errno]
print(
    refused(socket.AF_INET, "{ROUTER4}", {nobody}),
    refused(socket.AF_INET, "10.1.2.3", 80),
    refused(socket.AF_INET6, "fd00::1", 80),
    refused(socket.AF_INET6, "{ROUTER6}", {nobody}),
    refused(socket.AF_INET, "{ROUTER4}", {nobody}, socket.SOCK_DGRAM),
    refused(socket.AF_INET, "10.1.2.3", 80, socket.SOCK_DGRAM),
    refused(socket.AF_INET, "127.0.0.1", {nobody}),
)
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname())
own = socket.create_server(("10.231.0.2", 0))
socket.create_connection(own.getsockname())
""",
            )
            assert said.split() == [
                "ECONNREFUSED", "EHOSTUNREACH", "EACCES", "ECONNREFUSED", "ECONNREFUSED",
                "EHOSTUNREACH", "ECONNREFUSED",
            ]  # fmt: skip
            seen = {
                (flow.protocol, flow.destination, flow.verdict) for flow in sandbox.network.flows()
            }
            assert ("tcp", "10.1.2.3:80", "denied") in seen
            assert ("udp", "10.1.2.3:80/udp", "denied") in seen
            assert ("tcp", f"host.sandlot.internal:{nobody}", "failed") in seen


async def test_resets_names_and_datagrams(image: str) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with server(rude) as port, shouting() as udp, reaching(image, HOST) as sandbox:
        said = await python(
            sandbox,
            f"""
import socket
s = socket.create_connection(("{ROUTER4}", {port}), 60)
s.send(b"x")
try:
    s.recv(1)
except ConnectionResetError:
    print("reset")
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(60)
u.sendto(b"hello", ("{ROUTER4}", {udp}))
print(*u.recvfrom(100))
print(socket.gethostbyname(socket.gethostname()))
try:
    socket.getaddrinfo("example.com", 80)
except socket.gaierror:
    print("no such name")
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
icmp.settimeout(60)
icmp.sendto(bytes([8, 0, 0xf7, 0xff, 0, 0, 0, 0]), ("93.184.216.34", 0))
print(icmp.recv(200)[20:22].hex())
""",
        )
        lines = said.splitlines()
        assert lines[0] == "reset"
        assert lines[1] == f"b'HELLO' ('{ROUTER4}', {udp})"
        assert lines[2].startswith(("127.", "10.231."))
        assert lines[3:] == ["no such name", "030d"]  # administratively prohibited
        assert any(f.protocol == "dns" and f.verdict == "denied" for f in sandbox.network.flows())


async def test_flows_say_which_process_connected(image: str) -> None:
    async with server(echo) as port, reaching(image, HOST) as sandbox:
        code = f"""
import ctypes, os, socket, sys
name = sys.argv[1]
ctypes.CDLL(None).prctl(15, name.encode())
for host in sys.argv[2:]:
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.settimeout(60)
    try:
        s.connect((host, {port}))
    except OSError:
        pass
    s.close()
print(os.getpid())
"""
        hosts = [str(ROUTER4), str(ROUTER6), f"::ffff:{ROUTER4}", "10.1.2.3"]
        pids = {}
        for name in ("one", "two\x1b[2J\nx"):
            done = await sandbox.exec(["python3", "-c", code, name, *hosts], timeout=120)
            pids[name] = int(done.text)
        flows = [flow for flow in sandbox.network.flows() if flow.protocol == "tcp"]
        said = [(flow.pid, flow.process) for flow in flows]
        assert said == [
            *[(pids["one"], "one")] * 4, *[(pids["two\x1b[2J\nx"], "two\\x1b[2J\\x0ax")] * 4,
        ]  # fmt: skip
        assert [flow.verdict for flow in flows].count("denied") == 2
        # Who has ended by the time that it is asked about is still known by its number.
        await python(
            sandbox,
            f"""
import os, socket
for _ in range(20):
    if not os.fork():
        s = socket.socket(); s.setblocking(False)
        s.connect_ex(("{ROUTER4}", {port}))
        os._exit(0)
    os.wait()
""",
        )
        assert all(flow.pid for flow in sandbox.network.flows() if flow.protocol == "tcp")


async def test_raw_packets_reach_nothing(image: str) -> None:
    async with server(echo) as port, reaching(image, Network.deny_all()) as sandbox:
        await python(
            sandbox,
            f"""
import socket, struct
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for protocol in (1, 2, 6, 17, 47, 50, 132):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, protocol, 0,
                         socket.inet_aton("10.231.0.2"), socket.inet_aton("{ROUTER4}"))
    raw.sendto(header + struct.pack("!HHIIBBHHH", 9, {port}, 1, 1, 0x50, 16, 512, 0, 0), ("{ROUTER4}", 0))
link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0300)
link.bind(("eth0", 0x0800))
link.send(header)
link.send(bytes(3000))
""",
        )
        assert not [flow for flow in sandbox.network.flows() if flow.verdict != "denied"]
        assert (await sandbox.exec("true")).exit_code == 0


async def test_many_connections_and_megabytes(image: str) -> None:
    async with server(echo) as port, reaching(image, HOST) as sandbox:
        said = await python(
            sandbox,
            f"""
import socket, threading
ends = [socket.create_connection(("{ROUTER4}", {port}), 60) for _ in range(200)]
for number, end in enumerate(ends):
    end.sendall(b"%d" % number)
    end.shutdown(socket.SHUT_WR)
good = 0
for number, end in enumerate(ends):
    got = b""
    while data := end.recv(100):
        got += data
    good += got == b"%d" % number
s = socket.create_connection(("{ROUTER4}", {port}), 60)
size = 16 << 20
def send():
    s.sendall(bytes(size))
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = 0
while data := s.recv(1 << 20):
    got += len(data)
print(good, got == size)
""",
        )
        assert said.split() == ["200", "True"]


async def test_published_ports(image: str) -> None:
    serve = (
        "import socket, sys\n"
        "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 5300))\n"
        "s = socket.create_server((sys.argv[1], 8000)); print('up', flush=True)\n"
        "c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()\n"
        "data, who = u.recvfrom(100); u.sendto(data.upper(), who)\n"
    )
    for address in ("0.0.0.0", "127.0.0.1"):
        ports = {0: 8000, ("127.0.0.1", 0): "5300/udp"}
        async with reaching(image, Network.deny_all(), ports=ports) as sandbox:
            numbers = {each["port"]: each["host_port"] for each in sandbox.published}
            process = await sandbox.spawn(["python3", "-c", serve, address])
            assert await process.stdout.read(10) == b"up\n"
            reader, writer = await asyncio.open_connection("127.0.0.1", numbers[8000])
            writer.write(b"hello")
            assert await reader.read() == b"HELLO"
            writer.close()
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(("127.0.0.1", numbers[5300]))
                sock.send(b"datagram")
                assert await asyncio.wait_for(loop.sock_recv(sock, 100), 60) == b"DATAGRAM"
            assert (await process.wait()).exit_code == 0
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="in use"),
    ):
        await Sandbox.create(image=image, memory="512M", ports={taken.getsockname()[1]: 80})


async def test_a_detached_one_is_changed_and_watched_from_outside(image: str) -> None:
    name = f"net-{os.getpid()}"

    async def cli(*words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *CLI, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, error = await process.communicate()
        return process.returncode or 0, out.decode(), error.decode()

    connect = "import socket,sys; s=socket.create_connection(('10.231.0.1',int(sys.argv[1])),20)"
    async with server(echo) as port:
        words = ("-d", "--name", name, "-m", "512M", "--allow", "host", "-p", "8000")
        status, _, error = await cli("run", *words, image, "sleep", "1000")
        assert status == 0, error
        try:
            hold = f"{connect}; s.send(b'x'); s.recv(1); print('in', flush=True); s.recv(1)"
            sandbox = await Sandbox.get(name)
            process = await sandbox.spawn(["python3", "-c", hold, str(port)])
            assert await process.stdout.read(10) == b"in\n"
            _, shown, _ = await cli("network", "show", "--json", name)
            assert json.loads(shown)["allow"] == ["host"]
            status, _, error = await cli("network", "set", name, "--network", "none")
            assert status == 0 and "1 connection was cut" in error
            assert (await process.wait()).exit_code == 1  # reset
            assert (await sandbox.exec(["python3", "-c", connect, str(port)])).exit_code == 1
            _, shown, _ = await cli("flows", "--json", name)
            flows = [json.loads(line) for line in shown.splitlines()]
            assert [flow["verdict"] for flow in flows] == ["cut", "denied"]
            _, shown, _ = await cli("network", "learn", name)
            assert shown == ""  # what was cut is not to be allowed again
            _, shown, _ = await cli("port", name, "8000")
            assert shown.startswith("127.0.0.1:")
            status, _, _ = await cli("restart", "-t", "0", name)
            assert status == 0
            assert (await sandbox.exec(["python3", "-c", connect, str(port)])).exit_code == 1
            assert (await cli("network", "set", name, "--allow", "host"))[0] == 0
            assert (await sandbox.exec(["python3", "-c", connect, str(port)])).exit_code == 0
            assert sandbox.network.learn() == [f"host:{port}"]
            # One that is stopped holds to it from its next start.
            await sandbox.stop(kill=True)
            assert (await cli("network", "set", name, "--network", "none"))[0] == 0
            assert sandbox.network.policy == Network.deny_all()
            await sandbox.start()
            assert (await sandbox.exec(["python3", "-c", connect, str(port)])).exit_code == 1
            await sandbox.stop(kill=True)
            assert await sandbox.network.update(HOST) == 0
            await sandbox.start()
            assert (await sandbox.exec(["python3", "-c", connect, str(port)])).exit_code == 0
        finally:
            await cli("rm", "-f", name)


async def test_a_resolver_that_the_image_links_to(image: str) -> None:
    """As distributions have it whose resolver writes its file below /run."""
    async with reaching(image, HOST) as sandbox:
        await python(
            sandbox,
            "import ctypes, os; ctypes.CDLL(None).umount2(b'/etc/resolv.conf', 2);"
            "os.remove('/etc/resolv.conf');"
            "os.symlink('../run/systemd/resolve/stub-resolv.conf', '/etc/resolv.conf')",
        )
        await sandbox.stop()
        await sandbox.start()
        assert (await sandbox.exec("cat /etc/resolv.conf")).text == f"nameserver {ROUTER4}\n"


def test_without_await(image: str) -> None:
    with sync.Sandbox.create(image=image, memory="512M", network=Network.deny_all()) as sandbox:
        assert sandbox.network.policy == Network.deny_all()
        connect = "import socket; socket.create_connection(('93.184.216.34', 80), 60)"
        assert sandbox.exec(["python3", "-c", connect]).exit_code == 1
        assert sandbox.network.update(Network.public()) == 0
        assert sandbox.network.policy == Network.public()
        assert sandbox.ports == {} and list(Path(sandbox.folder.path).glob("flows*"))
