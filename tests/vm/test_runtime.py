"""Sandboxes that start sandboxes: within their owner's grant, and never beyond it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE

from sandlot import (
    ExecContext,
    Network,
    Refuse,
    RuntimeAccess,
    Sandbox,
    Secret,
    StartContext,
)
from tests.framework.secret_upstream import HOST, Upstream

VALUE = "the-value-of-the-secret"
AGENT = """
import asyncio, os, subprocess, sys
from sandlot import CommandNotFound, FileNotFound, Network, Refuse, Sandbox, SandboxError

async def main():
    rt = await Sandbox.current_runtime()
    r = await rt.start("researcher", image="test", secrets=["SERP_KEY"],
                       network=Network.deny_all(), env={"A": "b"},
                       command=["sh", "-c", "echo said; echo wrong >&2; sleep 1000"])
    shown = await r.exec("cat; echo $A $SERP_KEY; hostname; exit 3", stdin="typed ")
    assert shown.exit_code == 3, shown
    typed, variable, key, name = shown.text.split()
    assert (typed, variable, name) == ("typed", "b", "researcher"), shown
    assert key != os.environ["SERP_KEY"] and len(key) > 10, shown  # placeholders, one for each
    await r.files.write("/tmp/folder/a", b"x" * 200_000, parents=True, mode=0o600)
    assert await r.files.read("/tmp/folder/a") == b"x" * 200_000
    listed = [(f.path, f.size, f.mode) for f in await r.files.list("/tmp/folder")]
    assert listed == [("/tmp/folder/a", 200_000, 0o600)], listed
    await r.files.remove("/tmp/folder", recursive=True)
    try:
        await r.files.read("/tmp/folder/a")
        raise AssertionError("it is there")
    except FileNotFound as error:
        assert error.errno == 2
    try:
        await r.exec(["no-such-program"])
        raise AssertionError("it ran")
    except CommandNotFound:
        pass
    lines = b""
    async for piece in r.logs(follow=True):
        lines += piece
        if lines.count(b"\\n") == 2:
            break
    assert sorted(lines.split()) == [b"said", b"wrong"], lines

    for wrong, why in (
        (dict(image="net"), "not granted"), (dict(memory="2G"), "were granted"),
        (dict(secrets=["OTHER"]), "not granted"), (dict(cpus=64), "were granted"),
        (dict(name="researcher"), "already"), (dict(disk="1T"), "were granted"),
    ):
        try:
            await rt.start(**wrong)
            raise AssertionError(wrong)
        except Refuse as error:
            assert why in error.message, error.message

    # Its own, and those of others, are not there for it.
    own = subprocess.run(["sandlot", "exec", sys.argv[1], "id"], capture_output=True, text=True)
    assert own.returncode == 125 and "started none" in own.stderr, own

    # The command, which needs no Python.
    run = lambda *a, **k: subprocess.run(a, capture_output=True, text=True, **k)
    assert run("sandlot", "ls").stdout.split()[:2] == ["researcher", "running"]
    piped = run("sandlot", "exec", "-i", "researcher", "sh", "-c", "cat; exit 7", input="through")
    assert (piped.stdout, piped.returncode) == ("through", 7), piped
    assert run("sandlot", "exec", "researcher", "no-such-program").returncode == 127
    made = run("sandlot", "start", "--deny-all", "second")
    assert made.stdout == "second\\n", made
    full = run("sandlot", "start", "third")
    assert full.returncode == 125 and "2 of 2 sandboxes are taken" in full.stderr, full
    assert run("sandlot", "stop", "second").returncode == 0
    assert [p.name for p in await rt.list()] == ["researcher"]
    print("all is well")

asyncio.run(main())
"""
# Says what the server got: the value, or something else.
ASKING = """
import os, urllib.request
request = urllib.request.Request("https://host.sandlot.internal:PORT/",
                                 headers={"Authorization": "Bearer " + os.environ["API_KEY"]})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
NESTED = """
import asyncio
from sandlot import Refuse, RuntimeAccess, Sandbox, SandboxError

async def main():
    rt = await Sandbox.current_runtime()
    peer = await rt.start("middle", runtime=RuntimeAccess(1, memory="512M"))
    made = await peer.exec(["sandlot", "start", "inner"])
    assert made.text == "inner\\n", made
    again = await peer.exec(["sandlot", "start", "another"])
    assert b"1 of 1 sandboxes are taken" in again.stderr, again
    for wrong in (RuntimeAccess(1), RuntimeAccess(1, max_depth=2)):
        try:
            await rt.start("other", runtime=wrong)
            raise AssertionError(wrong)
        except Refuse:
            pass
    print("nested", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
PROGRAM = """
import asyncio, sys
from sandlot import RuntimeAccess, Sandbox

async def main():
    grant = RuntimeAccess(2, images=[sys.argv[1]], memory="1G", max_depth=2)
    owner = await Sandbox.create(sys.argv[2], image=sys.argv[1], memory="512M", runtime=grant)
    await owner.files.write("/root/nested.py", sys.stdin.read())
    process = await owner.spawn(["python3", "/root/nested.py"])
    print((await process.stdout.read_line()).decode() or await process.stderr.read(), flush=True)
    await process.wait()

