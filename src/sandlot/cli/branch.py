"""`sandlot restore` and `sandlot fork`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.mounts import volumes_of
from sandlot.cli.options import (
    PASS_THROUGH,
    command_words,
    environment,
    labels,
    network_of,
    plugin_options,
    plugin_processes,
    process_options,
    reach_options,
    secrets_of,
)
from sandlot.errors import ConfigError

if TYPE_CHECKING:
    from sandlot.sandbox.restoring import Changes
    from sandlot.sandbox.sandbox import Sandbox

_no_plugins = click.option("--no-plugins", is_flag=True, help="Without the plugins that it had.")
_ADVICE = "memory is as it was saved: save a sandbox that was made with more"


@click.command(
    context_settings=PASS_THROUGH,
    epilog="Examples: sandlot restore --rm ready; sandlot restore --rm ready -- python3 work.py; "
    "sandlot restore -d --name w-1 -e WORKER_ID=1 ready",
)
@reach_options
@process_options
@plugin_options
@_no_plugins
@click.option("--timeout", metavar="TIME", help="Kill the command after this time, such as 10m.")
@click.option(
    "--disk-only", is_flag=True, help="Its disk in a new machine, not the programs that ran."
)
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Instead of its labels.")
@click.option("--max-duration", metavar="TIME", help="Stop it after this time in any case.")
@click.option("--idle-timeout", metavar="TIME", help="Stop it when nobody has used it for so long.")
@click.option("--disk", metavar="SIZE", help="Let its disk grow to this, such as 8G.")
@click.option("-h", "--hostname", metavar="NAME", help="Its host name; the name otherwise.")
@click.option("--rm", "auto_remove", is_flag=True, help="Remove it when it ends.")
@click.option("-d", "--detach", is_flag=True, help="Let it run by itself and print its id.")
@click.option("--name", help="A name, unique on this machine.")
@click.argument("snapshot")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def restore(ctx: click.Context, /, snapshot: str, command: tuple[str, ...], **options: Any) -> None:
    """Make a sandbox that goes on where SNAPSHOT was saved, and run COMMAND in it.

    SNAPSHOT is a name, an id, a tag (the newest that has it), or the beginning of an id: the first
    of these that there is. The programs that ran go on, as a machine of its own. Without COMMAND a
    shell is opened. The exit status is the command's, and the sandbox ends with it; without --rm it
    stays, stopped. With -d it lives by itself, and COMMAND is a job in it. -e reaches COMMAND and
    what is started later, and /run/sandlot/restored, which running programs may read. Network,
    ports, secrets and volumes are as they were saved when they are not given; ports are then at
    free ones of the host.
    """
    from sandlot.cli.terminal import leave_at_once

    words = command_words(command)
    if not words and not options["detach"]:
        options |= {"interactive": True, "tty": os.isatty(0)}
    status = asyncio.run(_restore(snapshot, words, options))
    if options["interactive"] and not options["detach"]:
        leave_at_once(status)
    ctx.exit(status)


async def _restore(snapshot: str, words: list[str], options: dict[str, Any]) -> int:
    from sandlot.cli.exec import SHELL
    from sandlot.cli.output import Progress, human_size
    from sandlot.cli.run import until_end
    from sandlot.cli.terminal import check_terminal, terminal_size
    from sandlot.errors import SandboxError
    from sandlot.sandbox.branching import prepare_child
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.restoring import origin_of
    from sandlot.sandbox.secrecy import Grants
    from sandlot.sandbox.sizes import parse_duration

    detach, tty, interactive = options["detach"], options["tty"], options["interactive"]
    if not detach:
        check_terminal(tty, interactive)
    elif options["timeout"] is not None:
        raise ConfigError(
            "--timeout cannot be combined with -d", hint="use --max-duration for the sandbox"
        )
    elif not words and (
        flag := next((f for f in ("interactive", "tty", "user", "workdir") if options[f]), "")
    ):
        raise ConfigError(f"--{flag} is for a command", hint="name one after the snapshot")
    parse_duration(options["timeout"])
    host = Host.current()
    host.tell = progress = Progress()
    origin = origin_of(host.snapshots.find(snapshot), disk_only=options["disk_only"])
    sandbox = await prepare_child(host, origin, options["name"], _changes(options), Grants(), None)
    process = None
    try:
        await sandbox.start()
        progress.close()
        running = {
            "stdin": interactive, "tty": terminal_size() if tty else False,
            "workdir": options["workdir"], "user": options["user"],
        }  # fmt: skip
        if not detach:
            process = await sandbox.spawn(
                words or ["/bin/sh", "-c", SHELL], timeout=options["timeout"], **running
            )
        elif words:
            await sandbox.spawn(words, detached=True, **running)
    except BaseException:
        with contextlib.suppress(SandboxError):
            await sandbox.remove()
        raise
    if process is None:
        click.echo(sandbox.id)
        return 0
    memory = human_size(sandbox.record.memory)
    word = words[0] if words else "the shell"
    return await until_end(sandbox, process, word, **options, memory=memory, advice=_ADVICE)


def _changes(options: dict[str, Any]) -> Changes:
    from sandlot.sandbox.restoring import Changes

    limits = {name: options.get(name) for name in ("idle_timeout", "max_duration")}
    plugins: dict[str, Any] = {}
    if options["no_plugins"] or options["plugin"] or options["plugin_process"]:
        plugins = {
            "plugins": list(options["plugin"]),
            "plugin_processes": plugin_processes(options["plugin_process"]),
        }
    return Changes(
        env=environment(options["env"], options["env_file"]), hostname=options["hostname"],
        network=network_of(options), ports=list(options["publish"]) or None,
        secrets=secrets_of(options["secret"], options["secret_file"]),
        labels=labels(options["label"]) if options["label"] else None, disk=options["disk"],
        volumes=volumes_of(options) or None,
        detached=options["detach"], auto_remove=options["auto_remove"], **limits, **plugins,
    )  # fmt: skip


@click.command(
    epilog="Examples: sandlot fork box; sandlot fork --name try -n 3 -e SEED=7 box",
)
@reach_options
@plugin_options
@_no_plugins
@click.option("--env-file", multiple=True, metavar="FILE", help="Read variables from a file.")
@click.option(
    "-e", "--env", multiple=True, metavar="KEY[=VALUE]",
    help="Set a variable for what is started in it from now on.",
)  # fmt: skip
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Instead of its labels.")
@click.option("--disk", metavar="SIZE", help="Let its disk grow to this, such as 8G.")
@click.option("-h", "--hostname", metavar="NAME", help="Its host name; the name otherwise.")
@click.option("--rm", "auto_remove", is_flag=True, help="Remove it when it ends.")
@click.option("-d", "--detach", is_flag=True, help="That is how it is: twins live by themselves.")
@click.option(
    "-n", "--count", type=click.IntRange(1, 1000), default=1, show_default=True,
    help="How many twins of this moment.",
)  # fmt: skip
@click.option("--name", help="Its name; of several NAME-1, NAME-2, ...")
@click.argument("sandbox")
def fork(sandbox: str, name: str | None, count: int, **options: Any) -> None:
    """Make twins of the running SANDBOX, which go on where it is now, and print their ids.

    The sandbox runs on. A twin has the same programs, files, network policy and secrets, and its
    own name, host name, machine id and randomness; published ports are at free ones of the host.
    """
    if name is None or count == 1:
        names = [name] * count
    else:
        names = [f"{name}-{number}" for number in range(1, count + 1)]
    options["detach"] = True
    for twin in asyncio.run(_fork(sandbox, names, options)):
        click.echo(twin.id)


async def _fork(sandbox: str, names: list[str | None], options: dict[str, Any]) -> list[Sandbox]:
    from sandlot.sandbox.sandbox import Sandbox

    return await (await Sandbox.get(sandbox))._twins(names, _changes(options))
