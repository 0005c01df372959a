"""Fleets in machines: up, changed, broken, down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot import Fleet, FleetError, ImageStore, Sandbox, build_image
from sandlot.fleet.spec import FLEET_LABEL
from sandlot.sandbox.host import Host
from sandlot.sandbox.listing import list_sandboxes
from sandlot.volume.store import VolumeStore
from tests.conftest import STATE
from tests.unit.fleet.test_reading import PRODUCT

pytestmark = pytest.mark.xdist_group("fleet")  # their fleets have one name

FILE = """
name: {name}
volumes:
  data: {{kind: disk, size: 64M}}
sandboxes:
  db:
    image: {image}
    memory: 256M
    volumes: [data:/data]
    networks: {db}
    scripts:
      start: echo db is up; touch /data/ready; echo kept >> /data/log; exec sleep 100000
    health: {{command: test -e /data/ready, interval: 1s, retries: 60}}
  api:
    image: {image}
    memory: 256M
    secrets: {{KEY: {{hosts: [api.example]}}}}
    env_file: api.env
    networks: [back]
    ports: ["8000"]
    scripts:
      start: exec python3 -m http.server 8000
      test: echo "$$LEVEL"
    health:
      command: python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8000")'
      interval: 1s
      retries: 60
    depends_on: {{db: {{condition: healthy}}}}
  worker:
    image: {image}
    memory: 256M
    env: {{LEVEL: "{level}"}}
    network: deny
    networks: [back]
    scripts: {{start: "{worker}", level: 'echo "$$LEVEL"'}}
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


def write(
    folder: Path, image: str, level: str = "1", worker: str = "exec sleep 100000", db: str = "[]"
) -> Path:
    path = folder / "Sandboxfile.yaml"
    text = FILE.format(name="test-fleet", image=image, level=level, worker=worker, db=db)
    path.write_text(text)
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

    # Members of one network reach each other by name, and nobody else does.
    get = "python3 -c \"import urllib.request as u; print(u.urlopen('http://api:8000').status)\""
    assert (await fleet.exec("worker", get, check=True)).text == "200\n"
    assert (await fleet.exec("db", "getent hosts api")).exit_code == 2
    fleet = await Fleet.from_file(write(folder, image, db="[back]"))
    assert [str(step) for step in await fleet.up()] == [
        "leave test-fleet-db (networks changed)", "leave test-fleet-api (networks changed)",
        "leave test-fleet-worker (networks changed)",
    ]  # fmt: skip
    assert (await fleet.exec("db", get, check=True)).text == "200\n"

    ids = {name: (await fleet.sandbox(name)).id for name in fleet.members}
    fleet = await Fleet.from_file(write(folder, image, level="2", db="[back]"))
    assert [str(step) for step in await fleet.up()] == [
        "leave test-fleet-db", "leave test-fleet-api",
        "recreate test-fleet-worker (env changed)",
    ]  # fmt: skip
    now = {name: (await fleet.sandbox(name)).id for name in fleet.members}
    assert {name for name in ids if ids[name] != now[name]} == {"worker"}
    assert (await fleet.run("level")).text == "2\n"
    # In the file's folder the names of members and scripts are enough.
    out, err = sandlot("run", "level")
    assert (out, err) == ("2\n", "level is a script of the Sandboxfile here\n")
    assert sandlot("exec", "worker", "hostname")[0] == "test-fleet-worker\n"
    assert sandlot("logs", "db")[0] == "db is up\n"

    assert sandlot("restart", "worker")[0] == "test-fleet-worker\n"
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


