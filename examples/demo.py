"""What `make demo` shows: an agent's program in a microVM, and what a bad one cannot do."""

from __future__ import annotations

import asyncio
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandlot import Sandbox
from sandlot.cli.doctor import examine
from sandlot.cli.output import Progress
from sandlot.image import build_debian_image
from sandlot.sandbox.host import Host

HERE = Path(__file__).parent


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print what is done and how long it took."""
    print(f"\n== {title}", flush=True)
    began = time.perf_counter()
    yield
    print(f"   [{time.perf_counter() - began:.2f} s]", flush=True)


def show(text: str) -> None:
    """Print a sandbox's output, indented."""
    for line in text.rstrip().splitlines():
        print(f"   {line}")


async def report(sb: Sandbox) -> None:
    data = (HERE / "data" / "weather.csv").read_bytes()
    program = (HERE / "agent_program.py").read_text()
    with step("An agent's program runs in the sandbox: data in, report out"):
        result = await sb.exec(["python3", "-c", program], stdin=data, timeout="60s", check=True)
        show(result.text)
        show((await sb.exec(["cat", "/root/report.md"], check=True)).text)


async def kernels(sb: Sandbox) -> None:
    with step("Two kernels"):
        inside = (await sb.exec(["uname", "-r"], check=True)).text.strip()
        print(f"   outside: {platform.release()}\n   inside:  {inside}")


async def harm() -> None:
    with step("A fork bomb and a disk filler in one sandbox, while another one answers"):
        async with (
            Sandbox.create(image="demo", memory="512M", disk="256M") as bad,
            Sandbox.create(image="demo", memory="512M") as good,
        ):
            await bad.spawn(["bash", "-c", "b() { b | b & }; b; sleep 600"], detached=True)
            filler = await bad.spawn("dd if=/dev/zero of=/big bs=1M count=4096", detached=True)
            for number in range(1, 6):
                began = time.perf_counter()
                await good.exec(["echo", "still here"], check=True)
                print(f"   the other one answered after {(time.perf_counter() - began) * 1e3:.0f} ms"
                      f" ({number} of 5)")  # fmt: skip
                await asyncio.sleep(0.5)
            began = time.perf_counter()
            processes = await bad.exec("cat /sys/fs/cgroup/sandlot/pids.current", timeout=120)
            print(
                f"   the bad one runs {processes.text.strip()} processes, and still answered "
                f"after {(time.perf_counter() - began) * 1e3:.0f} ms"
            )
            text = b""
            async with await filler.attach() as said:
                while b"\n" not in text and (piece := await said.read()):
                    text += piece.data
            line = (text.decode().splitlines() or ["nothing"])[0]
            print(f"   its disk filler said: {line}")


async def many(count: int) -> None:
    with step(f"{count} sandboxes at once"):

        async def one(number: int) -> str:
            async with Sandbox.create(image="demo", memory="256M") as sb:
                return (
                    await sb.exec(["sh", "-c", f"echo {number} on $(uname -n)"], check=True)
                ).text

        answers = await asyncio.gather(*(one(number) for number in range(count)))
        show("".join(answers[:2]))
        print(f"   ... {len(answers)} answers, all of them different: {len(set(answers)) == count}")


async def main() -> None:
    with step("What this machine can do (sandlot doctor)"):
        for check in await examine():
            print(f"   {check.status:8} {check.name:12} {check.reason}")
    host = Host.current()
    with step("The image `demo`: Debian with python3, built without root"):
        progress = Progress()
        image = await asyncio.to_thread(
            build_debian_image, host.images, "demo", ["python3"], progress=progress
        )
        progress.close()
        print(f"   {image.size / 1e6:.0f} MB, {image.digest[:19]}")
    with step("The machine is prepared once: kernel downloaded, guest booted and saved"):
        host.tell = Progress()
        await host.template(1 << 30, 1)
        for memory in (512 << 20, 256 << 20):
            await host.template(memory, 1)
    with step("The first sandbox"):
        sb = await Sandbox.create(image="demo")
    try:
        await report(sb)
        await kernels(sb)
    finally:
        await sb.remove()
    await harm()
    await many(20)
    print("\nThat was it. Next: `.venv/bin/sandlot run -it --rm demo` for a shell of your own.")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
