"""Secrets of real machines: used at their host, and nowhere else to be found."""

from __future__ import annotations

import asyncio
import json
import os
import secrets as random
import sys
from pathlib import Path

import pytest

from sandlot import ConfigError, Network, Sandbox, Secret, SecretUnavailable
from tests.conftest import STATE
from tests.framework.secret_upstream import HOST, Upstream, machine_memory

CLI = str(Path(sys.executable).with_name("sandlot"))
FETCH = """
import os, ssl, sys, urllib.request
context = ssl._create_unverified_context() if "-k" in sys.argv else None
request = urllib.request.Request(f"https://host.sandlot.internal:{sys.argv[1]}/path",
                                 headers={"Authorization": "Bearer " + os.environ["API_KEY"]})
print(urllib.request.urlopen(request, context=context, timeout=60).read().decode())
"""


async def test_the_value_goes_to_its_host_and_is_nowhere_else(
    image: str, upstream: tuple[Upstream, int, int, str]
) -> None:
    server, named, other, bundle = upstream
    secret = (server.value, f"{HOST}:{named}")
    async with Sandbox.create(
        image=image, memory="512M", network=Network(allow=["host"]), secrets={"API_KEY": secret},
        upstream_ca=bundle,
    ) as sandbox:  # fmt: skip
        placeholder = (await sandbox.exec("echo $API_KEY")).text.strip()
        assert placeholder.startswith("sk-") and placeholder != server.value
        fetched = await sandbox.exec(["python3", "-c", FETCH, str(named)], timeout=120)
        assert fetched.text == "value\n", fetched.stderr.decode()
        # Another port is another server, whose own certificate the guest sees.
        refused = await sandbox.exec(["python3", "-c", FETCH, str(other)], timeout=120)
        assert b"CERTIFICATE_VERIFY_FAILED" in refused.stderr
        fetched = await sandbox.exec(["python3", "-c", FETCH, str(other), "-k"], timeout=120)
        assert fetched.text == "nothing\n"
        assert placeholder.encode() in server.heads[-1]
        flows = [f for f in sandbox.network.flows() if f.port == named and f.verdict == "closed"]
        assert flows[0].secrets == ["API_KEY"] and flows[0].tls.startswith("TLS")
        value = server.value.encode()
        pid = sandbox.info().state.monitor
        assert machine_memory(pid, placeholder.encode())  # the search finds what is there
        assert not machine_memory(pid, value)
        found = await sandbox.exec(
            [
                "grep",
                "-rlF",
                "--",
                server.value[3:],
                "/etc",
                "/run",
                "/root",
                "/tmp",
                "/proc/1/environ",
            ]
        )
        assert found.stdout == b""
        for path in sandbox.folder.path.rglob("*"):
            if path.is_file() and path.stat().st_size < 64 << 20:
                assert value not in path.read_bytes(), path
        assert server.value not in repr(sandbox) + json.dumps(sandbox.inspect())
        server.value = f"sk-{random.token_hex(20)}"
        sandbox.network.replace_secret("API_KEY", (server.value, f"{HOST}:{named}"))
        fetched = await sandbox.exec(["python3", "-c", FETCH, str(named)], timeout=120)
        assert fetched.text == "value\n", fetched.stderr.decode()
        with pytest.raises(ConfigError, match="no secret OTHER"):
            sandbox.network.replace_secret("OTHER", ("x", HOST))
        await sandbox.stop()
        await sandbox.start(secrets={"API_KEY": (server.value, f"{HOST}:{named}")})
        fetched = await sandbox.exec(["python3", "-c", FETCH, str(named)], timeout=120)
        assert fetched.text == "value\n", fetched.stderr.decode()
        bundle_text = await sandbox.files.read_text("/run/sandlot/ca-bundle.pem")
        assert bundle_text.count("# Sandlot's authority") == 1


