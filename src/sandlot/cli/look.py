"""`sandlot ps`, `inspect` and `events`."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.output import ago, as_json, human_size, table
from sandlot.errors import ConfigError

if TYPE_CHECKING:
    from sandlot.sandbox.listing import SandboxInfo
    from sandlot.state.events import Event

_FILTERS = ("name", "id", "status", "label", "ancestor")
_EXITED = {"exited": "stopped", "dead": "stopped"}  # Docker's words


@click.command(epilog="Examples: sandlot ps -a; sandlot ps --json | jq '.[].name'")
@click.option("-a", "--all", "everything", is_flag=True, help="Also the ones that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help="Only those with this name, id, status, label or ancestor (image).",
)  # fmt: skip
@click.option(
    "--format", "template", metavar="TEMPLATE",
    help="`json`, or text with {{.Names}}, {{.ID}}, {{.Image}}, {{.Status}}, {{.State}}, ...",
)  # fmt: skip
@click.option("--no-trunc", is_flag=True, help="Whole commands.")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
def ps(
    everything: bool, quiet: bool, filters: tuple[str, ...], template: str | None, no_trunc: bool,
    json_: bool,
) -> None:  # fmt: skip
    """List the running sandboxes."""
    from sandlot.cli.main import complain
    from sandlot.sandbox.listing import list_sandboxes

    wanted = [_filter(text) for text in filters]
    everything = everything or any(key == "status" for key, _ in wanted)
    infos = [
        info
        for info in list_sandboxes(lambda error: complain(error.message, error.hint))
        if (everything or info.state.running) and all(_matches(info, *w) for w in wanted)
    ]
    if json_:
        as_json([plain(info) for info in infos])
    elif template in ("json", "{{json .}}"):
        for info in infos:
            click.echo(json.dumps(_docker(info, no_trunc)))
    elif template not in (None, "table"):
        _templated(template or "", [_docker(info, no_trunc) for info in infos])
    elif quiet:
        for info in infos:
            click.echo(info.record.id)
    else:
        table(
            ("NAME", "IMAGE", "STATUS", "CREATED", "MEMORY", "CPUS", "COMMAND", "ID"),
            [
                (
                    i.record.name, i.record.image, _status(i), ago(i.record.created),
                    human_size(i.record.memory), str(i.record.cpus), _command(i, no_trunc),
                    i.record.id,
                )
                for i in infos
            ],
        )  # fmt: skip


def plain(info: SandboxInfo) -> dict[str, Any]:
    """A sandbox as JSON: its record, its state, its status."""
    record, state = info.to_json()
    return {**record, **state, "status": info.status}


def _status(info: SandboxInfo) -> str:
    if info.status == "paused" and info.state.pooled:
        return f"ready in a pool, started {ago(info.state.started)}"
    if info.status in ("running", "paused"):
        return f"{info.status}, started {ago(info.state.started)}"
    if info.status == "stopped":
        from sandlot.sandbox.ending import why_it_ended

        return why_it_ended(info.state)
    return info.status


def _command(info: SandboxInfo, whole: bool) -> str:
    text = _plain(" ".join(info.record.command))
    return text if whole else text[:30]


def _plain(text: str) -> str:
    """Without what a terminal would obey: a guest that was lent a runtime may have chosen it."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in _FILTERS:
        raise ConfigError(
            f"the filter {text!r} is not known", hint=f"use {', '.join(_FILTERS)} with =VALUE"
        )
    return key, value


def _matches(info: SandboxInfo, key: str, value: str) -> bool:
    record = info.record
    if key == "name":
        try:
            return re.search(value, record.name) is not None
        except re.error as error:
            raise ConfigError(f"the filter name={value} is not a pattern: {error}") from None
    if key == "id":
        return record.id.startswith(value)
    if key == "status":
        return info.status == _EXITED.get(value, value)
    if key == "ancestor":
        return value in (record.image, record.image_digest)
    name, equals, wanted = value.partition("=")
    return name in record.labels and (not equals or record.labels[name] == wanted)


def _ports(info: SandboxInfo) -> str:
    from sandlot.network.published import PublishedPort

    return ", ".join(str(PublishedPort.from_json(each)) for each in info.state.ports)


def _mounted(volume: dict[str, Any]) -> str:
    """Docker's word for a volume: its name, or the folder of the host."""
    return str(volume.get("name") or volume.get("source") or volume["kind"])


