"""`sandlot image build | pull | ls | rm`."""

from __future__ import annotations

import click

from sandlot.cli.output import Progress, ago, as_json, human_size, table


@click.group(epilog="Example: sandlot image build demo --package python3")
def image() -> None:
    """Build, pull, list and remove images."""


@image.command(
    epilog="Example: sandlot image build tools --package python3 --package git --package curl"
)
@click.argument("name")
@click.option(
    "-p", "--package", "packages", multiple=True, required=True, help="A Debian package; repeat it."
)
@click.option("--suite", help="The release, such as bookworm; this machine's otherwise.")
@click.option("--rebuild", is_flag=True, help="Build even when nothing has changed.")
def build(name: str, packages: tuple[str, ...], suite: str | None, rebuild: bool) -> None:
    """Build the image NAME from distribution packages, without root."""

    from sandlot.image import build_debian_image
    from sandlot.sandbox.host import Host

    words = [word for package in packages for word in package.replace(",", " ").split()]
    progress = Progress(delay=0.0)
    try:
        # In this thread, so that Ctrl-C ends it.
        made = (
            build_debian_image(
                Host.current().images, name, words,
                suite=suite, rebuild=rebuild, progress=progress,
            )
        )  # fmt: skip
    finally:
        progress.close()
    click.echo(made.id)


@image.command(
    epilog="Examples: sandlot image pull python:3.12; "
    "sandlot image pull registry.example.com/team/app:1.0"
)
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--platform", metavar="OS/ARCH", help="Such as linux/arm64; this machine's otherwise."
)
@click.option(
    "--insecure-registry", "insecure", multiple=True, metavar="HOST",
    help="Allow this registry to be spoken to without encryption; repeat it.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def pull(
    references: tuple[str, ...], platform: str | None, insecure: tuple[str, ...], quiet: bool
) -> None:
    """Fetch images from their registries, and print their names.

    Only what is missing is transferred, and all of it is verified. Credentials are those of
    Docker and Podman.
    """
    import asyncio

    from sandlot.sandbox.host import Host

    async def one(reference: str) -> str:
        progress = Progress(delay=1.0)
        try:
            made = await Host.current().images.pull(
                reference, platform=platform, insecure=insecure,
                progress=None if quiet else progress,
            )  # fmt: skip
        finally:
            progress.close()
        return made.name

    for reference in references:
        click.echo(asyncio.run(one(reference)))


@image.command(epilog="Example: sandlot image ls --json")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.option("-a", "--all", "everything", is_flag=True, help="The steps of builds too.")
def ls(json_: bool, quiet: bool, everything: bool) -> None:
    """List the images."""
    from sandlot.image.steps import is_step
    from sandlot.sandbox.host import Host

    images = [i for i in Host.current().images.list() if everything or not is_step(i.name)]
    if json_:
        as_json(
            [
                {
                    "name": i.name, "digest": i.digest, "size": i.size, "created": i.created,
                    "source": i.source, "config": i.config.to_json(),
                }
                for i in images
            ]
        )  # fmt: skip
    elif quiet:
        for each in images:
            click.echo(each.name)
    else:
        table(
            ("NAME", "SIZE", "CREATED", "DIGEST"),
            [(i.name, human_size(i.size), ago(i.created), i.digest[:19]) for i in images],
        )


@image.command(epilog="Example: sandlot image rm demo")
@click.argument("names", nargs=-1, required=True)
def rm(names: tuple[str, ...]) -> None:
    """Remove images; sandboxes that were made from them keep what they need."""
    from sandlot.sandbox.host import Host

    for name in names:
        Host.current().images.remove(name)
        click.echo(name)
