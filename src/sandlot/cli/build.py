"""`sandlot build`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from sandlot.cli.options import network_of, policy_options, whole_cpus


@click.command(epilog="Example: sandlot build -t app:1.0 --build-arg VERSION=1.0 .")
@click.option(
    "-t", "--tag", "names", multiple=True, metavar="NAME",
    help="What to call the image; repeat it. Without it, its id.",
)  # fmt: skip
@click.option(
    "-f",
    "--file",
    metavar="FILE",
    help="The Dockerfile, `-` for standard input; DIR/Dockerfile otherwise.",
)
@click.option("--build-arg", "arguments", multiple=True, metavar="KEY[=VALUE]", help="Set an ARG.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Add a label.")
@click.option("--target", default="", metavar="STAGE", help="The stage to build; the last one.")
@click.option("--no-cache", is_flag=True, help="Do every step again.")
@click.option("--pull", is_flag=True, help="Ask the registries for newer images in FROM.")
@policy_options
@click.option("--platform", metavar="OS/ARCH", help="Only this machine's is possible.")
@click.option("-m", "--memory", default="2G", show_default=True, help="Memory for a RUN.")
@click.option(
    "--cpus", default="1", show_default=True, callback=whole_cpus, help="Processors for a RUN."
)
@click.option("--disk", default="16G", show_default=True, help="Size of a RUN's writable disk.")
@click.option("-q", "--quiet", is_flag=True, help="Only print the image's id.")
@click.argument("folder", metavar="DIR")
def build(
    names: tuple[str, ...], file: str | None, arguments: tuple[str, ...], labels: tuple[str, ...],
    target: str, no_cache: bool, pull: bool, platform: str | None, memory: str, cpus: int,
    disk: str, quiet: bool, folder: str, **policy: Any,
) -> None:  # fmt: skip
    """Build an image from the Dockerfile in DIR, and print its id.

    Each RUN has a machine of its own. Steps that were done before are not done again.
    """
    from sandlot.build.api import build_image
    from sandlot.errors import ConfigError
    from sandlot.sandbox.host import Host

    given: dict[str, str] = {}
    for pair in arguments:
        key, equals, value = pair.partition("=")
        if not key:
            raise ConfigError(f"{pair!r} is not an argument", hint="use --build-arg KEY=VALUE")
        if equals or key in os.environ:
            given[key] = value if equals else os.environ[key]
    marks = dict(label.partition("=")[::2] for label in labels)

    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    with contextlib.ExitStack() as stack:
        if file == "-":
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandlot-build-"))
            file = str(Path(place) / "Dockerfile")
            Path(file).write_bytes(sys.stdin.buffer.read())
        made = asyncio.run(
            build_image(
            folder, names[0] if names else None, dockerfile=file, arguments=given, labels=marks,
            target=target, cache=not no_cache, pull="always" if pull else None,
            network=network_of(policy), platform=platform, memory=memory, cpus=cpus, disk=disk,
            tell=None if quiet else tell,
        ))  # fmt: skip
    for name in names[1:]:
        Host.current().images.alias(made, name)
    click.echo(made.id)
