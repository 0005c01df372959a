"""The real internet: the clients of registries, under an allow list of exactly their hosts.

Which hosts those are is asked of this machine's own clients when the tests run.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from sandlot import Network, Sandbox
from tests.framework.registries import (
    apt_hosts,
    bundle,
    node_and_npm,
    npm_registry,
    pip_hosts,
    pip_wheel,
    rules,
)

pytestmark = pytest.mark.network


def reached(sandbox: Sandbox) -> set[str]:
    """The names of what was connected to; nothing was refused."""
    flows = sandbox.network.flows()
    assert not [flow for flow in flows if flow.verdict == "denied" and flow.protocol == "tcp"], (
        flows
    )
    return {flow.name or flow.address for flow in flows if flow.protocol == "tcp"}


async def test_apt(net_image: str) -> None:
    hosts = apt_hosts()
    async with Sandbox.create(
        image=net_image, memory="1G", network=Network(allow=rules(hosts))
    ) as sandbox:
        result = await sandbox.exec("apt-get update", timeout=200)
        assert result.exit_code == 0 and b"Err:" not in result.stdout, result.stdout + result.stderr
        assert reached(sandbox) <= set(hosts) and reached(sandbox)
        refused = await sandbox.exec("curl -sS -m 20 http://elsewhere.example/", timeout=60)
        assert refused.exit_code == 6


async def test_pip(net_image: str) -> None:
    hosts = pip_hosts()
    async with Sandbox.create(
        image=net_image, memory="1G", network=Network(allow=rules(hosts))
    ) as sandbox:
        await sandbox.files.upload(bundle(), "/etc/ssl/certs/ca-certificates.crt")
        await sandbox.files.upload(pip_wheel(), "/tmp/pip.whl")
        pip = "python3 /tmp/pip.whl/pip --cert /etc/ssl/certs/ca-certificates.crt"
        result = await sandbox.exec(
            f"{pip} install --target /tmp/here iniconfig && PYTHONPATH=/tmp/here python3 -c 'import iniconfig'",
            timeout=230,
        )
        assert result.exit_code == 0, result.stdout + result.stderr
        assert reached(sandbox) <= set(hosts) and reached(sandbox)


async def test_npm(net_image: str) -> None:
    """With the machine's own node and npm: those of the distribution are hundreds of packages."""
    host = str(urlsplit(npm_registry()).hostname)
    async with Sandbox.create(
        image=net_image, memory="1G", network=Network(allow=rules([host]))
    ) as sandbox:
        await sandbox.files.upload(bundle(), "/etc/ssl/certs/ca-certificates.crt")
        node, npm = node_and_npm()
        await sandbox.files.upload(node, "/opt/node")
        await sandbox.files.upload(npm, "/opt/npm")
        result = await sandbox.exec(
            f"cd /tmp && chmod +x /opt/node && /opt/node /opt/npm/bin/npm-cli.js install "
            f"--registry {npm_registry()} --no-audit --no-fund --no-update-notifier isarray "
            "&& /opt/node -e 'require(\"isarray\")'",
            env={
                "NODE_EXTRA_CA_CERTS": "/etc/ssl/certs/ca-certificates.crt",
                "PATH": "/opt:/usr/bin:/bin",
            },
            timeout=230,
        )
        assert result.exit_code == 0, result.stdout + result.stderr
        assert reached(sandbox) == {host}


async def test_prepare_once_and_branch(net_image: str) -> None:
    """The job that snapshots are for: install, save, a hundred workers, their results gathered."""
    async with Sandbox.create(
        image=net_image, memory="512M", network=Network(allow=rules(pip_hosts()))
    ) as sandbox:
        await sandbox.files.upload(bundle(), "/etc/ssl/certs/ca-certificates.crt")
        await sandbox.files.upload(pip_wheel(), "/tmp/pip.whl")
        pip = "python3 /tmp/pip.whl/pip --cert /etc/ssl/certs/ca-certificates.crt"
        await sandbox.exec(f"{pip} install --target /opt/lib iniconfig", timeout=230, check=True)
        snap = await sandbox.snapshot()
    work = "import iniconfig, os; n = int(os.environ['WORKER_ID']); print(n, n * n)"
    slots = asyncio.Semaphore(8)

    async def worker(number: int) -> str:
        async with slots, snap.restore(
            f"w-{number}", env={"WORKER_ID": str(number), "PYTHONPATH": "/opt/lib"},
            network=Network.deny_all(),
        ) as child:  # fmt: skip
            return (await child.exec(["python3", "-c", work], check=True)).text

    try:
        results = await asyncio.gather(*(worker(number) for number in range(100)))
    finally:
        await snap.remove()
    assert results == [f"{number} {number * number}\n" for number in range(100)]
