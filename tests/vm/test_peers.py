"""Sandboxes that reach each other, and only those that were told to."""

from __future__ import annotations

from sandlot import Network, Sandbox
from sandlot.network.flows import FlowRecord
from tests.vm.test_network import python

SERVER = """
import http.server, os, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = os.environ["NAME"].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(said))); self.end_headers()
        self.wfile.write(said)
    def log_message(self, *_): pass
inner = socketserver.TCPServer(("127.0.0.1", 81), Handler)
outer = socketserver.TCPServer(("0.0.0.0", 80), Handler)
print("listening", flush=True)
outer.serve_forever()
"""
ASK = """
import errno, urllib.request
def ask(url):
    try:
        return urllib.request.urlopen(url, timeout=60).read().decode()
    except OSError as error:
        reason = getattr(error, "reason", error)
        return errno.errorcode.get(reason.errno) or type(reason).__name__
for url in {urls!r}:
    print(ask(url))
"""


async def asked(sandbox: Sandbox, *urls: str) -> list[str]:
    return (await python(sandbox, ASK.format(urls=urls))).splitlines()


async def serve(sandbox: Sandbox, name: str) -> None:
    process = await sandbox.spawn(["python3", "-c", SERVER], env={"NAME": name})
    assert await process.stdout.read_line() == b"listening\n"


async def test_peers_are_reached_by_name_and_nobody_else_is(image: str) -> None:
    async with (
        Sandbox.create(image=image, memory="256M", network=Network.deny_all()) as one,
        Sandbox.create(image=image, memory="256M", network=Network.deny_all()) as two,
        Sandbox.create(
            image=image, memory="256M",
            network=Network(default="deny", peers={"db": one.name, "api": [one.name, two.name]}),
        ) as asking,
    ):  # fmt: skip
        await serve(one, "one")
        await serve(two, "two")
        assert await asked(asking, "http://db/", "http://api/", "http://api/", "http://db:81/",
                           "http://db:82/", f"http://{two.name}/") == [
            "one", "one", "two", "ECONNREFUSED", "ECONNREFUSED", "gaierror",
        ]  # fmt: skip
        # It is one way: who is reached does not reach back, nor does anybody else.
        address = (await python(asking, "import socket; print(socket.gethostbyname('db'))")).strip()
        assert await asked(one, f"http://{address}/") == ["EHOSTUNREACH"]
        assert await asked(two, f"http://{address}/", "http://db/") == [
            "EHOSTUNREACH",
            "gaierror",
        ]
        flows: list[FlowRecord] = asking.network.flows()
        assert {(flow.name, flow.rule) for flow in flows if flow.verdict == "closed"} == {
            ("db", "peer db"), ("api", "peer api"),
        }  # fmt: skip
        # Another policy holds at once, and a peer that stopped refuses.
        await asking.network.update(Network(default="deny", peers={"api": [one.name, two.name]}))
        await one.stop()
        assert await asked(asking, "http://db/", "http://api/", "http://api/") == [
            "gaierror", "two", "two",
        ]  # fmt: skip
        await asking.network.update(Network.deny_all())
        assert await asked(asking, "http://api/") == ["gaierror"]


async def test_children_of_a_snapshot_have_their_own_peers(image: str) -> None:
    async with (
        Sandbox.create(image=image, memory="256M", network=Network.deny_all()) as one,
        Sandbox.create(
            image=image, memory="256M", network=Network(default="deny", peers={"db": one.name})
        ) as asking,
    ):  # fmt: skip
        await serve(one, "one")
        async with asking.fork(network=Network.deny_all()) as alone, asking.fork() as same:
            assert await asked(alone, "http://db/") == ["gaierror"]
            assert await asked(same, "http://db/") == ["one"]
