"""Snapshots and restores of a guest under load: what is written to disk stays whole in each.

python -m bench.branches [--rounds 200] [--seed N] [--image demo]

The guest has writers with fsync, an SQLite database in WAL mode that two processes write to, 50
processes that come and go, and a connection to a server of the host that is never idle. In each
round it is saved at a random moment and restored; the child's database passes its integrity check
and the writers' own accounts agree, in the child and, from time to time, in its disk alone. The
saved one is paused while its child is looked at, and goes on before it is saved again.

What it prints is its result: the seed, each fault as it is met, the totals.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.crashes import until
from bench.soak import environment, own_state
from sandlot import Network, Sandbox, SandboxError, Snapshot

LOAD = r"""
import os, sqlite3, subprocess, sys, socket, time, hashlib

def database(number):
    base = sqlite3.connect('/root/load.db', timeout=60, isolation_level=None)
    base.execute('PRAGMA journal_mode=WAL'); base.execute('PRAGMA synchronous=FULL')
    base.execute('CREATE TABLE IF NOT EXISTS account (who INTEGER, number INTEGER, sum INTEGER)')
    base.execute('CREATE TABLE IF NOT EXISTS filler (data BLOB)')
    total = count = 0
    while True:
        count += 1; total += count
        base.execute('BEGIN IMMEDIATE')
        base.execute('INSERT INTO account VALUES (?, ?, ?)', (number, count, total))
        base.execute('INSERT INTO filler VALUES (?)', (os.urandom(600),))
        base.execute('DELETE FROM account WHERE who = ? AND number < ?', (number, count - 50))
        base.execute('DELETE FROM filler WHERE rowid < (SELECT max(rowid) FROM filler) - 300')
        base.execute('COMMIT')
        time.sleep(0.02)  # the pace of the load: the other writer gets its turn

def writer(number):
    count = 0
    while True:
        count += 1
        data = (b'%d ' % count) * 2000
        with open(f'/root/w{number}.new', 'wb') as file:
            file.write(hashlib.sha256(data).hexdigest().encode() + data); file.flush()
            os.fsync(file.fileno())
        os.rename(f'/root/w{number}.new', f'/root/w{number}')
        time.sleep(0.05)  # the pace of the load

def network(port):
    count = 0
    while True:
        try:
            with socket.create_connection(('host.sandlot.internal', port), timeout=30) as sock:
                while True:
                    count += 1
                    sent = b'%012d' % count * 300
                    sock.sendall(sent)
                    got = b''
                    while len(got) < len(sent):
                        piece = sock.recv(65536)
                        if not piece: raise OSError('ended')
                        got += piece
                    if got != sent:
                        open('/root/wrong', 'w').write('other bytes came back'); os._exit(1)
                    with open('/dev/shm/net.new', 'w') as file: file.write(str(count))
                    os.rename('/dev/shm/net.new', '/dev/shm/net')
                    time.sleep(0.02)  # the pace of the load
        except OSError:
            time.sleep(0.1)  # a child's connection was reset: it makes another

def processes():
    while True:
        those = [subprocess.Popen(['sleep', str(5 + n % 7)]) for n in range(50)]
        for each in those:
            if each.wait(): open('/root/wrong', 'w').write(f'sleep ended with {each.returncode}')

