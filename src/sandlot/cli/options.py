"""Flags that several commands share, in Docker's spelling."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sandlot.cli.mounts import volume_options, volumes_of
from sandlot.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


class Whole(click.Group):
    """A group whose list of commands shows the first sentence of each, uncut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(1000)) for name, command in commands if command]
            )


PASS_THROUGH = {"allow_interspersed_args": False}


def environment(pairs: Sequence[str], files: Sequence[str] = ()) -> dict[str, str]:
    """`-e KEY=VALUE`, `-e KEY` (from our own environment, left out when it is not set), `--env-file`.

    Raises:
        ConfigError: a file cannot be read, or a name is empty.
    """
    lines: list[str] = []
    for name in files:
        try:
            text = Path(name).read_text()
        except OSError as error:
            raise ConfigError(f"cannot read env file {name}: {error.strerror}") from error
        stripped = (line.strip() for line in text.splitlines())
        lines += [line for line in stripped if line and not line.startswith("#")]
    values = {}
    for pair in [*lines, *pairs]:
        key, equals, value = pair.partition("=")
        if not key:
            raise ConfigError(f"{pair!r} is not an environment variable", hint="use -e KEY=VALUE")
        if equals:
            values[key] = value
        elif key in os.environ:
            values[key] = os.environ[key]
    return values


def command_words(words: Sequence[str]) -> list[str]:
    """The command after the image or name, with or without `--`."""
    return list(words[1:] if words and words[0] == "--" else words)


