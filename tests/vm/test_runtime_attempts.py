"""What a guest tries as root, with bytes of its own, to have more than the runtime it was lent.

One sandbox tries all of it, beside one of the host's user that it must not reach: a machine costs
more than all the attempts.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from typing import Any

import pytest

from sandlot import ExecContext, Network, RuntimeAccess, Sandbox, Secret

VALUE = "the-value-that-no-guest-holds"
ORDERS = "\x1b]0;owned\x07\x1b[2J"
TRYING = r"""
import json, socket, struct, sys, threading
given = json.loads(sys.argv[1])
INPUT = struct.pack("!BI", 5, 1) + b"x"

def frame(**fields):
    data = json.dumps({"version": 1, **fields}).encode()
    return struct.pack("!BI", 1, len(data)) + data

def connect(data):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(600)
    s.connect("/run/sandlot/runtime.sock")
    s.sendall(data)
    return s

def taken(s, size):
    data = b""
    while len(data) < size:
        piece = s.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data

def ask(**fields):
    s, output = connect(frame(**fields)), []
    with s:
        while True:
            kind, size = struct.unpack("!BI", taken(s, 5))
            data = taken(s, size)
            if kind in (2, 3):
                said = json.loads(data)
                said["output"] = b"".join(output).decode(errors="replace")[:100_000]
                said["pieces"] = len(output)
                return said
            if kind != 7:  # what ld.so says of LD_PRELOAD
                output.append(data)

def gives_up_with_input():
    for _ in range(40):  # more than may be under way
        connect(frame(op="exec", peer="p", command=["sleep", "10000"], stdin=True) + INPUT * 50).close()
    while "error" in (said := ask(op="list")):
        assert "under way" in said["message"], said
    for _ in range(600):
        left = ask(op="exec", peer="p", command=["sh", "-c", "grep -l 10000 /proc/[0-9]*/cmdline | wc -l"])
        # The shell itself has the number, and the pattern of grep.
        if int(left["output"]) <= 2:
            return {"left": 0}
    return {"left": left["output"]}

def stopped_while_starting():
    def start():
        ask(op="start", name="s", memory="128M")
    def stop():
        ask(op="stop", peer="s", kill=True)
    for _ in range(3):
        both = [threading.Thread(target=each) for each in (start, start, stop, stop)]
        for each in both: each.start()
        for each in both: each.join()
    ask(op="stop", peer="s", kill=True)
    return ask(op="list")

if given.get("last"):
    # Who does not end when it is asked to is asked to for three years; the program does not wait.
    connect(frame(op="stop", peer="p", grace=1e8))
    print(ask(op="list")["pieces"])
    sys.exit()
tried = {}
for id, fields in given["requests"]:
    tried[id] = ask(**fields)
