"""Fifty forks are fifty machines: no two draw the same numbers, bear the same ids, or are late."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from sandlot import Sandbox

FORKS = 50
# A program that has drawn all of these before it is saved, and draws them again afterwards.
DRAWER = """
import os, secrets, ssl, sys, time, uuid
def draw():
    yield 'openssl-fed', ssl.RAND_bytes(16).hex()
    yield 'urandom', os.urandom(16).hex()
    yield 'getrandom', os.getrandom(16).hex()
    yield 'uuid4', str(uuid.uuid4())
    yield 'secrets', secrets.token_hex(16)
    for name in ('uuid', 'boot_id'):
        yield name, open('/proc/sys/kernel/random/' + name).read().strip()
    yield 'machine-id', open('/etc/machine-id').read().strip()
    yield 'hostname', os.uname().nodename
dict(draw())
print('ready', flush=True)
while not os.path.exists('/run/sandlot/restored'):
    time.sleep(0.01)
ssl.RAND_add(os.urandom(32), 32.0)  # what the guide tells such programs to do
for name, value in draw():
    print(name, value)
print('time', repr(time.time()), repr(time.monotonic()), flush=True)
"""
# One that begins afterwards: what it draws comes from generators of user space.
STARTER = """
import ssl
context, a, b = ssl.create_default_context(), ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(a, b, server_hostname='example.com')
try: tls.do_handshake()
except ssl.SSLWantReadError: pass
hello = b.read()
print('openssl', ssl.RAND_bytes(16).hex())
print('client-random', hello[11:43].hex())
"""
GO = """
package main
import ("crypto/rand"; "fmt"; "os"; "time")
func main() {
	var b [16]byte
	rand.Read(b[:])
	fmt.Println("ready")
	for { if _, err := os.Stat("/run/sandlot/restored"); err == nil { break }; time.Sleep(10*time.Millisecond) }
	rand.Read(b[:])
	fmt.Printf("go %x\\n", b)
}
"""


def go_program(folder: Path) -> bytes:
    """The Go program, linked statically."""
    (folder / "main.go").write_text(GO)
    environment = os.environ | {
        "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOOS": "linux",
    }  # fmt: skip
    go = Path(sys.executable).with_name("go")
    subprocess.run(
        [go, "build", "-o", folder / "program", folder / "main.go"],
        check=True, env=environment, cwd=folder,
    )  # fmt: skip
    return (folder / "program").read_bytes()


async def late(sandbox: Sandbox) -> float:
    """How far the clock is from the host's at least: what the question's own time cannot explain."""
    before = time.time()
    text = (await sandbox.exec(["date", "+%s.%N"], check=True)).text
    after = time.time()
    return max(before - float(text), float(text) - after, 0.0)


async def test_no_two_forks_are_alike(image: str, tmp_path: Path) -> None:
    async with Sandbox.create(image=image, memory="256M") as sandbox:
        await sandbox.files.write("/root/program", await asyncio.to_thread(go_program, tmp_path),
                                  mode=0o755)  # fmt: skip
        running = [
            await sandbox.spawn(command, detached=True)
            for command in (["python3", "-c", DRAWER], ["/root/program"])
        ]
        for job in running:
            while not await job.logs():
                await asyncio.sleep(0.05)
        snap = await sandbox.snapshot()
        said: dict[str, list[str]] = {}
        clocks: list[float] = []
        slots = asyncio.Semaphore(4)

        async def one(number: int) -> None:
            async with slots, snap.restore() as twin:
                clocks.append(await late(twin))
                lines = (await twin.exec(["python3", "-c", STARTER], check=True)).text.splitlines()
                for job in await twin.jobs():
                    await job.wait()
                    text = b"".join([piece.data for piece in await job.logs()]).decode()
                    lines += text.splitlines()
                for line in lines:
                    name, _, value = line.partition(" ")
                    said.setdefault(name, []).append(value)

        try:
            await asyncio.gather(*(one(number) for number in range(FORKS)))
        finally:
            await snap.remove()
    del said["ready"]
    monotonic = [float(value.split()[1]) for value in said.pop("time")]
    assert len(monotonic) == FORKS
    assert set(said) == {
        "urandom", "getrandom", "uuid4", "secrets", "uuid", "boot_id", "machine-id", "hostname",
        "openssl", "openssl-fed", "client-random", "go",
    }  # fmt: skip
    for name, values in said.items():
        assert len(values) == FORKS, name
        assert len(set(values)) == FORKS, f"{name}: {sorted(values)}"
    assert max(clocks) < 0.05, sorted(clocks)