def _docker(info: SandboxInfo, whole: bool) -> dict[str, str]:
    """The fields of Docker's templates."""
    record = info.record
    return {
        "ID": record.id, "Names": record.name, "Image": record.image, "Status": _status(info),
        "State": {"stopped": "exited"}.get(info.status, info.status),
        "Command": _command(info, whole), "RunningFor": ago(record.created),
        "CreatedAt": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC",
        "Labels": ",".join(f"{k}={v}" for k, v in record.labels.items()),
        "Ports": _ports(info) if info.state.running else "",
        "Mounts": ",".join(_mounted(each) for each in record.volumes), "Networks": "",
        "Size": human_size(record.disk),
    }  # fmt: skip


_HEADINGS = {
    "ID": "ID", "Names": "NAMES", "Image": "IMAGE", "Status": "STATUS", "State": "STATE",
    "Command": "COMMAND", "RunningFor": "CREATED", "CreatedAt": "CREATED AT", "Labels": "LABELS",
    "Ports": "PORTS", "Mounts": "MOUNTS", "Networks": "NETWORKS", "Size": "SIZE",
}  # fmt: skip


def _templated(template: str, rows: list[dict[str, str]]) -> None:
    """One filled template for each row; after `table ` in columns, below a heading.

    Raises:
        ConfigError: a field is not known, or it is more than fields.
    """
    text = template.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    heading = _fill(text, _HEADINGS)  # also when there are no rows: it is looked at in any case
    if template.startswith("table "):
        cells = [[cell.replace("\t", " ") for cell in row.values()] for row in rows]
        rows = [
            dict(zip(row, values, strict=True)) for row, values in zip(rows, cells, strict=True)
        ]
        table(heading.split("\t"), [_fill(text, row).split("\t") for row in rows])
        return
    for row in rows:
        click.echo(_fill(text, row))


def _fill(template: str, values: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = re.fullmatch(r"\s*\.(\w+)\s*", found[1])
        if name is None or name[1] not in values:
            raise ConfigError(
                f"the template field {found[0]} is not known",
                hint="use " + ", ".join("{{." + name + "}}" for name in values),
            )
        return values[name[1]]

    return re.sub(r"\{\{(.*?)\}\}", value, template)


@click.command(epilog="Example: sandlot inspect box")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def inspect(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Print all that is known of sandboxes, as a JSON list: record, state, every limit, files."""
    import asyncio

    from sandlot.cli.main import complain
    from sandlot.errors import SandboxError
    from sandlot.sandbox.sandbox import Sandbox

    found, failed = [], False
    for name in names:
        try:
            found.append(asyncio.run(Sandbox.get(name)).inspect())
        except SandboxError as error:
            complain(error.message, error.hint)
            failed = True
    as_json(found)
    ctx.exit(125 if failed else 0)


@click.command(epilog="Examples: sandlot events; sandlot events --since 10m --no-follow --json")
@click.option("--since", metavar="TIME", help="From this time ago (10m) or this date (ISO) on.")
@click.option("--no-follow", is_flag=True, help="What is known already, and return.")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help="Only events with this name, id, image or event (its kind).",
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="One JSON object on each line.")
def events(since: str | None, no_follow: bool, filters: tuple[str, ...], json_: bool) -> None:
    """Show what happens to sandboxes, as it happens.

    Kinds: created, started, snapshot, paused, resumed, hibernated, woken, oom, exited, restarting,
    stopped, renamed, removed.
    """
    from sandlot.sandbox.listing import folders

    wanted = []
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in ("name", "id", "image", "event"):
            raise ConfigError(f"the filter {text!r} is not known", hint="name, id, image or event")
        wanted.append(({"event": "kind"}.get(key, key), value))
    log = folders().events
    start = moment(since) if since else (0.0 if no_follow else time.time())
    for event in log.read(since=start) if no_follow else log.follow(since=start):
        if event is None:
            sys.stdout.flush()
            # Other programs write the record; of that a file tells nobody on every system.
            time.sleep(0.1)
        elif all(getattr(event, key) == value for key, value in wanted):
            _show(event, json_)


def _show(event: Event, json_: bool) -> None:
    from sandlot.sandbox.sizes import iso_time

    when = iso_time(event.time)
    if json_:
        click.echo(json.dumps({**asdict(event), "time": when}))
        return
    details = _plain("".join(f" {key}={value}" for key, value in event.details.items()))
    click.echo(f"{when} {event.kind} {event.name} ({event.id}){details}")


def moment(text: str) -> float:
    """`10m` (ago), a date such as `2026-11-25T10:00`, or seconds since 1970, as the latter.

    Raises:
        ConfigError: none of these.
    """
    from sandlot.sandbox.sizes import parse_duration

    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - (parse_duration(text, "since") or 0.0)
    except ConfigError:
        raise ConfigError(
            f"{text!r} is not a time", hint="use for example 10m, or 2026-11-25T10:00"
        ) from None
