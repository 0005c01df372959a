"""Changes that are streamed from here and looked into there: two state directories are two machines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sandlot import Pushed, RemoteConflict, Sandbox, WrongState
from tests.vm.test_push import PRELUDE, Elsewhere
from tests.vm.test_push import elsewhere as elsewhere
from tests.vm.test_push import key as key

pytestmark = pytest.mark.xdist_group("remotes")


class Seen:
    """The versions that were told of, and waiting for more."""

    def __init__(self) -> None:
        self.versions: list[Pushed] = []
        self._news = asyncio.Event()

    def __call__(self, pushed: Pushed) -> None:
        self.versions.append(pushed)
        self._news.set()

    async def one_more(self) -> Pushed:
        """The next one that is told of."""
        await self._news.wait()
        self._news.clear()
        return self.versions[-1]


class Program:
    """A program of another process, whose lines are read one by one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        found = (await self.process.stdout.readline()).decode().strip()
        if not found:
            assert self.process.stderr is not None
            raise AssertionError((await self.process.stderr.read()).decode())
        return found

    async def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        await self.process.stdin.drain()

    async def end(self, number: int | None = None) -> tuple[int, str]:
        """Its exit status and what it said to people, after that signal if there is one."""
        if number is not None:
            self.process.send_signal(number)
        _, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, err.decode()


