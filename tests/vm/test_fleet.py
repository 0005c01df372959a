"""Fleets in machines: up, changed, broken, down."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot import Fleet, FleetError, Sandbox
from sandlot.fleet.spec import FLEET_LABEL
from sandlot.sandbox.listing import list_sandboxes
from sandlot.volume.store import VolumeStore

FILE = """
name: {name}
volumes:
  data: {{kind: disk, size: 64M}}
sandboxes:
  db:
    image: {image}
    memory: 256M
    volumes: [data:/data]
    scripts:
      start: echo db is up; touch /data/ready; echo kept >> /data/log; exec sleep 100000
    health: {{command: test -e /data/ready, interval: 1s, retries: 60}}
  api:
    image: {image}
    memory: 256M
    secrets: {{KEY: {{hosts: [api.example]}}}}
    env_file: api.env
    ports: ["8000"]
    scripts:
      start: exec python3 -m http.server 8000
      test: echo "$$LEVEL" "$$@"
    health:
      command: python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8000")'
      interval: 1s
      retries: 60
    depends_on: {{db: {{condition: healthy}}}}
  worker:
    image: {image}
    memory: 256M
    env: {{LEVEL: "{level}"}}
    scripts: {{start: "{worker}", level: 'echo "$$LEVEL" "$$@"'}}
    depends_on: {{api: {{condition: healthy}}}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for a file; the fleet `test-fleet` of it is removed after the test."""
    (tmp_path / "api.env").write_text("LEVEL=9\nKEY=the-value-itself\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for info in list_sandboxes():
        if info.record.labels.get(FLEET_LABEL, "").startswith("test-fleet"):
            sandlot("rm", "-f", info.record.name)
    store = VolumeStore.current()
    for each, record in store.records():
        if record.name.startswith("test-fleet"):
            store.remove(each)


def write(folder: Path, image: str, level: str = "1", worker: str = "exec sleep 100000") -> Path:
    path = folder / "Sandboxfile.yaml"
    path.write_text(FILE.format(name="test-fleet", image=image, level=level, worker=worker))
    return path


def sandlot(*words: str, status: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "sandlot.cli.main", *words], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


async def test_three_come_up_are_changed_and_go_down(folder: Path, image: str) -> None:
    path = write(folder, image)
    fleet = await Fleet.from_file(path)
    said: list[tuple[str, str]] = []
    done = await fleet.up(tell=lambda name, text: said.append((name, text)))
    assert [str(step) for step in done] == [
        "create test-fleet-db", "create test-fleet-api", "create test-fleet-worker",
    ]  # fmt: skip
    # Each began only when what it needs was healthy.
    order = [each for each in said if each[1] in ("started", "healthy")]
    assert order == [
        ("test-fleet-db", "started"), ("test-fleet-db", "healthy"), ("test-fleet-api", "started"),
        ("test-fleet-api", "healthy"), ("test-fleet-worker", "started"),
    ]  # fmt: skip
    assert [step.action for step in await fleet.plan()] == ["leave"] * 3
    shown = {each.member: each for each in await fleet.ps()}
    assert (shown["api"].status, shown["api"].health) == ("running", "healthy")
    assert shown["api"].ports[0].endswith("->8000/tcp")
    # The secret's value is in no variable of the guest; the script has its words.
    variables = (await fleet.exec("api", "env", check=True)).text
    assert "KEY=" in variables and "the-value-itself" not in variables
    assert (await fleet.run("test", ["a b"], check=True)).text == "9 a b\n"
    assert (await fleet.run("level")).text == "1\n"
    assert [entry.data async for name, entry in fleet.logs(["db"])] == [b"db is up\n"]

    ids = {name: (await fleet.sandbox(name)).id for name in fleet.members}
    fleet = await Fleet.from_file(write(folder, image, level="2"))
    assert [str(step) for step in await fleet.up()] == [
        "leave test-fleet-db", "leave test-fleet-api",
        "recreate test-fleet-worker (env changed)",
    ]  # fmt: skip
    now = {name: (await fleet.sandbox(name)).id for name in fleet.members}
    assert {name for name in ids if ids[name] != now[name]} == {"worker"}
    assert (await fleet.run("level")).text == "2\n"

    await fleet.stop(["api"])
    assert "start test-fleet-api" in str((await fleet.plan())[1])
    await fleet.up()
    assert (await fleet.sandbox("api")).id == now["api"]
    out, _ = sandlot("fleet", "exec", "db", "cat", "/data/log")
    assert out == "kept\n"
    # Named volumes stay.
    await fleet.down()
    assert {each.status for each in await fleet.ps()} == {"missing"}
    sandlot("up", "-d", "db")
    assert sandlot("fleet", "exec", "db", "cat", "/data/log")[0] == "kept\nkept\n"
    sandlot("down", "-v")
    assert not [r for _, r in VolumeStore.current().records() if r.name.startswith("test-fleet")]