asyncio.run(main())
"""
HOSTILE = """
import json, random, socket, struct, sys
SOCKET = "/run/sandlot/runtime.sock"
def connect(data):
    s = socket.socket(socket.AF_UNIX)
    s.connect(SOCKET)
    s.sendall(data)
    return s
def request(**fields):
    data = json.dumps({"version": 1, **fields}).encode()
    return struct.pack("!BI", 1, len(data)) + data
random.seed(int(sys.argv[1]))
# A thousand at once: some go away in the middle, some say nonsense, some never say anything.
kept = []
for n in range(1000):
    kind = n % 5
    try:
        if kind == 0:
            kept.append(connect(request(op="start", name=f"n{n}")))
        elif kind == 1:
            connect(request(op="start", memory="1G")).close()
        elif kind == 2:
            connect(random.randbytes(100)).close()
        elif kind == 3:
            connect(struct.pack("!BI", 1, 1 << 31) + bytes(1000)).close()
        else:
            connect(request(op="exec", peer="n0", command=["yes"])[:random.randrange(40)]).close()
    except OSError:
        pass
answers = {2: 0, 3: 0, None: 0}
for s in kept:
    try:
        head = s.recv(5, socket.MSG_WAITALL)
    except OSError:
        head = b""
    answers[head[0] if head else None] += 1
    s.close()
