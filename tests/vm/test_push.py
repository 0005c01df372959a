"""Sandboxes that are pushed here and pulled there: two state directories, and namespaces, play two
machines."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandlot import ConfigError, RemoteConflict, Sandbox, SecretUnavailable, Snapshot
from sandlot.remote.keys import new_key_file, read_key_file
from sandlot.remote.opening import open_store
from sandlot.sandbox.host import Host
from tests.framework.registry import RealRegistry
from tests.framework.remotes import registry as registry
from tests.framework.remotes import s3 as s3
from tests.framework.remotes import s3_environment as s3_environment
from tests.framework.remotes import ssh as ssh
from tests.framework.remotes import ssh_environment as ssh_environment
from tests.framework.s3_server import S3Server
from tests.framework.ssh_server import SshServer
from tests.vm.test_snapshot_files import counting_up

pytestmark = pytest.mark.xdist_group("remotes")

PRELUDE = """
import asyncio, json, sys
from sandlot import Remote, RemoteDamaged, Sandbox, Snapshot

def tell(**found): print(json.dumps(found))
"""
# A program with a data file, as an installation leaves it, and a package of the image's own kind.
INSTALL = """
mkdir -p /opt/tool && printf '#!/bin/sh\\necho tool $(wc -c < /opt/tool/data)\\n' > /usr/bin/tool
chmod 755 /usr/bin/tool && head -c 4M /dev/urandom > /opt/tool/data
python3 -m venv --without-pip /opt/venv && ln -s /opt/venv/bin/python3 /usr/local/bin/py
echo CANARY-in-a-file > /root/canary; sync
"""


@functools.cache
def apart() -> tuple[str, ...]:
    """What a program is run with that has mounts, processes, a host name and IPC of its own, and does
    not see this machine's state directory. Nothing where the host does not let us."""
    data = Host.current().paths.data
    own = () if os.geteuid() == 0 else ("--map-root-user",)
    hide = 'mount -t tmpfs none "$0" && hostname elsewhere && exec "$@"'
    command = (
        "unshare", *own, "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
        "--mount-proc", "sh", "-c", hide, str(data),
    )  # fmt: skip
    look = [*command, "sh", "-c", f"test $(hostname) = elsewhere -a ! -e {data}/images"]
    return command if subprocess.run(look, check=False).returncode == 0 else ()


