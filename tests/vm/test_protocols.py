"""Common programs and protocols in a guest, through the plain relay and through interception.

nginx, a gRPC server, git and servers of events and WebSockets are real, and so are the clients in
the guest: curl, git, Node, Python and a static program without libc.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sandlot import Network, Sandbox, Secret
from sandlot.sandbox.trusting import ENVIRONMENT
from tests.framework.internet import internet
from tests.framework.names import name_server
from tests.framework.site import EVENTS, build_go_client, package_folder, silent, site

pytestmark = pytest.mark.timeout(900)
HOST, ADDRESS, SILENT = "site.example.com", "93.184.216.34", "2606:2800:220:1::5d"
VALUE = "sk-a-value-of-some-length-0123456789"

SOCKET = """
import asyncio, os, sys
sys.path.insert(0, "/opt")
from websockets.asyncio.client import connect

async def main():
    async with connect(sys.argv[1], max_size=None, open_timeout=100, ping_interval=None) as socket:
        async def said(message):
            await socket.send(message)
            return await socket.recv()
        print(await said("begun"), flush=True)
        sys.stdin.readline()
        assert await said(bytes(range(256)) * 4096) == (bytes(range(256)) * 4096)[::-1]
        for number in range(100):
            assert await said(f"message {number}") == f"MESSAGE {number}"
        await asyncio.wait_for(await socket.ping(), 100)
        print(await said(os.environ.get("SHOUTED", "end")), flush=True)

asyncio.run(main())
"""
EVENT_READER = """
import subprocess, sys
base = sys.argv[1]
reader = subprocess.Popen(["curl", "-sSN", "-m", "200", *sys.argv[2:], base + "/events"], stdout=subprocess.PIPE)
for line in reader.stdout:
    if line.startswith(b"data: "):
        number = line[6:].strip().decode()
        subprocess.run(["curl", "-sS", "-m", "100", f"{base}/seen/{number}"], check=True)
        print(number, end=" ")
