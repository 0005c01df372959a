"""Files as fleets: everything that can be wrong, and where; what is put together from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandlot.errors import ConfigError, SandboxfileError
from sandlot.fleet.reading import default_file, read_fleet, read_variables
from sandlot.fleet.spec import FleetSpec
from tests.unit.fleet.test_compose import FILE as COMPOSE


def read(
    folder: Path, text: str, *profiles: str, name: str = "Sandboxfile.yaml", **variables: str
) -> FleetSpec:
    (folder / name).write_text(text)
    return read_fleet(folder / name, profiles=profiles, variables=variables)


def wrong(folder: Path, text: str, **variables: str) -> list[str]:
    with pytest.raises(SandboxfileError) as caught:
        read(folder, text, **variables)
    assert [f"{p['file']}:{p['line']}:{p['column']}: " for p in caught.value.problems] == [
        line[: line.index(": ") + 2] for line in caught.value.message.splitlines()
    ]
    return [line.replace(f"{folder}/", "") for line in caught.value.message.splitlines()]


PRODUCT = """
volumes:
  data: { size: 10G }
sandboxes:
  api:
    image: python:3.11
    volumes: [./src:/app, data:/data]
    ports: [8000:8000]
    secrets: [OPENAI_API_KEY]            # the value from the environment or an env file
    network:
      allow: [api.openai.com]
      dns: { rebind_protection: strict }
    scripts: { start: python app.py, test: pytest }
    health: { command: curl -f localhost:8000, interval: 5s }
  worker:
    from_snapshot: ml-ready
    memory: 2G
    depends_on: [api]
"""


def test_the_file_of_the_product_page(tmp_path: Path) -> None:
    (tmp_path / "shop" / "src").mkdir(parents=True)
    spec = read(tmp_path / "shop", PRODUCT)
    api, worker = spec.members["api"], spec.members["worker"]
    assert spec.name == "shop" and api.sandboxes == ("shop-api",)
    assert api.command == ("/bin/sh", "-c", "python app.py")
    assert api.secrets["OPENAI_API_KEY"].hosts == ["api.openai.com"]
    assert [(m.type, m.source, m.target) for m in api.mounts] == [
        ("bind", str(tmp_path / "shop" / "src"), "/app"), ("volume", "shop-data", "/data"),
    ]  # fmt: skip
    assert spec.volumes["data"].model.size == "10G"
    assert worker.needs == {"api": "started"} and worker.model.from_snapshot == "ml-ready"


def test_everything_that_is_wrong_at_once(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        """volumes:
  data: { sise: 10G, size: 12X }
sandboxes:
  api:
    imag: python:3.11
    cpus: many
    memory: [1G]
    volumes: [./src:/app:rx]
    ports: [8000:8000:1:1, 99999:1]
    environment: {}
    network:
      allow: "api.openai.com"
      default: publik
    health: { interval: 5s }
    depends_on: {db: {condition: helthy}}
  wor ker: {}
""",
    )
    assert found == [
        "Sandboxfile.yaml:2:11: there is no 'sise' here (did you mean size?)",
        "Sandboxfile.yaml:2:28: size '12X' is not a size (use for example 512M or 4G)",
        "Sandboxfile.yaml:5:5: there is no 'imag' here (did you mean image?)",
        "Sandboxfile.yaml:6:11: cpus is the text 'many', not a whole number",
        "Sandboxfile.yaml:7:13: memory is a list, not text",
        (
            "Sandboxfile.yaml:8:15: the option 'rx' of './src:/app:rx' is not known "
            "(use ro, rw and cache=coherent|fast|none)"
        ),
        (
            "Sandboxfile.yaml:9:13: '8000:8000:1:1' is no published port "
            "(use HOST_PORT:SANDBOX_PORT, or ADDRESS:HOST_PORT:SANDBOX_PORT[/udp])"
        ),
        (
            "Sandboxfile.yaml:9:28: 99999 of '99999:1' is no port "
            "(use HOST_PORT:SANDBOX_PORT, or ADDRESS:HOST_PORT:SANDBOX_PORT[/udp])"
        ),
        "Sandboxfile.yaml:10:5: there is no 'environment' here (did you mean env?)",
        "Sandboxfile.yaml:12:14: allow is the text 'api.openai.com', not a list",
        (
            "Sandboxfile.yaml:13:16: default is 'publik', not deny or public or open "
            "(did you mean public?)"
        ),
        "Sandboxfile.yaml:14:13: 'command' is missing",
        (
            "Sandboxfile.yaml:15:34: condition is 'helthy', not started or healthy or completed "
            "(did you mean healthy?)"
        ),
        (
            "Sandboxfile.yaml:16:12: 'wor ker' is not a name for a member (use letters, digits, `_`, "
            "`.` and `-`, at most 63, beginning with a letter or digit)"
        ),
    ]


def test_references_cycles_and_clashes_at_once(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        """sandboxes:
  a:
    image: x
    depends_on: [c]
    volumes: [dta:/data, ./none:/x, dsk:/d]
    ports: ["8000:80", "9000:1/udp"]
  b:
    image: x
    depends_on: {a: {condition: healthy}, aa: {}}
    ports: ["0.0.0.0:8000:80", "9000:1"]
    replicas: 2
    secrets: {K: {}, L: {hosts: [h.example], env: X, file: y}}
    env: {K: "1"}
  c:
    depends_on: {b: {condition: completed}}
    volumes: [dsk:/d, data:/e, data:/e]
    extends: nobody
    plugins: [command-polcy]
  d:
    from_snapshot: s
    image: x
    pids: 5
    scripts: {start: x}
  b-1: {image: x, env_file: nowhere}