async def test_what_is_unhealthy_stops_its_dependents(folder: Path, image: str) -> None:
    fleet = await Fleet.from_file(write(folder, image))
    # One that is killed while it makes the first leaves nothing in the way.
    command = [sys.executable, "-m", "sandlot.cli.main", "up", "-d"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    home = Host.current().paths.sandboxes / "test-fleet-db"
    while not home.exists() and killed.poll() is None:
        await asyncio.sleep(0.01)
    killed.kill()
    killed.wait()
    await fleet.up(["db"])
    # The database is well still, and the next one never will be.
    text = (folder / "Sandboxfile.yaml").read_text()
    broken = text.replace("exec python3 -m http.server 8000", "echo no port for me >&2; exit 3")
    (folder / "Sandboxfile.yaml").write_text(broken)
    out, err = sandlot("up", "-d", status=125)
    assert out == ""
    assert "test-fleet-api: unhealthy: it is stopped (3)" in err
    assert "  test-fleet-api | no port for me" in err
    assert "test-fleet-worker: not started: test-fleet-api, which it needs, is not healthy" in err
    shown = {each.member: each.status for each in await fleet.ps()}
    assert shown == {"db": "running", "api": "stopped", "worker": "missing"}
    # Mended, it goes on from there, twice at once.
    (folder / "Sandboxfile.yaml").write_text(text)
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [(each.communicate()[1], each.returncode) for each in both]
    assert [code for _, code in said] == [0, 0], said
    assert sum(text.count("test-fleet-worker: started") for text, _ in said) == 1
    assert [step.action for step in await fleet.plan()] == ["leave"] * 3
    # A check that fails later stops what runs.
    await fleet.exec("db", "rm /data/ready", check=True)
    changed = text.replace("command: test -e /data/ready, interval: 1s, retries: 60",
                           "command: test -e /data/ready, interval: 0.1s, retries: 1")  # fmt: skip
    (folder / "Sandboxfile.yaml").write_text(changed)
    with pytest.raises(FleetError) as caught:
        await (await Fleet.from_file(folder / "Sandboxfile.yaml")).up()
    assert caught.value.failures == {
        "test-fleet-db": "unhealthy: its health check ended with 1",
        "test-fleet-api": "stopped: test-fleet-db, which it needs, is not healthy",
        "test-fleet-worker": "stopped: test-fleet-api, which it needs, is not healthy",
    }
    sandlot("down", "-v")


async def test_a_compose_file(folder: Path, image: str) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "app.py").write_text(
        "import http.server, os\n"
        "print('serving', os.environ['GREETING'], flush=True)\n"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)\n"
    )
    (folder / "Dockerfile").write_text(
        f'FROM {image}\nCOPY src /app\nENV LEVEL=3\nWORKDIR /app\nCMD ["python3", "-u", "app.py"]\n'
    )
    (folder / "compose.yaml").write_text("""
name: test-fleet-compose
services:
  web:
    build: .
    environment: {GREETING: "${GREETING:-hello}"}
    ports: ["8000"]
    mem_limit: 256m
    healthcheck:
      test: ["CMD", "python3", "-c", "import urllib.request as u; u.urlopen('http://localhost:8000')"]
      interval: 1s
      retries: 90
    depends_on: {migrate: {condition: service_completed_successfully}}
    networks: [back]
  migrate:
    build: .
    command: ["sh", "-c", "echo migrated > /data/done"]
    mem_limit: 256m
    volumes: [db:/data]
volumes: {db: }
networks: {back: }
""")
    try:
        _, err = sandlot("up", "-d", "-f", "compose.yaml")
        assert "web is alone in the network back" in err
        assert "test-fleet-compose-migrate: completed" in err
        out, _ = sandlot("fleet", "-f", "compose.yaml", "ps", "--json")
        assert '"health": "healthy"' in out
        out, _ = sandlot("fleet", "logs", "--file", "compose.yaml", "web")
        assert "web | serving hello\n" in out
        out, _ = sandlot("diff", "-f", "compose.yaml")
        assert out == (
            "leave test-fleet-compose-migrate (it has completed)\nleave test-fleet-compose-web\n"
        )
        # What was built anew is another image.
        (folder / "src" / "app.py").write_text(
            "import time\nprint('new', flush=True)\ntime.sleep(1e6)\n"
        )
        text = (folder / "compose.yaml").read_text()
        (folder / "compose.yaml").write_text(text.replace("retries: 90", "disable: true"))
        _, err = sandlot("up", "-d", "-f", "compose.yaml")
        assert "test-fleet-compose-web: removed" in err
        sandlot("down", "-v", "-f", "compose.yaml")
    finally:
        store = ImageStore(STATE / "images")
        for each in store.list():
            if each.name.startswith("test-fleet-compose"):
                store.remove(each.name)