kind, number = sys.argv[1], int(sys.argv[2])
{'database': database, 'writer': writer, 'network': network}.get(kind, lambda _: processes())(number)
"""

JUDGE = r"""
import hashlib, os, sqlite3, sys
live = sys.argv[1] == 'live'
base = sqlite3.connect('/root/load.db', timeout=120)
answer = base.execute('PRAGMA integrity_check').fetchall()
assert answer == [('ok',)], answer
for who in (1, 2):
    rows = base.execute('SELECT number, sum FROM account WHERE who = ? ORDER BY number', (who,))
    rows = rows.fetchall()
    assert rows, who
    numbers = [number for number, _ in rows]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), numbers
    assert all(total == number * (number + 1) // 2 for number, total in rows), rows
for number in (1, 2, 3):
    data = open(f'/root/w{number}', 'rb').read()
    assert hashlib.sha256(data[64:]).hexdigest().encode() == data[:64], number
assert not os.path.exists('/root/wrong'), open('/root/wrong').read()
last = base.execute('SELECT max(number) FROM account').fetchone()[0]
running = 0
for name in os.listdir('/proc'):
    if name.isdigit():
        try: running += b'sleep' in open(f'/proc/{name}/cmdline', 'rb').read()
        except OSError: pass
print(last, open('/dev/shm/net').read() if live else 0, running)
"""


@dataclass
class Totals:
    """What was done, and what was wrong."""

    rounds: int = 0
    disk_rounds: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _look(sandbox: Sandbox, *, live: bool = True) -> tuple[int, int, int]:
    """Judge what is in it; how far its database and its connection are, and its processes."""
    done = await sandbox.exec(["python3", "-c", JUDGE, "live" if live else "disk"], timeout=180)
    if done.exit_code:
        raise AssertionError(f"{sandbox.name}: {done.stderr.decode(errors='replace')[-600:]}")
    database, network, running = map(int, done.text.split())
    return database, network, running


async def _goes_on(sandbox: Sandbox) -> None:
    """Its database and its connection get further."""
    database, network, _ = await _look(sandbox)
    deadline = time.monotonic() + 120
    while True:
        now = await _look(sandbox)
        if now[0] > database and now[1] > network:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{sandbox.name} stands still: {(database, network)} and {now}")
        await asyncio.sleep(0.2)


async def branches(image: str, *, rounds: int, seed: int, say: Any = print) -> Totals:
    """So many rounds; what was done."""
    dice = random.Random(seed)
    totals = Totals()
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    network = Network(allow=[f"host:{port}"])
    try:
        async with Sandbox.create("under-load", image=image, memory="512M", network=network) as sb:
            await sb.files.write("/root/load.py", LOAD)
            for words in (("database", 1), ("database", 2), ("writer", 1), ("writer", 2),
                          ("writer", 3), ("network", port), ("processes", 0)):  # fmt: skip
                await sb.spawn(["python3", "/root/load.py", *map(str, words)], detached=True)
            ready = "test -e /root/w1 -a -e /root/w2 -a -e /root/w3 -a -e /dev/shm/net"
            deadline = time.monotonic() + 180
            while (await sb.exec(ready)).exit_code:
                if time.monotonic() > deadline:
                    raise AssertionError("the load does not begin")
                await asyncio.sleep(0.2)
            begun = "SELECT count(DISTINCT who) FROM account"
            query = (
                "import sqlite3; base = sqlite3.connect('/root/load.db', timeout=60); "
                f"print(base.execute('{begun}').fetchone()[0])"
            )
            while (await sb.exec(["python3", "-c", query])).text.strip() != "2":
                if time.monotonic() > deadline:
                    raise AssertionError("a writer of the database does not begin")
                await asyncio.sleep(0.2)
            await _goes_on(sb)
            for number in range(1, rounds + 1):
                await asyncio.sleep(0.3 + dice.random())  # a moment that nobody chose
                await _round(sb, number, dice, totals)
                if sb.status != "running":
                    totals.wrong.append(f"the sandbox under load is {sb.status}")
                    return totals
                if number % 10 == 0:
                    say(f"{number} rounds, {len(totals.wrong)} wrong, longest pause "
                        f"{totals.longest * 1000:.0f} ms", flush=True)  # fmt: skip
            await _goes_on(sb)
    finally:
        server.close()
        await server.wait_closed()
    return totals


async def _round(sb: Sandbox, number: int, dice: random.Random, totals: Totals) -> None:
    snap: Snapshot | None = None
    try:
        snap = await sb.snapshot()
        totals.longest = max(totals.longest, snap.record.pause)
        await sb.pause()  # the processors are for the child, which goes on with the same load
        async with snap.restore() as child:
            _, _, running = await _look(child)
            if running < 1:
                raise AssertionError("its processes are gone")
            if number % 5 == 0:
                await _goes_on(child)
        if dice.random() < 0.2:
            async with snap.restore(disk_only=True) as child:
                await _look(child, live=False)
            totals.disk_rounds += 1
        await sb.resume()
        if number % 5 == 0:
            await _goes_on(sb)
    except (SandboxError, OSError, AssertionError, ValueError) as error:
        tail = getattr(error, "console_tail", "")
        totals.wrong.append(
            f"round {number}: {type(error).__name__}: {error} {tail[-1500:]}".strip()
        )
        print(f"WRONG: {totals.wrong[-1]}", flush=True)
    finally:
        totals.rounds += 1
        with contextlib.suppress(SandboxError):
            await sb.resume()
        if snap is not None:
            await snap.remove(cascade=True)


def main() -> int:
    """Run it on a state directory of its own."""
    parser = argparse.ArgumentParser(prog="bench.branches")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--image", default="demo")
    a = parser.parse_args()
    from sandlot.settings import Settings

    print(f"seed {a.seed}", flush=True)
    began = time.monotonic()
    with own_state(Settings.read().data) as state:
        environment(state)

        async def run() -> Totals:
            totals = await branches(a.image, rounds=a.rounds, seed=a.seed)
            await until(lambda: not any((state / "sandboxes").iterdir()), "sandboxes are left")
            return totals

        totals = asyncio.run(run())
        totals.wrong += [f"left: {each}" for each in (state / "snapshots").iterdir()]
    print(
        f"{totals.rounds} rounds, {totals.disk_rounds} also from the disk alone, longest pause "
        f"{totals.longest * 1000:.0f} ms, {time.monotonic() - began:.0f} s"
    )
    for each in totals.wrong:
        print(f"WRONG: {each}")
    print("all whole" if not totals.wrong else f"{len(totals.wrong)} things are wrong")
    return 1 if totals.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