def whole_cpus(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Docker allows fractions of a processor; a machine has whole ones."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if number < 1 or number != int(number):
        raise click.BadParameter(f"{value} is not a whole number of processors", ctx, param)
    return int(number)


def process_options(function: F) -> F:
    """-e, --env-file, -w, -u, -i, -t: what a process gets."""
    for option in (
        click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
        click.option("-i", "--interactive", is_flag=True, help="Keep its standard input open."),
        click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user."),
        click.option("-w", "--workdir", metavar="DIR", help="Start in this folder."),
        click.option(
            "--env-file", multiple=True, metavar="FILE", help="Read variables from a file."
        ),
        click.option("-e", "--env", multiple=True, metavar="KEY[=VALUE]", help="Set a variable."),
    ):
        function = option(function)
    return function


def labels(pairs: Sequence[str]) -> dict[str, str]:
    """`--label KEY=VALUE` or `--label KEY`."""
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def making(options: dict[str, Any]) -> dict[str, Any]:
    """The flags of `run` and `create` as the arguments of a new sandbox."""
    same = (
        "name", "auto_remove", "memory", "cpus", "disk", "hostname", "workdir", "user", "tty",
        "restart", "stop_signal", "idle_timeout", "idle_action", "max_duration",
    )  # fmt: skip
    return {
        **{name: options[name] for name in same},
        "env": environment(options["env"], options["env_file"]),
        "stdin": options["interactive"],
        "stop_grace": options["stop_timeout"],
        "pids": max(options["pids_limit"], 0),  # Docker's -1 is no limit
        "labels": labels(options["label"]),
        "network": network_of(options),
        "ports": list(options["publish"]),
        "bandwidth": options["bandwidth"] or 0,
        "connections": options["connections"],
        "dns": list(options["dns"]),
        "secrets": secrets_of(options["secret"], options["secret_file"]),
        "upstream_ca": options["upstream_ca"] or "",
        "inspect": list(options["inspect"]),
        "volumes": volumes_of(options),
        "plugins": list(options["plugin"]),
        "plugin_processes": plugin_processes(options["plugin_process"]),
    }


def plugin_processes(texts: tuple[str, ...]) -> list[Any]:
    """What `--plugin-process` says: a command, after `open:` when it may be left out."""
    if not texts:
        return []
    from sandlot.plugin.process import PluginProcess

    return [
        PluginProcess(text.removeprefix("open:"),
                      on_failure="open" if text.startswith("open:") else "closed")
        for text in texts
    ]  # fmt: skip


POLICY_FLAGS = ("allow", "deny", "network", "hidden_names", "peer")
DOCKERS_NETWORKS = {"none": "deny", "bridge": "public", "default": "public"}


def _network_word(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    word = DOCKERS_NETWORKS.get(value or "", value)
    if word == "host":
        raise click.BadParameter(
            "a sandbox has a kernel of its own and cannot share the host's network; "
            "--allow host lets it reach the host's services",
            ctx, param,
        )  # fmt: skip
    if word not in (None, "deny", "public", "open"):
        raise click.BadParameter(
            f"{value} is not deny, public or open; there are no networks to make", ctx, param
        )
    return word


def network_of(options: dict[str, Any]) -> Any:
    """The policy that the flags of `policy_options` say; None when they say nothing."""
    if not any(options[name] for name in POLICY_FLAGS):
        return None
    from sandlot.network.policy import Network

    return Network(
        options["allow"] or None, options["deny"], options["network"],
        hidden_names=options["hidden_names"], peers=peers_of(options["peer"]),
    )  # fmt: skip


def peers_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """`--peer SANDBOX` and `--peer NAME=SANDBOX`: the sandboxes behind each name."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, _, sandbox = text.partition("=")
        found.setdefault(name, []).append(sandbox or name)
    return found


def secrets_of(variables: Sequence[str], files: Sequence[str]) -> dict[str, Any] | None:
    """`--secret NAME@HOST[,HOST]` and `--secret-file NAME=FILE@HOST[,HOST]`; None without any.

    Raises:
        ConfigError: one is written in another way.
    """
    if not variables and not files:
        return None
    from sandlot.secrets import Secret

    found: dict[str, Any] = {}
    for text in variables:
        name, at, hosts = text.partition("@")
        if not at or not name or not hosts:
            raise ConfigError(
                f"--secret {text.partition('=')[0]!r} names no host",
                hint="use NAME@HOST; the value is that of the variable NAME",
            )
        _once(found, name)
        found[name] = Secret(env=name, hosts=hosts.split(","))
    for text in files:
        before, at, hosts = text.rpartition("@")
        name, equals, path = before.partition("=")
        if not (at and equals and name and path and hosts):
            raise ConfigError(f"--secret-file {text!r} is not NAME=FILE@HOST")
        _once(found, name)
        found[name] = Secret(file=path, hosts=hosts.split(","))
    return found


def _once(found: dict[str, Any], name: str) -> None:
    if name in found:
        raise ConfigError(f"the secret {name} is given twice", hint=f"use {name}@HOST,HOST")


def policy_options(function: F) -> F:
    """--network, --allow, --deny: what may be reached."""
    for option in (
        click.option(
            "--hidden-names", is_flag=True,
            help="Under rules on names, let pass what hides its own: encrypted TLS hellos (ECH), "
            "which browsers always seem to send, and QUIC.",
        ),
        click.option(
            "--peer", multiple=True, metavar="[NAME=]SANDBOX",
            help="Let it reach another sandbox of yours over TCP, by this name; again for one "
            "name, they take turns.",
        ),
        click.option(
            "--network", "--net", metavar="WHAT", callback=_network_word,
            help="What becomes of the rest: deny (Docker's none), public or open; deny with "
            "--allow, public otherwise.",
        ),
        click.option("--deny", multiple=True, metavar="RULE", help="Refuse this."),
        click.option(
            "--allow", multiple=True, metavar="RULE", help="Allow this, and refuse the rest."
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def reach_options(function: F) -> F:
    """-v, --secret, -p and the policy: what a sandbox that goes on from a saved one may have anew."""
    for option in (
        click.option(
            "--secret-file", multiple=True, metavar="NAME=FILE@HOST[,HOST]",
            help="As --secret, with the value from a file.",
        ),
        click.option(
            "--secret", multiple=True, metavar="NAME@HOST[,HOST]",
            help="Let it use the variable NAME of this machine without holding it: requests to "
            "HOST get the value.",
        ),
        click.option(
            "-p", "--publish", multiple=True, metavar="[[ADDRESS:]PORT:]PORT[/udp]",
            help="Let a port of the host, on 127.0.0.1 unless told, lead to one of the sandbox; "
            "ranges as 8000-8010:8000-8010.",
        ),
    ):  # fmt: skip
        function = option(function)
    return policy_options(volume_options(function))


def network_options(function: F) -> F:
    """What a sandbox may reach, and be reached by."""
    for option in (
        click.option(
            "--connections", type=int, default=0, metavar="NUMBER",
            help="How many connections it may have at once; 1024 otherwise.",
        ),
        click.option(
            "--upstream-ca", metavar="FILE",
            help="Certificates that are trusted besides this machine's, for hosts of --secret and "
            "--inspect.",
        ),
        click.option(
            "--inspect", multiple=True, metavar="HOST",
            help="Look into HTTP to this host, *.SUFFIX or *, also without a secret for it.",
        ),
        click.option(
            "--dns", multiple=True, metavar="ADDRESS[:PORT]",
            help="Ask this name server; the host's own otherwise.",
        ),
        click.option("--bandwidth", metavar="SIZE", help="Bytes a second of all it moves."),
    ):  # fmt: skip
        function = option(function)
    return reach_options(function)


def plugin_options(function: F) -> F:
    """Its plugins."""
    for option in (
        click.option(
            "--plugin-process",
            multiple=True,
            metavar="COMMAND",
            help="A program that is a plugin; open:COMMAND is left out when it fails.",
        ),
        click.option(
            "--plugin",
            multiple=True,
            metavar="NAME[=ARG]",
            help="A plugin, in the order of these flags; `sandlot plugins` lists them.",
        ),
    ):
        function = option(function)
    return function


def machine_options(function: F) -> F:
    """What a sandbox gets, and what becomes of it."""
    function = plugin_options(network_options(function))
    for option in (
        click.option(
            "-l", "--label", multiple=True, metavar="KEY=VALUE", help="A label, for listings."
        ),
        click.option("--max-duration", metavar="TIME", help="Stop it after this time in any case."),
        click.option(
            "--idle-action",
            default="stop",
            show_default=True,
            metavar="ACTION",
            help="What --idle-timeout does: stop or hibernate.",
        ),
        click.option(
            "--idle-timeout",
            metavar="TIME",
            help="Stop it when nothing but its main command has run for this time.",
        ),
        click.option(
            "--pids-limit",
            type=int,
            default=0,
            metavar="NUMBER",
            help="How many processes it may have; otherwise what the machine allows.",
        ),
        click.option(
            "--stop-timeout", metavar="TIME", help="The time until `stop` kills; 10s otherwise."
        ),
        click.option(
            "--stop-signal",
            metavar="SIGNAL",
            help="What `stop` sends the command; the image's, or SIGTERM, otherwise.",
        ),
        click.option(
            "--restart",
            default="no",
            show_default=True,
            metavar="POLICY",
            help="With -d, run the command again: no, on-failure[:N], always, unless-stopped.",
        ),
        click.option("--entrypoint", metavar="PROGRAM", help="Instead of the image's entrypoint."),
        click.option("-h", "--hostname", metavar="NAME", help="Its host name; the name otherwise."),
        click.option("--disk", default="4G", show_default=True, help="Size of its writable disk."),
        click.option(
            "--cpus", default="1", show_default=True, callback=whole_cpus, help="Processors."
        ),
        click.option("-m", "--memory", default="1G", show_default=True, help="Memory."),
        click.option(
            "--platform", metavar="OS/ARCH", help="Of the image, when it is pulled; this machine's."
        ),
        click.option(
            "--pull",
            type=click.Choice(["missing", "always", "never"]),
            help="When to ask a registry for the image; when it is missing.",
        ),
        click.option("--rm", "auto_remove", is_flag=True, help="Remove it when it ends."),
        click.option("--name", help="A name, unique on this machine."),
    ):
        function = option(function)
    return function