HITS = """
import http.server, os, socket
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with socket.create_connection(("redis", 6379), 30) as redis:
            redis.sendall(b"*2\\r\\n$4\\r\\nINCR\\r\\n$4\\r\\nhits\\r\\n")
            number = redis.makefile().readline()[1:].strip()
        said = f"{os.environ['GREETING']} {number}\\n".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(said))); self.end_headers()
        self.wfile.write(said)
http.server.HTTPServer(("0.0.0.0", 8000), Page).serve_forever()
"""
REDIS = """
import socketserver
count = 0
class Client(socketserver.StreamRequestHandler):
    def handle(self):
        global count
        while self.rfile.readline():
            words = [(self.rfile.readline(), self.rfile.readline())[1].strip() for _ in range(2)]
            count += words == [b"INCR", b"hits"]
            self.wfile.write(b":%d\\r\\n" % count)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("0.0.0.0", 6379), Client).serve_forever()
"""
COUNTER = """
name: test-fleet-counter
services:
  web:
    build: {context: .}
    ports: ["8000"]
    environment:
      - GREETING=${GREETING:-hello}
    stop_signal: SIGINT
    mem_limit: 256m
    depends_on: [redis]
    restart: unless-stopped
    volumes: [.:/code:ro]
  redis:
    image: redis:test-fleet-counter
    container_name: hits
    expose: ["6379"]
    mem_limit: 256m
    restart: always
    networks: {default: {aliases: [cache]}}
"""


async def test_the_hit_counter_of_web_and_redis(folder: Path, image: str) -> None:
    """The shape of the best known compose project: a page built here, a database by its image, a
    port, a source folder, and the one reached by the other's name. Redis itself is stood in for."""
    served = folder / "redis"
    served.mkdir()
    (served / "redis.py").write_text(REDIS)
    (served / "Dockerfile").write_text(
        f'FROM {image}\nCOPY redis.py /\nENTRYPOINT ["python3", "/redis.py"]\n'
    )
    (folder / "app.py").write_text(HITS)
    (folder / "Dockerfile").write_text(
        f'FROM {image}\nWORKDIR /code\nCOPY app.py .\nCMD ["python3", "-u", "app.py"]\n'
    )
    (folder / "compose.yaml").write_text(COUNTER)

    def page() -> str:
        host = sandlot("fleet", "-f", "compose.yaml", "ps", "--json")[0]
        (web,) = [each for each in json.loads(host) if each["member"] == "web"]
        port = web["ports"][0].partition("->")[0].rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as answer:
            return str(answer.read().decode())

    async def counted() -> str:
        """The page as soon as both listen: the file has no health checks, as so many."""
        while True:
            try:
                return await asyncio.to_thread(page)
            except (urllib.error.URLError, ConnectionError):
                await asyncio.sleep(0.2)

    await build_image(served, "redis:test-fleet-counter")
    try:
        _, err = sandlot("up", "-d", "-f", "compose.yaml")
        assert "redis: container_name is left out" in err and "aliases of a network" in err
        assert await counted() == "hello 1\n"
        assert page() == "hello 2\n"
        os.environ["GREETING"] = "again"
        _, err = sandlot("up", "-d", "-f", "compose.yaml")
        assert "test-fleet-counter-redis: unchanged" in err
        assert "test-fleet-counter-web: removed" in err
        assert await counted() == "again 3\n"
        sandlot("down", "-v", "-f", "compose.yaml")
        assert not [each for each in list_sandboxes() if "counter" in each.record.name]
    finally:
        os.environ.pop("GREETING", None)
        store = ImageStore(STATE / "images")
        for each in store.list():
            if "test-fleet-counter" in each.name:
                store.remove(each.name)


