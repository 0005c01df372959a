"""`sandlot`: the table of commands, and how errors become exit statuses."""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib
import os
import sys
import threading

import click

from sandlot.errors import ConfigError, ExecError, SandboxError

# name -> (module, what the list of commands says); nothing is imported to show that list.
COMMANDS = {
    "run": ("run", "Make a sandbox and run a command in it"),
    "create": ("run", "Make a sandbox without starting it"),
    "exec": ("exec", "Run a command in a running sandbox"),
    "shell": ("exec", "Open a shell in a running sandbox"),
    "cp": ("cp", "Copy files between the host and a sandbox"),
    "jobs": ("jobs", "List the jobs of a running sandbox"),
    "attach": ("jobs", "Watch a job, or the main command, of a running sandbox"),
    "ps": ("look", "List sandboxes"),
    "inspect": ("look", "Print all that is known of sandboxes"),
    "events": ("look", "Show what happens to sandboxes"),
    "start": ("life", "Start stopped sandboxes"),
    "stop": ("life", "Stop running sandboxes"),
    "restart": ("life", "Stop sandboxes and start them again"),
    "kill": ("life", "End sandboxes at once, or send a signal"),
    "pause": ("life", "Stop the processors of sandboxes"),
    "unpause": ("life", "Let paused sandboxes go on"),
    "wait": ("life", "Wait until sandboxes have stopped"),
    "rename": ("life", "Give a stopped sandbox another name"),
    "rm": ("life", "Remove sandboxes"),
    "snapshot": ("snapshot", "Save sandboxes; list, name and remove what was saved"),
    "volume": ("volume", "Make, list, copy and remove named volumes"),
    "remote": ("remote", "Name the places that sandboxes are pushed to"),
    "restore": ("branch", "Make a sandbox that goes on from a snapshot"),
    "push": ("push", "Send a sandbox to a remote, encrypted"),
    "pull": ("push", "Fetch a sandbox that was pushed"),
    "key": ("key", "Make keys for what is pushed, and say who may read it"),
    "fork": ("branch", "Make twins of a running sandbox"),
    "stats": ("stats", "Show what running sandboxes use"),
    "top": ("stats", "List the processes in a running sandbox"),
    "logs": ("logs", "Show what a sandbox's command said"),
    "df": ("space", "Show what is on disk"),
    "prune": ("space", "Remove leftovers and unused caches"),
    "build": ("build", "Build an image from a Dockerfile"),
    "network": ("network", "Ask, change or learn what sandboxes may reach"),
    "flows": ("network", "Show what a sandbox reached and what it was refused"),
    "port": ("network", "Show where published ports are on the host"),
    "image": ("image", "Build, fetch, load, save, list and remove images"),
    "up": ("fleet", "Bring the sandboxes of a Sandboxfile to what it says"),
    "down": ("fleet", "Stop and remove the sandboxes of a Sandboxfile"),
    "fleet": ("fleet", "List, enter, run scripts in the sandboxes of a Sandboxfile"),
    "config": ("fleet", "Check a Sandboxfile and print it with everything put in"),
    "diff": ("fleet", "Show what `up` would do"),
    "pool": ("pool", "Keep sandboxes ready that are taken in milliseconds"),
    "plugins": ("plugins", "List plugins, and try those that are programs"),
    "audit": ("plugins", "Check audit logs"),
    "doctor": ("doctor", "Say what this machine can do, and what mends the rest"),
    "completion": ("completion", "Print the completion script for a shell"),
}
OWN_FAILURE = 125


def _names_image(words: list[str]) -> bool:
    """Whether the word after `pull` is an image: what is pushed has no `:` or `/` in its name."""
    word = next((each for each in words if not each.startswith("-")), "")
    return (
        "://" not in word and not word.startswith((".", "/", "~")) and (":" in word or "/" in word)
    )


class Commands(click.Group):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sandlot.cli.{COMMANDS[cmd_name][0]}")
        name = "exec_" if cmd_name == "exec" else cmd_name
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] == "pull" and _names_image(args[1:]):
            args = ["image", *args]  # as Docker has it
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            from sandlot.cli.docker import ALIASES, IMAGES, remedy

            if args[0] in ALIASES:
                return super().resolve_command(ctx, [ALIASES[args[0]], *args[1:]])
            group, _, word = IMAGES.get(args[0], "").partition(" ")
            if word and word in getattr(self.get_command(ctx, group), "commands", {}):
                return super().resolve_command(ctx, [group, word, *args[1:]])
            harmless = [name for name in COMMANDS if name != "rm"]
            near = difflib.get_close_matches(args[0], harmless, 1)
            also = f", did you mean `sandlot {near[0]}`?" if near else ""
            if instead := remedy(args[0]):
                raise ConfigError(f"{args[0]!r} is not a sandlot command", hint=instead)
            raise click.UsageError(f"{args[0]!r} is not a sandlot command{also}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["--help"], "max_content_width": 100},
    epilog="Example: sandlot run --rm demo -- python3 -c 'print(6 * 7)'",
)
@click.version_option(package_name="sandlot", message="sandlot %(version)s")
def cli() -> None:
    """Run untrusted code in microVMs: each sandbox has its own kernel, files and processes."""


def complain(message: str, hint: str = "") -> None:
    """One line for people, and the remedy."""
    click.echo(f"sandlot: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def main() -> None:
    """The entry point: 125 for our own failures, else the command's own status."""
    status = OWN_FAILURE
    try:
        status = cli.main(prog_name="sandlot", standalone_mode=False) or 0
    except SandboxError as error:
        from sandlot.cli.flags import in_flags

        complain(in_flags(error.message), in_flags(error.hint))
        tail = getattr(error, "console_tail", "")
        if tail:
            click.echo(tail, err=True)
        status = error.exit_code if isinstance(error, ExecError) else OWN_FAILURE
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.Abort:
        status = 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = 0
    except click.NoSuchOption as error:
        from sandlot.cli.docker import remedy

        near = error.possibilities
        hint = f"did you mean {' or '.join(sorted(near))}?" if near else _usage(error)
        hint = remedy(error.option_name, _command(error)) or hint
        complain(f"the flag {error.option_name} is not supported here", hint)
    except click.ClickException as error:
        complain(" ".join(error.format_message().split()), _usage(error))
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 141
        _drop_output()
    except OSError as error:
        _complain_of(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        status = OWN_FAILURE
        _complain_of(error)
    sys.exit(status)


def _complain_of(error: OSError) -> None:
    """What the system refuses: something with a file, or else our own output."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        complain(f"{os.fsdecode(error.filename)}: {reason.lower()}")
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
        complain(f"the output cannot be written: {reason.lower()}")
        _drop_output()
    else:
        complain(reason)


def _drop_output() -> None:
    """What Python would still flush has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _command(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return (context.info_name or "") if context is not None else ""


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see `{context.command_path} --help`" if context is not None else ""


def run() -> None:
    """`main` as a program of its own: it ends without taking the interpreter apart.

    That would cost a quick command a tenth of its time, and gives back only what the system takes
    back anyway. What was registered to be done at the end is done.
    """
    try:
        main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else OWN_FAILURE
    if threading.active_count() > 1:
        sys.exit(status)  # one that is to be waited for
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