tried["gives-up-with-input"] = gives_up_with_input()
tried["stopped-while-starting"] = stopped_while_starting()
print(json.dumps(tried))
"""
STUBBORN = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
NOT_FOUND = ("Refuse", "has started none")
FOLDER = "mkdir /many && cd /many && seq 1 3000 | xargs touch"


def requests(owner: Sandbox, victim: Sandbox) -> list[tuple[str, dict[str, Any], object]]:
    """id, what is asked, and what becomes of it: an error, or a word in the output."""
    of_victim: list[tuple[str, dict[str, Any], object]] = []
    for number, peer in enumerate((
        victim.name, victim.id, victim.id[:4], f"../{victim.name}", f"{owner.name}.../{victim.name}",
        owner.name, owner.id, f"{owner.name}.p",
    )):  # fmt: skip
        of_victim += [
            (f"exec-{number}", {"op": "exec", "peer": peer, "command": ["id"]}, NOT_FOUND),
            (f"read-{number}", {"op": "read", "peer": peer, "path": "/etc/hostname"}, NOT_FOUND),
            (f"logs-{number}", {"op": "logs", "peer": peer, "follow": True}, NOT_FOUND),
            (f"stop-{number}", {"op": "stop", "peer": peer, "kill": True}, NOT_FOUND),
        ]
    look = "cat /proc/[0-9]*/environ; env; cat /run/sandlot/* /etc/* 2>/dev/null; dmesg"
    return [
        *of_victim,
        ("start", {
            "op": "start", "name": "p", "memory": "128M", "secrets": ["K"], "command": STUBBORN,
            "env": {ORDERS: ORDERS, "A\nB": "c", "LD_PRELOAD": "/none", "-": "--", "IFS": "x"},
            "workdir": "/../../tmp",
        }, ""),
        ("no-more", {"op": "start", "name": "r", "memory": "256M"}, ("Refuse", "are left")),
        ("user-of-orders", {
            "op": "start", "name": "u", "memory": "128M", "user": ORDERS, "command": ["true"],
        }, ("Refuse", "could not be started")),
        ("command-of-orders", {
            "op": "start", "name": "c", "memory": "128M", "command": [ORDERS],
        }, ("Refuse", "could not be started")),
        ("folder-above-all", {
            "op": "read", "peer": "p", "path": "../../../../../../../../etc/hostname",
        }, "p\n"),
        ("files-of-the-host", {"op": "read", "peer": "p", "path": str(owner.folder.path / "sandbox.json")},
         ("FileNotFound", "no such file")),
        ("path-of-locks", {"op": "read", "peer": "p", "path": "\U0001f512" * 4096},
         ("FileError", "too long")),
        ("value", {"op": "exec", "peer": "p", "command": ["sh", "-c", look]}, "PATH="),
        ("many-files", {"op": "exec", "peer": "p", "command": ["sh", "-c", FOLDER]}, ""),
        ("list-many", {"op": "files", "peer": "p", "path": "/many"}, "/many/"),
        ("timeout-small", {
            "op": "exec", "peer": "p", "command": ["sleep", "10"], "timeout": 1e-9,
        }, ""),
    ]  # fmt: skip


class Seen:
    """Who asked for what is run."""

    def __init__(self) -> None:
        self.callers: dict[str, str] = {}

    def on_exec(self, context: ExecContext) -> None:
        self.callers[context.argv[-1]] = context.caller_id


async def peers_of(owner: Sandbox) -> list[str]:
    return [each.record.name for each in await Sandbox.list() if each.record.started_by == owner.id]


async def test_a_guest_that_tries_everything(image: str) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    seen = Seen()
    grant = RuntimeAccess(2, images=[image], memory="256M", secrets=["K"], disk="256M")
    name = f"tries-{os.urandom(3).hex()}"
    most = 0
    async with (
        Sandbox.create(image=image, memory="256M", network=Network.deny_all()) as victim,
        Sandbox.create(
            name, image=image, memory="256M", network=Network.deny_all(), runtime=grant,
            plugins=[seen], secrets={"K": Secret(VALUE, hosts=["a.example"])},
        ) as owner,
    ):  # fmt: skip
        table = requests(owner, victim)
        await owner.files.write("/root/trying.py", TRYING)
        given = json.dumps({"requests": [(id_, fields) for id_, fields, _ in table]})
        running = asyncio.ensure_future(
            owner.exec(["python3", "/root/trying.py", given], timeout=1200)
        )
        while not running.done():
            most = max(most, len(await peers_of(owner)))
            await asyncio.sleep(0.05)
        result = await running
        assert result.exit_code == 0, result.stderr[-2000:]
        tried = json.loads(result.stdout)
        wrong = {
            id_: tried[id_] for id_, _, expected in table if not as_expected(tried[id_], expected)
        }
        assert not wrong
        assert tried["list-many"]["pieces"] == 3000
        assert VALUE not in result.text
        assert tried["gives-up-with-input"]["left"] == 0
        assert tried["stopped-while-starting"]["pieces"] == 1
        assert most <= 2
        # The one of the host's user has noticed nothing.
        assert (await victim.exec("ls / /tmp && hostname", check=True)).text.endswith(
            f"{victim.record.hostname}\n"
        )
        # Whoever comes by the door is no guest.
        peer = await Sandbox.get(f"{name}.p")
        assert (await peer.exec(["echo", "by the host"])).text == "by the host\n"
        assert seen.callers["by the host"] == ""
        assert seen.callers[FOLDER] == owner.id
        await shows_no_orders()
        last = await owner.exec(["python3", "/root/trying.py", json.dumps({"last": True})])
        assert last.text == "1\n", last.stderr
    # That one was told to wait for three years does not keep it alive.
    assert not await peers_of(owner)
    assert not peer.folder.path.exists()
    gc.collect()
    assert not faults


def as_expected(said: dict[str, Any], expected: object) -> bool:
    if isinstance(expected, tuple):
        kind, words = expected
        return said.get("error") == kind and words in said["message"]
    return "error" not in said and str(expected) in said["output"]


async def shows_no_orders() -> None:
    for arguments in (["events", "--no-follow"], ["ps", "-a", "--no-trunc"]):
        shown = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sandlot.cli.main", *arguments, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await shown.communicate()
        assert shown.returncode == 0
        assert b"\x1b" not in output and b"\x07" not in output


@pytest.mark.parametrize("lifetime", ["detached"])
async def test_a_detached_one_shows_no_orders_either(image: str, lifetime: Any) -> None:
    grant = RuntimeAccess(1, images=[image], memory="128M", lifetime=lifetime)
    async with Sandbox.create(image=image, memory="256M", runtime=grant) as owner:
        try:
            await owner.exec(["sandlot", "start", "d", "--", "sleep", "1000", ORDERS], check=True)
            await shows_no_orders()
        finally:
            for each in await peers_of(owner):
                await (await Sandbox.get(each)).remove()