print(reader.wait())
"""
NODE = """
const http2 = require('http2'), https = require('https');
const base = process.argv[1];
https.get(base + '/hello', answer => {
  answer.on('data', said => {
    const session = http2.connect(base);
    const stream = session.request({':path': '/hello'});
    let status = 0;
    stream.on('response', fields => { status = fields[':status']; });
    stream.on('data', more => console.log(answer.httpVersion, `${said}`.trim(), status, `${more}`.trim()));
    stream.on('end', () => session.close());
    stream.end();
  });
});
"""


@pytest.mark.parametrize("looked_into", [False, True], ids=["relayed", "looked-into"])
async def test_programs_and_protocols(
    programs_image: str, tmp_path: Path, looked_into: bool
) -> None:
    client = build_go_client(tmp_path, str(Path(sys.executable).with_name("go")))

    def zone(name: str, kind: str) -> list[str]:
        found = {(HOST, "A"): ADDRESS, (HOST, "AAAA"): SILENT}.get((name, kind))
        return [f"{name} 60 IN {kind} {found}"] if found else []

    with internet():
        async with site(tmp_path / "site", HOST, ADDRESS) as server, name_server(zone) as names:
            with silent(SILENT, server.port), silent(SILENT, server.grpc_port):
                options = {}
                if looked_into:
                    options = {"inspect": ["*.example.com"], "upstream_ca": server.authority}
                async with Sandbox.create(
                    image=programs_image, memory="768M", dns=[names.server],
                    network=Network(allow=[HOST]),
                    env={} if looked_into else dict.fromkeys(ENVIRONMENT, "/root/ca.pem"),
                    **options,  # type: ignore[arg-type]
                ) as sandbox:  # fmt: skip
                    await sandbox.files.write("/root/ca.pem", server.authority.read_bytes())
                    await sandbox.files.upload(client, "/usr/bin/client")
                    await sandbox.exec(["mkdir", "-p", "/opt"], check=True)
                    await sandbox.files.upload(package_folder("websockets"), "/opt/websockets")

                    async def run(*command: str) -> str:
                        result = await sandbox.exec(list(command), timeout=200)
                        said = result.stdout.decode() + result.stderr.decode()
                        assert result.exit_code == 0, (command, said, sandbox.network.flows()[-3:])
                        return result.stdout.decode().strip()

                    url = server.url("")
                    socket = await sandbox.spawn(
                        ["python3", "-c", SOCKET, url.replace("https", "wss") + "/socket"],
                        stdin=True,
                    )
                    assert await socket.stdout.read_line() == b"BEGUN\n", (
                        await socket.stderr.read()
                    ).decode()
                    # What follows goes on while the WebSocket stands.
                    written = "%{http_version} %{remote_ip}"
                    for version in ("1.1", "2"):
                        said = await run(
                            "curl",
                            "-sS",
                            "-m",
                            "100",
                            f"--http{version}",
                            "-w",
                            written,
                            f"{url}/hello",
                        )
                        assert said == f"hello\n{version} {ADDRESS}"  # the other family is silent
                    for version in ("1.1", "2"):
                        read = await run("python3", "-c", EVENT_READER, url, f"--http{version}")
                        assert read.split() == [*map(str, range(EVENTS)), "0"]
                    assert await run("client", "get", f"{url}/hello") == "HTTP/2.0 hello"
                    assert await run("client", "dial", f"{HOST}:{server.port}") == ADDRESS
                    call = f"https://{HOST}:{server.grpc_port}/test.Echo/Shout"
                    said = await run("client", "grpc", call, "one", "two", "three")
                    assert said == "ONE TWO THREE HTTP/2.0 status 0"
                    assert await run("node", "-e", NODE, url) == "1.1 hello 200 hello"
                    await run("git", "clone", "-q", f"{url}/git/project.git", "/root/project")
                    shell = (
                        "cd /root/project && cat file && head -c 3000000 /dev/urandom > more && "
                        "git add more && git -c user.name=a -c user.email=a@example.com "
                        "commit -q -m two && git push -q origin main && git rev-parse HEAD"
                    )
                    first, commit = (await run("sh", "-c", shell)).split("\n")
                    assert first == "of the repository"
                    assert commit == (server.repository / "refs/heads/main").read_text().strip()
                    await socket.stdin.write(b"\n")
                    assert await socket.stdout.read_line() == b"END\n"
                    assert (await socket.wait()).exit_code == 0
                    flows = [f for f in sandbox.network.flows() if f.protocol == "tcp"]
                    seen = [r for f in flows for r in f.requests]
                    if looked_into:
                        asked = {request["url"].removeprefix(url) for request in seen}
                        assert {"/hello", "/events", "/socket", call} <= asked
                    else:
                        assert not seen


async def test_a_value_in_the_frames_of_a_web_socket_is_masked(
    programs_image: str, tmp_path: Path
) -> None:
    """The server says what it was told, in capitals, and the value is written so."""
    value = VALUE.upper()

    def zone(name: str, kind: str) -> list[str]:
        return [f"{name} 60 IN A {ADDRESS}"] if (name, kind) == (HOST, "A") else []

    with internet():
        async with (
            site(tmp_path / "site", HOST, ADDRESS) as server,
            name_server(zone) as names,
            Sandbox.create(
                image=programs_image, memory="512M", dns=[names.server],
                network=Network(allow=[HOST]), upstream_ca=server.authority,
                secrets={"API_KEY": Secret(value, hosts=[HOST], mask_echo=True)},
                env={"SHOUTED": f"it is {VALUE}"},
            ) as sandbox,
        ):  # fmt: skip
            await sandbox.exec(["mkdir", "-p", "/opt"], check=True)
            await sandbox.files.upload(package_folder("websockets"), "/opt/websockets")
            address = server.url("/socket").replace("https", "wss")
            result = await sandbox.exec(
                ["python3", "-c", SOCKET, address], stdin=b"\n", timeout=200
            )
            placeholder = (await sandbox.exec("echo $API_KEY")).text
            said = result.stdout.decode()
            assert said == f"BEGUN\nIT IS {placeholder}", (said, result.stderr.decode())
