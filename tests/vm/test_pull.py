"""An image goes from a registry into a running sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot import ImageStore, Sandbox
from sandlot.image.compression import plain_pieces
from sandlot.image.config import host_architecture
from sandlot.sandbox.host import Host
from tests.framework.fake_registry import layer
from tests.framework.registry import RealRegistry, make_layout, real_registry, require


@pytest.fixture
def registry(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RealRegistry, str]]:
    """A registry with an image `app:1`, and its whole name; nothing of it is here afterwards."""
    require("docker-registry", "skopeo")
    monkeypatch.setenv("SANDLOT_PULL", "missing")
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Host.current().images
    layers = []
    for blob in store.get(image).blobs:
        with store.blobs.open(blob) as file:
            layers.append(b"".join(plain_pieces(file)))
    layers.append(layer({"srv/hello": b"from a registry\n"}))
    config = {"Cmd": ["/bin/cat", "hello"], "WorkingDir": "/srv", "Env": ["A=1"]}
    with real_registry(tmp_path / "registry") as made:
        made.copy(
            make_layout(tmp_path / "one", {host_architecture(): layers}, config=config), "app:1"
        )
        name = f"{made.host}/app:1"
        yield made, name
    _forget(store, name)


def _forget(store: ImageStore, name: str) -> None:
    if name in {each.name for each in store.list()}:
        store.remove(name)


async def test_what_is_not_here_is_pulled_and_run(registry: tuple[RealRegistry, str]) -> None:
    served, name = registry
    command = [sys.executable, "-m", "sandlot.cli.main", "run", "--rm", name]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "from a registry\n", done.stderr
    assert f"pulling {name}" in done.stderr
    asked = served.requests("HTTP/1.1")
    async with Sandbox.create(image=name, memory="512M") as sandbox:
        assert (await sandbox.exec("echo $A; pwd", check=True)).text.split() == ["1", "/srv"]
    assert served.requests("HTTP/1.1") == asked  # what is here asks nobody