class Elsewhere:
    """Another machine: namespaces and a state directory of its own, with the same key."""

    def __init__(self, folder: Path, key: Path) -> None:
        self.state = folder
        self._key = key
        self.state.mkdir()
        shutil.copytree(Host.current().paths.kernels, self.state / "kernels")

    async def run(self, code: str, *arguments: str) -> dict[str, Any]:
        """What a program there tells at the end."""
        environment = {
            **os.environ, "SANDLOT_DATA": str(self.state),
            "SANDLOT_RUNTIME": str(self.state / "run"), "SANDLOT_KEY": str(self._key),
        }  # fmt: skip
        program = await asyncio.create_subprocess_exec(
            *apart(), sys.executable, "-c", PRELUDE + code, *arguments, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await program.communicate()
        assert program.returncode == 0, err.decode()
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key of the user who has both machines."""
    path = tmp_path / "key"
    new_key_file(path)
    monkeypatch.setenv("SANDLOT_KEY", str(path))
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, key: Path) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path / "elsewhere", key)
    yield made
    left = [p.name for n in ("snapshots", "sandboxes") for p in (made.state / n).glob("*")]
    assert not left
    shutil.rmtree(made.state)


ROUND = """
async def main(address):
    async with Sandbox.pull(address) as sb:
        said = (await sb.exec("tool; cat /root/canary; py -c 'print(6*7)'; sha256sum /opt/tool/data")).text
        await sb.exec("echo more > /root/more", check=True)
        pushed = await sb.push(address)
        tell(said=said, name=sb.name, version=pushed.version, moved=pushed.moved)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(params=["folder", "s3", "oci", "ssh"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A remote that nothing was pushed to: one after the other, of each kind."""
    name = f"round-{secrets.token_hex(4)}"
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_environment")
        return f"s3://{server.bucket}/{name}?endpoint={server.endpoint}"
    if request.param == "oci":
        registry: RealRegistry = request.getfixturevalue("registry")
        return f"oci://{registry.host}/{name}"
    if request.param == "ssh":
        login: SshServer = request.getfixturevalue("ssh_environment")
        return f"ssh://127.0.0.1:{login.port}{tmp_path}/remote"
    return str(tmp_path / "remote")


async def test_the_whole_round(image: str, address: str, elsewhere: Elsewhere) -> None:
    async with Sandbox.create("pushed-here", image=image, memory="512M") as sb:
        await sb.exec(INSTALL, check=True)
        first = await sb.push(address)
        assert first.version == 1 and first.moved > 4 << 20
        sums = (await sb.exec("sha256sum /opt/tool/data")).text
        await sb.exec("head -c 1M /dev/urandom > /root/more", check=True)
        second = await sb.push(address)
        assert second.version == 2 and 1 << 20 < second.moved < first.moved / 2
        assert not [s for s in await Snapshot.list() if s.record.sandbox == sb.name]
        found = await elsewhere.run(ROUND, address)
        assert found["said"].split() == [
            "tool", "4194304", "CANARY-in-a-file", "42", *sums.split()
        ]  # fmt: skip
        assert found["name"] == "pushed-here" and found["version"] == 3
        assert found["moved"] < 8 << 20
        with pytest.raises(RemoteConflict, match="version 3 of 'pushed-here'"):
            await sb.push(address)
        assert (await sb.push(address, "another")).moved < 8 << 20
    # Whoever stores it finds nothing of it: no contents, names or keys.
    identity = read_key_file(Path(os.environ["SANDLOT_KEY"]))[0].encode()
    words = [b"CANARY-in-a-file", b"pushed-here", b"/opt/tool", b"libpython", identity]
    size = 0
    async with open_store(address) as store:
        async for blob in store.list():
            data = await store.get(blob.key)
            size += len(data)
            for word in words:
                assert word not in data and word.decode() not in blob.key, (word, blob.key)
    assert size > 4 << 20


GOES_ON = """
async def main(address):
    async with Sandbox.pull(address, env={"B": "2"}) as sb:
        while True:
            before = int(await sb.files.read_text("/root/count"))
            await asyncio.sleep(0.02)  # the guest's program counts on by itself
            if int(await sb.files.read_text("/root/count")) > before:
                break
        tell(count=before, said=(await sb.exec("echo $A $B; hostname")).text)

asyncio.run(main(sys.argv[1]))
"""


async def test_programs_go_on_elsewhere(image: str, tmp_path: Path, elsewhere: Elsewhere) -> None:
    address = str(tmp_path / "remote")
    async with Sandbox.create("goes-on", image=image, memory="512M", env={"A": "1"}) as sb:
        await counting_up(sb)
        first = await sb.push(address, memory=True)
        saved = int(await sb.files.read_text("/root/count"))
        second = await sb.push(address, memory=True)
        assert second.version == 2 and second.moved < first.moved / 2
    found = await elsewhere.run(GOES_ON, address)
    assert 0 < found["count"] <= saved + 10_000
    assert found["said"].split() == ["1", "2", "goes-on"]


def sandlot(*words: str) -> str:
    """What the command says, from a program of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sandlot.cli.main", *words], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_by_other_programs_running_and_stopped(image: str, tmp_path: Path, key: Path) -> None:
    """One that lives by itself is pushed by the command, while it runs and when it is stopped."""
    address = str(tmp_path / "remote")
    sb = await Sandbox.create("by-itself", image=image, memory="512M", detached=True)
    made = [sb.id]

    async def said(*words: str) -> str:
        return await asyncio.to_thread(sandlot, *words)

    try:
        await sb.exec(
            "echo one > /root/kept; head -c 24M /dev/urandom > /root/big; sync", check=True
        )
        assert await said("push", "-q", "by-itself", address) == "by-itself@1"
        pushed = json.loads(await said("push", "--memory", "--json", "-q", "by-itself", address))
        assert pushed["version"] == 2
        # What was removed, and its blocks given back, moves no more.
        await sb.exec("rm /root/big; sync; fstrim / || true; echo two > /root/kept", check=True)
        await sb.stop()
        third = json.loads(await said("push", "--json", "-q", "by-itself", address))
        assert third["version"] == 3 and third["moved"] < 8 << 20
        assert not [s for s in await Snapshot.list() if s.record.sandbox == sb.name]
        listed = json.loads(await said("remote", "ls", "--json", address))
        assert [v["version"] for v in listed[0]["versions"]] == [1, 2, 3]
        for source, kept in (("by-itself@1", "one"), ("by-itself@2", "one"), ("by-itself", "two")):
            name = source.replace("@", "-") + "-x"
            made.append(await said("pull", "-q", "--start", "-n", name, source, address))
            assert await said("exec", name, "cat", "/root/kept") == kept
    finally:
        for each in made:
            await (await Sandbox.get(each)).remove()


async def test_values_of_secrets_stay_here(image: str, tmp_path: Path, key: Path) -> None:
    """Whoever pulls gives them again; the programs' placeholders are the same."""
    address = str(tmp_path / "remote")
    value = "s3cret-value-of-the-first-machine"
    async with Sandbox.create(
        "with-secret", image=image, memory="512M", secrets={"API_KEY": (value, "api.example.com")}
    ) as sb:
        placeholder = (await sb.exec("echo $API_KEY > /root/kept; cat /root/kept")).text.strip()
        await sb.push(address, memory=True)
    with pytest.raises(SecretUnavailable, match="API_KEY"):
        await Sandbox.pull(address)
    assert "with-secret" not in [info.record.name for info in await Sandbox.list()]
    given = {"API_KEY": ("another", "api.example.com")}
    async with Sandbox.pull(address, secrets=given) as back:
        assert (await back.exec("echo $API_KEY; cat /root/kept")).text.split() == [placeholder] * 2
    with pytest.raises(ConfigError, match="had no secret OTHER"):
        await Sandbox.pull(address, secrets={"OTHER": ("x", "api.example.com")})
    async with open_store(address) as store:
        async for blob in store.list():
            assert value.encode() not in await store.get(blob.key)