name: fl
volumes: {data: {}, dsk: {kind: disk}}
""",
    )
    assert found[:3] == [
        "Sandboxfile.yaml:4:17: a cycle: a needs c needs b needs a (leave one out)",
        "Sandboxfile.yaml:5:15: no volume 'dta' is declared (did you mean data?)",
        "Sandboxfile.yaml:5:26: none does not exist on this machine (make it first: `mkdir -p none`)",
    ]
    said = "\n".join(found)
    for each in (
        ":9:21: a has no health check",
        ":9:47: no sandbox 'aa' is declared (did you mean a?)",
        "port 8000/tcp of this machine cannot be that of 2 replicas (name the sandbox's port alone: 80)",
        "port 8000/tcp of this machine is published by a already",
        ":12:18: the secret K names no host that may get it",
        "the secret L has one source: env, file or command",
        ":13:14: K is a secret and in env (leave it out of env)",
        "c has no image (use image:, build: or from_snapshot:)",
        ":17:14: there is no sandbox 'nobody' in Sandboxfile.yaml",
        ":18:15: there is no plugin 'command-polcy' (did you mean command-policy?)",
        "b has no command that could complete",
        "two volumes are mounted at /e",
        "the volume is a disk, for one sandbox at a time, and a has it too",
        ":21:12: image is as it was saved in a sandbox from_snapshot",
        ":22:11: pids is as it was saved",
        "start is not run (give the script another name)",
        "b-1 and b both are the sandbox fl-b-1",
        "cannot read env file nowhere",
    ):
        assert each in said, each
    assert "port 9000/tcp of this machine is published" not in said  # the other one is udp


def test_variables_env_files_and_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL_WINS", "shell")
    monkeypatch.delenv("FROM_DOTENV", raising=False)
    monkeypatch.delenv("KEY", raising=False)
    (tmp_path / ".env").write_text("FROM_DOTENV='3 4' # no\nSHELL_WINS=file\nKEY=hidden-1\n")
    (tmp_path / "api.env").write_text(
        '# x\nexport A=1\nB="two words"\nOTHER=hidden-2\nE=\nD=a # b\n'
    )
    (tmp_path / "Sandboxfile").write_text("""
sandboxes:
  api:
    image: img:${TAG:-1.10}
    env_file: api.env
    env: {A: 1.10, C: "${FROM_DOTENV}", SHELL_WINS, T: true, N: }
    secrets: {KEY: k.example, OTHER: {hosts: [o.example]}}
""")
    assert default_file(tmp_path) == tmp_path / "Sandboxfile"
    spec = read_fleet(tmp_path / "Sandboxfile")
    api = spec.members["api"]
    assert api.image == "img:1.10"
    assert api.env == {"A": "1.10", "B": "two words", "C": "3 4", "D": "a", "E": "",
                       "SHELL_WINS": "shell", "T": "true"}  # fmt: skip
    assert api.values == {"KEY": "hidden-1", "OTHER": "hidden-2"}
    for text in (json.dumps(spec.config()), repr(spec), json.dumps(api.options())):
        assert "hidden" not in text


def test_a_secret_cannot_be_written_into_the_file(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        "sandboxes:\n  a:\n    image: x\n    env: {COPY: '${KEY}'}\n    secrets: {KEY: h.example}\n",
        KEY="value",
    )
    assert found == [
        (
            "Sandboxfile.yaml:4:17: KEY is a secret, and ${KEY} would write its value into the file "
            "(leave it out; the variable is there in the sandbox by itself)"
        )
    ]


def test_extends(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "code").mkdir()
    (tmp_path / "base" / "b.yaml").write_text("""
sandboxes:
  web:
    image: w
    memory: 1G
    env: [A=1, B=1]
    ports: ["1:1"]
    volumes: [./code:/code]
    health: {command: "true", retries: 9}
""")
    spec = read(tmp_path, """