print(json.dumps({"started": answers[2], "refused": answers[3], "cut": answers[None]}))
"""


async def peers_of(owner: Sandbox) -> list[str]:
    return [each.record.name for each in await Sandbox.list() if each.record.started_by == owner.id]


async def test_a_sandbox_starts_and_uses_others_within_its_grant(image: str) -> None:
    grant = RuntimeAccess(
        2, images=[image], memory="1G", secrets=["SERP_KEY"], network=Network(allow=["a.example"])
    )
    async with Sandbox.create(
        "asker", image=image, memory="512M", network=Network.deny_all(), runtime=grant,
        secrets={"SERP_KEY": Secret(VALUE, hosts=["a.example"])},
    ) as owner:  # fmt: skip
        await owner.files.write("/root/agent.py", AGENT)
        result = await owner.exec(["python3", "/root/agent.py", owner.id], timeout=600)
        assert result.text == "all is well\n", (result.stdout, result.stderr)
        # The package can be installed without a network, too; another user may use it.
        names = await owner.exec("ls /run/sandlot/runtime")
        assert [name.rpartition(".")[2] for name in names.text.split()] == ["sandlot", "whl"]
        listed = await owner.exec(["sandlot", "ls", "--json"], user="1000")
        assert [each["name"] for each in json.loads(listed.stdout)] == ["researcher"]
        # The host sees a sandbox like any other, held to both policies.
        (name,) = await peers_of(owner)
        peer = await Sandbox.get(name)
        assert name == "asker.researcher"
        network = Network.from_json(peer.record.network)
        assert (network.default, network.ceiling) == ("deny", grant.network)
        for sandbox in (owner, peer):
            everywhere = await sandbox.exec(
                "cat /proc/*/environ; env; find /run -type f | xargs cat"
            )
            assert VALUE.encode() not in everywhere.stdout
    assert not peer.folder.path.exists()
    assert not await peers_of(owner)


async def test_a_secret_is_put_in_for_a_peer_and_only_within_its_network(
    net_image: str, upstream: tuple[Upstream, int, int, str]
) -> None:
    server, port, _, bundle = upstream
    grant = RuntimeAccess(
        1, images=[net_image], memory="512M", network=Network(allow=["host"]), secrets=["API_KEY"]
    )
    async with Sandbox.create(
        image=net_image, memory="512M", secrets={"API_KEY": (server.value, HOST)},
        network=Network.deny_all(), upstream_ca=bundle, runtime=grant,
    ) as owner:  # fmt: skip
        await owner.files.write("/root/ask.py", ASKING.replace("PORT", str(port)))
        copy = "sandlot cp /root/ask.py {0}:/root/ask.py && sandlot exec {0} python3 /root/ask.py"
        assert (await owner.exec(["python3", "/root/ask.py"])).exit_code == 1
        got = await owner.exec(f"sandlot start --secret API_KEY p && {copy.format('p')}")
        assert got.text == "p\nvalue\n", (got.stdout, got.stderr)
        closed = f"sandlot start --secret API_KEY --deny-all q && {copy.format('q')}"
        refused = await owner.exec(f"sandlot stop --kill p && {closed}")
        assert (refused.text, refused.exit_code) == ("q\n", 1), refused.stderr


async def test_a_hostile_guest_gets_no_more_than_its_grant(image: str) -> None:
    grant = RuntimeAccess(1, images=[image], memory="512M")
    async with Sandbox.create(
        image=image, memory="512M", runtime=grant, network=Network.deny_all()
    ) as owner:
        await owner.files.write("/root/hostile.py", HOSTILE)
        most = 0
        running = asyncio.ensure_future(
            owner.exec(["python3", "/root/hostile.py", "1"], timeout=600)
        )
        while not running.done():
            most = max(most, len(await peers_of(owner)))
            await asyncio.sleep(0.05)
        result = await running
        answers = json.loads(result.stdout or b"{}")
        assert answers.get("refused", 0) > 0, (result.stdout, result.stderr)
        assert sum(answers.values()) == 200
        assert most <= 1
        assert len(await peers_of(owner)) <= 1
        # It still serves who asks in order.
        listed = json.loads((await owner.exec(["sandlot", "ls", "--json"], check=True)).stdout)
        assert len(listed) <= 1
        for each in listed:
            await owner.exec(["sandlot", "stop", "--kill", each["name"]], check=True)
        started = await owner.exec(["sandlot", "start", "last"])
        assert started.text == "last\n", started.stderr
    assert not await peers_of(owner)


async def test_all_of_them_end_with_the_program_that_runs_their_owner(image: str) -> None:
    name = f"owner-{os.urandom(3).hex()}"
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, image, name, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert program.stdin is not None and program.stdout is not None and program.stderr is not None
    try:
        program.stdin.write(NESTED.encode())
        program.stdin.write_eof()
        said = await program.stdout.readline()
        assert said == b"nested\n", (said, await program.stderr.read())
        running = {each.record.name for each in await Sandbox.list()}
        names = {name, f"{name}.middle", f"{name}.middle.inner"}
        assert names <= running
    finally:
        program.kill()
        await program.communicate()
    left = {each.record.name for each in await Sandbox.list()} & names
    while left - {name}:
        await asyncio.sleep(0.05)
        left = {each.record.name for each in await Sandbox.list()} & names
    assert left == {name}  # which is there until it is removed
    await (await Sandbox.get(name)).remove()


async def test_without_a_grant_there_is_nothing_to_ask(sb: Sandbox) -> None:
    assert (await sb.exec("ls /run/sandlot/runtime.sock")).exit_code != 0
    assert (await sb.exec("command -v sandlot")).exit_code != 0


async def test_detached_peers_live_on_and_are_counted_again(image: str) -> None:
    grant = RuntimeAccess(1, images=[image], memory="512M", lifetime="detached")
    owner = await Sandbox.create(image=image, memory="512M", runtime=grant)
    names: list[str] = []
    try:
        await owner.exec(["sandlot", "start", "helper", "--", "sleep", "1000"], check=True)
        await owner.stop(kill=True)
        names = await peers_of(owner)
        assert len(names) == 1
        assert (await Sandbox.get(names[0])).status == "running"
        await owner.start()
        refused = await owner.exec(["sandlot", "start", "other"])
        assert b"1 of 1 sandboxes are taken" in refused.stderr
        assert (await owner.exec(["sandlot", "exec", "helper", "true"])).exit_code == 0
        await owner.exec(["sandlot", "stop", "--kill", "helper"], check=True)
        assert not await peers_of(owner)
    finally:
        for name in names:
            if name in await peers_of(owner):
                await (await Sandbox.get(name)).remove()
        await owner.remove()


class Seen:
    """Sees what is started, and refuses one thing of each kind."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, str]] = []

    def on_start(self, context: StartContext) -> None:
        self.all.append(("start", context.sandbox, context.caller_id))
        if context.sandbox.endswith("unwanted"):
            raise Refuse("it is not wanted")

    def on_exec(self, context: ExecContext) -> None:
        self.all.append((" ".join(context.argv), context.sandbox, context.caller_id))
        if context.argv[0] == "reboot":
            raise Refuse("no reboots")


async def test_plugins_of_a_sandbox_are_asked_about_what_it_starts(image: str) -> None:
    seen = Seen()
    grant = RuntimeAccess(2, images=[image], memory="512M")
    async with Sandbox.create(image=image, memory="256M", runtime=grant, plugins=[seen]) as sb:
        await sb.exec(["sandlot", "start", "peer", "--", "sleep", "1000"], check=True)
        await sb.exec(["sandlot", "exec", "peer", "true"], check=True)
        refused = await sb.exec(["sandlot", "exec", "peer", "reboot"])
        unwanted = await sb.exec(["sandlot", "start", "unwanted"])
        listed = (await sb.exec(["sandlot", "ls"], check=True)).text
        peer = f"{sb.name}.peer"
    assert b"no reboots" in refused.stderr and refused.exit_code != 0
    assert b"it is not wanted" in unwanted.stderr and unwanted.exit_code != 0
    assert "unwanted" not in listed
    by_peer = [each for each in seen.all if each[1] == peer]
    assert by_peer == [
        ("start", peer, sb.id), ("sleep 1000", peer, sb.id), ("true", peer, sb.id),
        ("reboot", peer, sb.id),
    ]  # fmt: skip
    assert all(caller == "" for _, name, caller in seen.all if name == sb.name)
