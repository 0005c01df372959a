"""Compose files of the common kind: what maps is mapped, what does not is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.errors import SandboxfileError
from sandlot.fleet.reading import read_fleet

FILE = """version: "3.8"
x-common: &common
  restart: unless-stopped
  logging: {driver: json-file}
services:
  db:
    <<: *common
    image: postgres:${PG:-16}-alpine
    environment:
      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it}
      N: 1.10
    volumes: [db-data:/var/lib/postgresql/data]
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U app"]
      interval: 1m30s
      timeout: 5s
      retries: 5
    networks: [back]
  web:
    build: {context: ., cache_from: [x]}
    command: gunicorn app:app -b '0.0.0.0:8000'
    ports: ["8000:8000", {target: 80, published: 8080, host_ip: 0.0.0.0, protocol: tcp}]
    depends_on: {db: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}
    environment: [A=1, HOME]
    deploy: {replicas: 1, resources: {limits: {cpus: "1.0", memory: 512M}}}
    cpu_shares: 3
    network_mode: none
    volumes:
      - {type: bind, source: ., target: /src, read_only: true}
    tmpfs: /run:size=64m
  migrate:
    image: web
    env_file: [{path: m.env, required: true}]
    command:
    entrypoint: ["./migrate"]
    privileged: true
    pids_limit: -1
volumes: {db-data: , other: {driver: nfs}}
networks: {back: }
secrets: {x: {file: y}}
"""


def test_what_maps_is_mapped_and_what_does_not_is_named(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "m.env").write_text("FROM=file\n")
    spec = read_fleet(
        tmp_path / "compose.yaml", name="shop",
        variables={"POSTGRES_PASSWORD": "p", "HOME": "/home/x"},
    )  # fmt: skip
    db, web, migrate = (spec.members[name] for name in ("db", "web", "migrate"))
    assert db.image == "postgres:16-alpine" and db.model.restart == "unless-stopped"
    assert db.env == {"POSTGRES_PASSWORD": "p", "N": "1.10"}
    assert db.health is not None and db.health.command == ["/bin/sh", "-c", "pg_isready -U app"]
    assert (db.health.interval, db.health.retries) == ("90", 5)
    assert db.model.image_command and not db.command
    assert web.command == ("gunicorn", "app:app", "-b", "0.0.0.0:8000") and web.model.image_command
    assert web.model.ports == ["8000:8000", "0.0.0.0:8080:80/tcp"]
    assert web.needs == {"db": "healthy", "migrate": "completed"}
    assert web.env == {"A": "1", "HOME": "/home/x"}
    assert (web.model.memory, web.model.cpus, web.sandboxes) == ("512M", 1, ("shop-web-1",))
    assert web.build is not None and web.image == "shop-web"
    assert web.model.network is not None and web.model.network.default == "deny"
    assert [(m.type, m.target, m.readonly, m.size) for m in web.mounts] == [
        ("bind", "/src", True, None), ("tmpfs", "/run", False, "64m"),
    ]  # fmt: skip
    assert migrate.command == ("./migrate",) and migrate.model.pids == 0
    assert migrate.env == {"FROM": "file"}
    assert [str(each).replace(f"{tmp_path}/", "").partition(" (")[0] for each in spec.warnings] == [
        "compose.yaml:4:3: db: logging is left out: there is one log; see `sandlot fleet logs`",
        "compose.yaml:18:15: db is alone in the network back",
        "compose.yaml:20:5: web: build is left out: cache_from is not known to builds here",
        "compose.yaml:26:5: web: cpu_shares is left out: a sandbox has nothing like it",
        (
            "compose.yaml:36:5: migrate: privileged is left out: a sandbox has a kernel of its own, and "
            "root in it every right"
        ),
        "compose.yaml:38:30: driver of the volume other is left out",
        "compose.yaml:40:1: secrets is left out: files are not put into sandboxes",
    ]


def test_what_is_wrong_is_told_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "services:\n  a: {image: x, environment: 5, depends_on: [b]}\n  c: [1]\n"
    )
    with pytest.raises(SandboxfileError) as caught:
        read_fleet(tmp_path / "c.yaml", variables={})
    assert [(p["line"], p["column"]) for p in caught.value.problems] == [(2, 30), (3, 6)]


def test_services_reach_each_other_as_in_compose(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("""
services:
  a: {image: x, expose: ["80"]}
  b: {image: x, scale: 2}
  front: {image: x, networks: [outer, default]}
  back: {image: x, networks: {outer: , inner: {aliases: [other]}}}
  store: {image: x, networks: [inner]}
  batch: {image: x, network_mode: none}
networks: {outer: {name: shared}, inner: {driver: overlay}}
""")
    spec = read_fleet(tmp_path / "c.yaml", name="s", variables={})
    assert {name: list(each.peers) for name, each in spec.members.items()} == {
        "a": ["b", "front"], "b": ["a", "front"], "front": ["a", "b", "back"],
        "back": ["front", "store"], "store": ["back"], "batch": [],
    }  # fmt: skip
    assert spec.members["a"].peers["b"] == ("s-b-1", "s-b-2")
    assert [each.message for each in spec.warnings] == [
        "back: aliases of a network is left out: members are reached by their names",
        "driver of the network inner is left out: a network is only who is in it",
    ]


def test_a_part_of_a_processor_is_a_whole_one_as_is_told(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  a: {image: x, cpus: 0.5}\n"
        "  b: {image: x, deploy: {resources: {limits: {cpus: '2.5'}}}}\n  c: {image: x, cpus: 2}\n"
    )
    spec = read_fleet(tmp_path / "compose.yaml", name="shop")
    assert [spec.members[name].model.cpus for name in "abc"] == [1, 3, 2]
    told = [str(each) for each in spec.warnings]
    assert any("a: cpus 0.5 becomes 1" in each for each in told), told
    assert any("b: cpus 2.5 becomes 3" in each for each in told), told