sandboxes:
  mine:
    extends: {file: base/b.yaml, sandbox: web}
    memory: 2G
    env: {B: 2}
    ports: ["2:2"]
    health: {command: "false"}
  more: {extends: mine, ports: ["3:3"], scripts: {start: run}, profiles: [x]}
""")  # fmt: skip
    mine = spec.members["mine"]
    assert mine.image == "w" and mine.model.memory == "2G" and mine.env == {"A": "1", "B": "2"}
    assert mine.model.ports == ["1:1", "2:2"]
    assert mine.health is not None and mine.health.retries == 9
    assert mine.health.command[-1] == "false"
    assert mine.mounts[0].source == str(tmp_path / "base" / "code")
    assert "more" in spec.others and "more" not in spec.members


def test_a_cycle_of_extends(tmp_path: Path) -> None:
    found = wrong(tmp_path, "sandboxes:\n  a: {extends: b, image: x}\n  b: {extends: a}\n")
    assert found[0].endswith(":2:16: a cycle: a extends b extends a")


def test_profiles_and_replicas(tmp_path: Path) -> None:
    text = """
sandboxes:
  a: {image: x, replicas: 2}
  b: {image: x, profiles: [debug], depends_on: [a]}
  c: {image: x, profiles: [other]}
"""
    assert list(read(tmp_path, text).members) == ["a"]
    spec = read(tmp_path, text, "debug")
    assert list(spec.members) == ["a", "b"] and spec.others == {"c"}
    assert spec.members["a"].sandboxes == (f"{spec.name}-a-1", f"{spec.name}-a-2")
    assert list(read(tmp_path, text, "*").members) == ["a", "b", "c"]
    assert list(spec.only(("b",)).members) == ["a", "b"]
    found = wrong(tmp_path, text.replace("b: {image: x, profiles: [debug], depends_on: [a]}",
                                         "b: {image: x, depends_on: [c]}"))  # fmt: skip
    assert found[0].endswith(
        "b needs c, which is only there in profile other (use --profile other)"
    )


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    spec = read(tmp_path, PRODUCT)
    again = read(tmp_path, json.dumps(spec.config()))
    assert again.config() == spec.config()
    assert {n: m.options() for n, m in again.members.items()} == {
        n: m.options() for n, m in spec.members.items()
    }


def test_options_tell_what_changed_and_no_value(tmp_path: Path) -> None:
    one = read(tmp_path, "sandboxes: {a: {image: x, env: {A: 1}, memory: 1G}}").members["a"]
    two = read(
        tmp_path, "sandboxes: {a: {image: x, env: {A: 2}, memory: 1G, health: {command: x}}}"
    )
    before, after = one.options(), two.members["a"].options()
    assert {name for name in before if before[name] != after[name]} == {"env"}
    assert set(before) == set(after) == {"env", "image", "memory"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none.yaml: no such file"):
        read_fleet(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"there is no Sandboxfile.yaml or Sandboxfile in"):
        default_file(tmp_path)
    (tmp_path / "env").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_variables(tmp_path / "env")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    assert wrong(tmp_path, "- a\n") == ["Sandboxfile.yaml:1:1: the file is a list, not a mapping"]
    assert wrong(tmp_path, "a: 1\n") == [
        "Sandboxfile.yaml:1:1: 'sandboxes' is missing",
        "Sandboxfile.yaml:1:1: there is no 'a' here (there are name, sandboxes, secrets, volumes)",
    ]


WORDS = [
    "sandboxes", "api", "image", "x", "volumes", "data:/data", "./src:/app", "[", "]", "{", "}", ":",
    "\n", "  ", "- ", "extends", "depends_on", "health", "command", "env", "null", "1", "1.5", "true",
    "secrets", "KEY@h.example", "ports", "8000:80", "${A:-b}", "services", "build", "replicas",
    "network", "from_snapshot", "scripts", "start", "<<", "*x", "&x", "'", '"', "healthcheck", "test",
    "deploy", "environment", "tmpfs", "networks", "profiles", "plugins", "env_file", "name", "size",
]  # fmt: skip


@given(
    text=st.sampled_from([PRODUCT, COMPOSE]),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 12), st.sampled_from(["", *WORDS])),
                   max_size=6),
)  # fmt: skip
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_is_a_fleet_or_told_what_is_wrong(
    tmp_path: Path, text: str, edits: list[tuple[int, int, str]]
) -> None:
    for at, length, word in edits:
        at %= len(text) + 1
        text = text[:at] + word + text[at + length :]
    (tmp_path / "src").mkdir(exist_ok=True)
    (tmp_path / "m.env").touch()
    try:
        spec = read(tmp_path, text or " ", POSTGRES_PASSWORD="p", HOME="/h")
    except ConfigError as error:
        assert error.message
    else:
        json.dumps(spec.config())
        assert all(member.options() is not None for member in spec.members.values())