async def test_a_detached_one_gets_values_by_a_pipe_and_says_what_it_misses(
    image: str, upstream: tuple[Upstream, int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, named, _, bundle = upstream
    name = f"secret-{os.getpid()}"
    sandbox = await Sandbox.create(
        name, image=image, memory="512M", network=Network(allow=["host"]), detached=True,
        secrets={"API_KEY": (server.value, HOST)}, upstream_ca=bundle,
    )  # fmt: skip
    try:
        fetched = await sandbox.exec(["python3", "-c", FETCH, str(named)], timeout=120)
        assert fetched.text == "value\n", fetched.stderr.decode()
        owner = sandbox.info().state.owner
        for what in ("cmdline", "environ"):
            assert server.value.encode() not in Path(f"/proc/{owner}/{what}").read_bytes()
        limits = Path(f"/proc/{owner}/limits").read_text()
        assert next(x for x in limits.splitlines() if "core file" in x).split()[4:6] == ["0", "0"]
        files = [path for path in STATE.glob(f"sandboxes/{name}/*") if path.is_file()]
        assert files and not any(
            server.value.encode() in path.read_bytes()
            for path in files
            if path.stat().st_size < 64 << 20
        )
        await sandbox.stop()
        found = await Sandbox.get(name)
        with pytest.raises(SecretUnavailable, match="API_KEY"):
            await found.start()
        with pytest.raises(ConfigError, match="no secret OTHER"):
            await found.start(secrets={"OTHER": ("x", HOST)})
        await found.start(secrets={"API_KEY": (server.value, HOST)})
        fetched = await found.exec(["python3", "-c", FETCH, str(named)], timeout=120)
        assert fetched.text == "value\n", fetched.stderr.decode()
    finally:
        await sandbox.remove()


async def test_from_the_command_line(image: str, upstream: tuple[Upstream, int, int, str]) -> None:
    server, named, _, bundle = upstream
    process = await asyncio.create_subprocess_exec(
        CLI, "run", "--rm", "-m", "512M", "--allow", "host", "--secret", f"API_KEY@{HOST}",
        "--upstream-ca", bundle, image, "python3", "-c", FETCH, str(named),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "API_KEY": server.value},
    )  # fmt: skip
    out, error = await process.communicate()
    assert out == b"value\n", error.decode()
    assert server.value.encode() not in error


async def test_a_value_that_is_missing_or_wrong_is_told_at_once(image: str) -> None:
    name = f"none-{os.getpid()}"
    with pytest.raises(SecretUnavailable, match="NO_SUCH_VARIABLE is not set"):
        await Sandbox.create(
            name, image=image, secrets={"K": Secret(env="NO_SUCH_VARIABLE", hosts=HOST)}
        )
    with pytest.raises(ConfigError, match="in env="):
        await Sandbox.create(name, image=image, env={"K": "1"}, secrets={"K": ("value-1234", HOST)})
    with pytest.raises(ConfigError, match="function"):
        await Sandbox.create(name, image=image, detached=True, secrets={"K": (lambda: "x", HOST)})
    assert name not in [found.record.name for found in await Sandbox.list()]


async def test_a_restart_that_misses_a_value_leaves_it_running(
    image: str, upstream: tuple[Upstream, int, int, str]
) -> None:
    server, named, _, bundle = upstream
    sandbox = await Sandbox.create(
        f"again-{os.getpid()}", image=image, memory="512M", network=Network(allow=["host"]),
        detached=True, secrets={"API_KEY": (server.value, f"host:{named}")}, upstream_ca=bundle,
    )  # fmt: skip
    try:
        found = await Sandbox.get(sandbox.name)
        with pytest.raises(SecretUnavailable, match="API_KEY"):
            await found.restart(grace=0)
        fetched = await found.exec(["python3", "-c", FETCH, str(named)], timeout=120)
        assert fetched.text == "value\n", fetched.stderr.decode()
        await found.stop()
        with pytest.raises(SecretUnavailable):
            await found.start()
        assert found.status == "stopped"
    finally:
        await sandbox.remove()


async def test_what_is_removed_at_its_end_outlives_a_restart(image: str) -> None:
    sandbox = await Sandbox._make(
        name=f"rm-{os.getpid()}", image=image, memory="512M", detached=True, auto_remove=True,
        command=["sleep", "1000"],
    )  # fmt: skip
    await sandbox.start()
    await sandbox.exec("echo kept > /kept", check=True)
    await sandbox.restart(grace=0)
    assert (await sandbox.exec("cat /kept")).text == "kept\n"
    await sandbox.stop(grace=0)
    assert not sandbox.folder.path.exists()
