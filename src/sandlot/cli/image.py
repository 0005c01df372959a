"""`sandlot image build | pull | load | save | import | ls | inspect | tag | rm`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from sandlot.cli.options import Whole
from sandlot.cli.output import Progress, ago, as_json, human_size, table
from sandlot.sandbox.sizes import iso_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandlot.image import Image, ImageStore


@click.group(cls=Whole, epilog="Example: sandlot image build demo --package python3")
def image() -> None:
    """Build, fetch, load, save, list and remove images."""


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


@image.command(
    epilog="Examples: sandlot image load -i demo.tar; docker save demo | sandlot image load"
)
@click.argument("path", metavar="[FILE|FOLDER|-]", required=False)
@click.option("-i", "--input", "input_", metavar="FILE", help="The same as the argument.")
@click.option("-n", "--name", metavar="IMAGE", default="", help="What to call the image.")
@click.option(
    "--platform", metavar="OS/ARCH", help="Such as linux/arm64; this machine's otherwise."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def load(
    path: str | None, input_: str | None, name: str, platform: str | None, quiet: bool
) -> None:
    """Store the images of an archive, and print their names.

    Archives are those of `docker save`, `podman save` and `skopeo`, compressed or not, OCI
    archives, and folders in OCI's layout. Without a file, or with -, standard input is read.
    """
    from sandlot.image.archive import load_images
    from sandlot.sandbox.host import Host

    if path and input_:
        raise click.UsageError("name the archive once")
    progress = Progress(delay=1.0)
    try:
        made = load_images(
            Host.current().images, _source(path or input_ or "-"), name=name, platform=platform,
            progress=None if quiet else progress,
        )  # fmt: skip
    finally:
        progress.close()
    for each in made:
        click.echo(each.name)


@image.command(
    name="import",
    epilog="Example: mmdebstrap stable - | sandlot image import - base",
)
@click.argument("path", metavar="FILE|-")
@click.argument("name", metavar="IMAGE")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def import_(path: str, name: str, quiet: bool) -> None:
    """Make an image of a root file system's tar archive, and print its name."""
    from sandlot.image.archive import import_root, telling
    from sandlot.sandbox.host import Host

    progress = Progress(delay=1.0)
    source = _source(path)
    try:
        with (
            telling(source),
            source.open("rb") if isinstance(source, Path) else source as stream,
        ):
            made = import_root(
                Host.current().images, stream, name, progress=None if quiet else progress
            )
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None
    finally:
        progress.close()
    click.echo(made.name)


@image.command(
    epilog="Examples: sandlot image save -o demo.tar demo; "
    "sandlot image save --format oci-dir -o demo demo"
)
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", help="Where to; standard output otherwise.")
@click.option(
    "--format", "format_", default="docker-archive", show_default=True,
    type=click.Choice(("docker-archive", "oci-archive", "oci-dir")),
    help="What other tools are to read.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def save(names: tuple[str, ...], output: str | None, format_: str, quiet: bool) -> None:
    """Write images into an archive that Docker, Podman, skopeo and `image load` read.

    The OCI formats keep the layers as they came, and so all digests.
    """
    from sandlot.image.saving import save_images
    from sandlot.sandbox.host import Host

    if output is None and sys.stdout.isatty():
        raise click.UsageError("an archive is not for a terminal: name a file with -o")
    progress = Progress(delay=1.0)
    try:
        save_images(
            Host.current().images, names,
            Path(output) if output not in (None, "-") else sys.stdout.buffer,
            format=format_, progress=None if quiet else progress,
        )  # fmt: skip
    finally:
        progress.close()


@image.command(epilog="Example: sandlot image ls --json")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("-a", "--all", "everything", is_flag=True, help="The steps of builds too.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
def ls(json_: bool, quiet: bool, everything: bool, no_trunc: bool) -> None:
    """List the images. The size is what is unpacked, with what other images share."""
    from sandlot.image.steps import is_untagged
    from sandlot.sandbox.host import Host

    images = Host.current().images.list(steps=everything)
    names = ["<none>" if is_untagged(i.name) else i.name for i in images]
    ids = [i.id if no_trunc else i.id[7:19] for i in images]
    if json_:
        as_json(
            [
                {
                    "name": None if is_untagged(i.name) else i.name, "id": i.id,
                    "digest": i.digest, "size": i.size, "platform": str(i.platform),
                    "created": iso_time(i.created), "source": i.source,
                    "config": i.config.to_json(),
                }
                for i in images
            ]
        )  # fmt: skip
    elif quiet:
        for id_ in ids:
            click.echo(id_)
    else:
        table(
            ("NAME", "ID", "PLATFORM", "SIZE", "CREATED"),
            [
                (name, id_, str(i.platform), human_size(i.size), ago(i.created))
                for name, id_, i in zip(names, ids, images, strict=True)
            ],
        )


@image.command(epilog="Example: sandlot image inspect python:3.12")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
def inspect(names: tuple[str, ...]) -> None:
    """Print all that is known of images, as JSON with the keys that Docker uses."""
    from sandlot.sandbox.host import Host

    store = Host.current().images
    as_json([_described(store, store.get(name)) for name in names])


@image.command(epilog="Example: sandlot image tag demo demo:stable")
@click.argument("image_", metavar="IMAGE")
@click.argument("name", metavar="NAME")
def tag(image_: str, name: str) -> None:
    """Give an image another name."""
    from sandlot.sandbox.host import Host

    store = Host.current().images
    store.alias(store.get(image_), name)


@image.command(epilog="Example: sandlot image rm demo")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
def rm(names: tuple[str, ...]) -> None:
    """Remove images, by name or id; sandboxes that were made from them keep what they need."""
    from sandlot.sandbox.host import Host

    for name in names:
        click.echo(Host.current().images.remove(name).title)


def _source(path: str) -> Path | BinaryIO:
    if path != "-":
        return Path(path)
    if sys.stdin.isatty():
        raise click.UsageError("name a file, or give the archive on standard input")
    # Without Python's buffer: a thread that waits in it would hold its lock when Ctrl-C ends us.
    return cast("BinaryIO", os.fdopen(os.dup(0), "rb", buffering=0))


def _described(store: ImageStore, image: Image) -> dict[str, Any]:
    from sandlot.image.manifest import MAX_CONFIG, parse_config
    from sandlot.image.steps import is_untagged

    same = [e for e in store.list() if e.id == image.id and not is_untagged(e.name)]
    raw: Mapping[str, Any] = {"config": image.config.to_json()}
    if store.blobs.exists(image.id):
        raw = parse_config(store.blobs.read(image.id, MAX_CONFIG), name=image.name).raw
    return {
        "Id": image.id,
        "RepoTags": [each.name for each in same if not each.reference.digest],
        "RepoDigests": sorted({f"{each.reference.name}@{each.digest}" for each in same}),
        # Images that are to have the same id each time say no date: then it is when it came here.
        "Created": raw.get("created") or iso_time(image.created),
        "Author": raw.get("author"),
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "Size": image.size,
        "Config": raw.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "History": raw.get("history") or [],
        "Manifest": image.manifest,
        "Blobs": list(image.blobs),
        "Source": image.source,
    }