def test_in_the_foreground_output_is_shown_and_ctrl_c_stops_all(folder: Path, image: str) -> None:
    (folder / "Sandboxfile.yaml").write_text(f"""
name: test-fleet
sandboxes:
  one:
    image: {image}
    memory: 256M
    command: echo from one; exec sleep 100000
    replicas: 2
    depends_on: {{db: {{condition: healthy}}}}
  db:
    image: {image}
    memory: 256M
    command: touch /tmp/ok; exec sleep 100000
    health: {{command: test -e /tmp/ok, interval: 0.2s, retries: 2, start_period: 2m}}
""")
    with subprocess.Popen(
        [sys.executable, "-m", "sandlot.cli.main", "up"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as shown:  # fmt: skip
        try:
            assert shown.stdout is not None and shown.stderr is not None
            lines = sorted(shown.stdout.readline() for _ in range(2))
            assert lines == ["one-1 | from one\n", "one-2 | from one\n"]
            # One that becomes unhealthy meanwhile takes those along that need it.
            sandlot("fleet", "exec", "db", "rm", "/tmp/ok")
            stopped: set[str] = set()
            unhealthy = False
            while len(stopped) < 2 and (line := shown.stderr.readline()):
                unhealthy |= line.startswith(
                    "test-fleet-db: unhealthy: its health check ended with 1"
                )
                if line.endswith(": stopped\n"):
                    stopped.add(line.partition(":")[0])
            assert unhealthy and stopped == {"test-fleet-one-1", "test-fleet-one-2"}
            shown.send_signal(signal.SIGINT)
            _, err = shown.communicate(timeout=120)
            assert shown.returncode == 130 and "test-fleet-db: stopped" in err, err
            states = {info.record.name: info.status for info in list_sandboxes()}
            assert {states[f"test-fleet-{each}"] for each in ("one-1", "one-2", "db")} == {
                "stopped"
            }
        finally:
            shown.kill()
    # Fewer replicas: what is too many is removed.
    text = (folder / "Sandboxfile.yaml").read_text()
    (folder / "Sandboxfile.yaml").write_text(text.replace("replicas: 2", "replicas: 1"))
    out, _ = sandlot("diff", status=1)
    assert "remove test-fleet-one-2 (not in the file)" in out
    sandlot("down")


async def test_members_go_on_from_a_snapshot_and_forks_of_them_are_their_makers(
    folder: Path, image: str
) -> None:
    async with Sandbox.create(image=image, memory="256M") as sb:
        await sb.exec("echo warm > /tmp/state", check=True)
        snapshot = await sb.snapshot("test-fleet-ready")
    try:
        (folder / "Sandboxfile.yaml").write_text("""
name: test-fleet
sandboxes:
  worker: {from_snapshot: test-fleet-ready, memory: 256M, env: {A: 5}}
""")
        fleet = await Fleet.from_file()
        await fleet.up()
        assert (await fleet.exec("worker", "cat /tmp/state; echo $A")).text == "warm\n5\n"
        assert [step.action for step in await fleet.plan()] == ["leave"]
        sandlot("fork", "--name", "test-fleet-twin", "test-fleet-worker")
        assert [step.action for step in await fleet.plan()] == ["leave"]
        await fleet.down()
        assert (await Sandbox.get("test-fleet-twin")).status == "running"
        sandlot("rm", "-f", "test-fleet-twin")
    finally:
        await snapshot.remove(cascade=True)


async def test_the_file_of_the_product_page(
    folder: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written there; its image is one of ours by that name, and so is its snapshot."""
    home = folder / "test-fleet-product"
    (home / "src").mkdir(parents=True)
    (home / "src" / "app.py").write_text(
        "import http.server, os\nos.chdir('/data')\n"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)\n"
    )
    (home / "Sandboxfile.yaml").write_text(PRODUCT)
    tools = folder / "image"
    tools.mkdir()
    (tools / "python").symlink_to("/usr/bin/python3")
    (tools / "curl").write_text(
        "#!/usr/bin/python3\nimport sys, urllib.request\n"
        "urllib.request.urlopen('http://' + sys.argv[-1])\n"
    )
    (tools / "curl").chmod(0o755)
    (tools / "Dockerfile").write_text(f"FROM {image}\nCOPY . /usr/local/bin/\nWORKDIR /app\n")
    monkeypatch.setenv("OPENAI_API_KEY", "the-value-itself")
    monkeypatch.chdir(home)
    made = await build_image(tools, "python:3.11")
    try:
        async with Sandbox.create(image=image, memory="2G") as sb:
            snapshot = await sb.snapshot("ml-ready")
        try:
            fleet = await Fleet.from_file()
            await fleet.up()
            assert [(x.status, x.health) for x in await fleet.ps()] == [
                ("running", "healthy"), ("running", ""),
            ]  # fmt: skip
            with urllib.request.urlopen("http://127.0.0.1:8000/", timeout=30) as answer:
                assert b"Directory listing" in answer.read()
            assert "the-value-itself" not in (await fleet.exec("api", "env")).text
            assert [step.action for step in await fleet.plan()] == ["leave", "leave"]
            await fleet.down(volumes=True)
        finally:
            await snapshot.remove(cascade=True)
    finally:
        ImageStore(STATE / "images").remove(made.name)