@contextlib.asynccontextmanager
async def program(*words: str, **environment: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env={**os.environ, **environment}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


CLI = ("-m", "sandlot.cli.main")


async def sandlot(*words: str) -> str:
    """What the command says, from a program of its own."""
    async with program(*CLI, *words) as command:
        out, err = await command.process.communicate()
        assert command.process.returncode == 0, err.decode()
    return out.decode().strip()


def there(elsewhere: Elsewhere, key: Path) -> dict[str, str]:
    return {
        "SANDLOT_DATA": str(elsewhere.state), "SANDLOT_RUNTIME": str(elsewhere.state / "run"),
        "SANDLOT_KEY": str(key),
    }  # fmt: skip


def stored(address: str) -> dict[str, int]:
    """What a folder has in it, but for leases: by path, when it was written."""
    found = (p for p in Path(address).rglob("*") if p.is_file() and "pending" not in p.parts)
    return {str(path): path.stat().st_mtime_ns for path in found}


FOLLOWS = """
import subprocess
TRIES = '''
cat /root/word; touch /root/mine 2>&1; rm /root/word 2>&1; echo x 2>&1 >/tmp/x
python3 -c 'import socket; socket.create_connection(("1.1.1.1", 80), 2)' 2>&1 | tail -n 1
echo ${API_KEY-none}; mount -o remount,rw / 2>&1 | wc -l; hostname
'''

async def main(address):
    async with Sandbox.follow(address, "look", interval=0.2) as seen:
        async for sb in seen:
            said = (await sb.exec(TRIES)).text.split("\\n")
            by_command = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sandlot.cli.main", "exec", "look", "cat", "/root/word",
                stdout=subprocess.PIPE,
            )
            out, _ = await by_command.communicate()
            record = sb.record
            tell(version=seen.version, said=said, command=out.decode(),
                 held=[record.secrets, record.volumes, record.plugins, record.ports])
            sys.stdout.flush()
            if "last" in said[0]:
                break

asyncio.run(main(sys.argv[1]))
"""


async def test_what_is_written_here_is_seen_there(
    image: str, tmp_path: Path, elsewhere: Elsewhere, key: Path
) -> None:
    import json

    address = str(tmp_path / "remote")
    given = {"API_KEY": ("a-value-of-this-machine", "api.example.com")}
    async with Sandbox.create("writes", image=image, memory="512M", secrets=given) as sb:
        await sb.exec("echo first > /root/word", check=True)
        async with (
            sb.push_live(address, after_exec=True) as live,
            program("-c", PRELUDE + FOLLOWS, address, **there(elsewhere, key)) as follower,
        ):
            found = json.loads(await follower.line())
            said = found["said"]
            assert found["version"] == 1 and said[0] == found["command"].strip() == "first"
            assert all("Read-only file system" in each for each in said[1:4]), said
            assert "Error" in said[4] or "timed out" in said[4], said
            assert said[5] == "none" and said[-2:] == ["look", ""]
            assert found["held"] == [{}, [], [], []]
            # Nothing was written: there is no version, and nothing is asked of the remote.
            before = stored(address)
            await sb.exec("cat /root/word; ls -R /etc", check=True)
            await live.flush()
            assert live.last is not None and live.last.version == 1 and stored(address) == before
            await sb.exec("echo second > /root/word", check=True)
            found = json.loads(await follower.line())
            assert found["said"][0] == "second" and found["version"] == live.last.version == 2
            assert live.last.moved < 1 << 20
            await sb.exec("echo last > /root/word", check=True)
            assert json.loads(await follower.line())["said"][0] == "last"
            assert await follower.end() == (0, "")
            last = live.last.version
        assert live.last.version == last and live.failures == 0 and live.error is None
        with pytest.raises(WrongState, match="not pushed any more"):
            await live.flush()


async def test_programs_that_others_start_are_heard(image: str, tmp_path: Path, key: Path) -> None:
    """Commands and jobs, in a sandbox of this program; and many at once make few versions."""
    seen = Seen()
    async with Sandbox.create("heard", image=image, memory="512M") as sb:
        live = sb.push_live(str(tmp_path / "remote"), after_exec=True, told=seen, keep=3)
        async with live:
            assert (await seen.one_more()).version == 1
            await sandlot("exec", "heard", "sh", "-c", "echo 1 > /root/a")
            assert (await seen.one_more()).version == 2
            await sandlot("exec", "-d", "heard", "sh", "-c", "echo 2 > /root/a")
            assert (await seen.one_more()).version == 3
            await asyncio.gather(*(sb.exec(f"echo {n} > /root/{n}") for n in range(12)))
            await live.flush()
            assert live.last is not None and 4 <= live.last.version <= 16
            await sb.stop()
            await live.wait()
        assert sb.status == "stopped" and live.error is None
    assert len(await sandlot_versions(tmp_path / "remote")) == 3


async def sandlot_versions(address: Path) -> list[int]:
    import json

    listed = json.loads(await sandlot("remote", "ls", "--json", str(address)))
    return [each["version"] for each in listed[0]["versions"]]


async def test_by_command_for_one_that_lives_by_itself(
    image: str, tmp_path: Path, elsewhere: Elsewhere, key: Path
) -> None:
    address = str(tmp_path / "remote")
    sb = await Sandbox.create("alone", image=image, memory="512M", detached=True)
    try:
        async with program(*CLI, "push", "--live", "--after-exec", "alone", address) as live:
            assert await live.line() == "alone@1"
            await sandlot("exec", "alone", "sh", "-c", "echo one > /root/word")
            assert await live.line() == "alone@2"
            status, said = await live.end(signal.SIGINT)
            assert status == 0 and said.count("were sent in") == 2, said
        async with program(*CLI, "push", "--live", "--interval", "0.3s", "alone", address) as live:
            assert await live.line() == "alone@3"
            await sb.exec("echo two > /root/word", check=True)
            assert await live.line() == "alone@4"
            follow = (*CLI, "pull", "--follow", "--interval", "0.2s", address, "-n", "look")
            async with program(*follow, **there(elsewhere, key)) as follower:
                assert await follower.line() == "look@4"
                await sb.stop()  # in order: what its disk is then is the last version
                status, said = await live.end()
                assert status == 0 and "alone has ended" in said
                last = (await sandlot_versions(Path(address)))[-1]
                assert last > 4
                while await follower.line() != f"look@{last}":
                    pass
                status, said = await follower.end(signal.SIGTERM)
                assert status == 0 and "sandlot exec look COMMAND" in said
        async with program(*CLI, "push", "--live", "alone", address) as live:
            status, said = await live.end()
            assert status == 125 and "not running" in said
    finally:
        await sb.remove()


async def test_killed_in_the_middle_the_last_point_stands(
    image: str, tmp_path: Path, elsewhere: Elsewhere, key: Path
) -> None:
    address = str(tmp_path / "remote")
    sb = await Sandbox.create("killed", image=image, memory="512M", detached=True)
    try:
        await sb.exec("echo whole > /root/word", check=True)
        command = (*CLI, "push", "--live", "--after-exec", "killed", address)
        async with program(*command) as live:
            assert await live.line() == "killed@1"
            await live.end(signal.SIGINT)
        async with program(*command, "--rate", "4M") as live:
            assert await live.line() == "killed@2"
            packs = len(list(Path(address, "packs").rglob("*")))
            await sb.exec("echo half > /root/word; head -c 40M /dev/urandom > /root/big")
            await until(lambda: len(list(Path(address, "packs").rglob("*"))) > packs)
            assert (await live.end(signal.SIGKILL))[0] == -signal.SIGKILL
        code = """
async def main(address):
    async with Sandbox.pull(address) as sb:
        tell(said=(await sb.exec("cat /root/word; ls /root")).text.split())

asyncio.run(main(sys.argv[1]))
"""
        assert (await elsewhere.run(code, address))["said"] == ["whole", "word"]
        assert await sandlot("push", "-q", "killed", address) == "killed@3"
        assert "big" in (await elsewhere.run(code, address))["said"]
        # The sandbox is killed: its disk is as after a power cut, and nothing of it is pushed.
        async with program(*command) as live:
            assert await live.line() == "killed@4"
            await sb.exec("echo lost > /root/word", check=True)
            assert await live.line() == "killed@5"
            os.kill(sb.info().state.monitor, signal.SIGKILL)
            status, said = await live.end()
            assert status == 0 and "its machine died" in said
        assert await sandlot_versions(Path(address)) == [1, 2, 3, 4, 5]
    finally:
        await sb.remove()


async def until(there: Callable[[], bool]) -> None:
    while not there():
        await asyncio.sleep(0.01)


async def test_somebody_else_pushes(
    image: str, tmp_path: Path, elsewhere: Elsewhere, key: Path
) -> None:
    """The streaming ends and says so; the sandbox does not."""
    address = str(tmp_path / "remote")
    code = """
async def main(address):
    async with Sandbox.pull(address) as sb:
        await sb.exec("echo theirs > /root/word", check=True)
        tell(version=(await sb.push(address)).version)

asyncio.run(main(sys.argv[1]))
"""
    async with Sandbox.create("two", image=image, memory="512M") as sb:
        with pytest.raises(RemoteConflict, match="version 2 of 'two'"):
            async with sb.push_live(address, after_exec=True) as live:
                assert (await elsewhere.run(code, address))["version"] == 2
                await sb.exec("echo mine > /root/word", check=True)
                with pytest.raises(RemoteConflict):
                    await live.wait()
                assert isinstance(live.error, RemoteConflict)
        assert (await sb.exec("cat /root/word")).text == "mine\n"
        with pytest.raises(RemoteConflict):
            async with sb.push_live(address):
                raise AssertionError("it was let in")
        async with sb.push_live(address, force=True, memory=True) as live:
            assert live.last is not None and live.last.version == 3
            first = live.last
        assert live.last.version == 4 and live.last.moved < first.moved


async def test_it_is_no_use_of_the_sandbox(image: str, tmp_path: Path, key: Path) -> None:
    """One that is idle falls asleep, sleeps on, and is pushed again when it was used."""
    async with Sandbox.create(
        "sleeps", image=image, memory="512M", idle_timeout=1.5, idle_action="hibernate"
    ) as sb:
        await sb.exec("echo one > /root/word", check=True)
        async with sb.push_live(str(tmp_path / "remote"), interval=0.2) as live:
            await until(lambda: sb.status == "hibernated")
            assert live.last is not None and live.last.version == 1
            await live.flush()
            assert sb.status == "hibernated" and live.last.version == 1
            await sb.exec("echo two > /root/word", check=True)
            await live.flush()
            assert live.last.version >= 2 and live.failures == 0  # it was woken, too
            await sb.pause()
            await live.flush()
            await sb.resume()
