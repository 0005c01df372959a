"""`build_image`: the call behind `sandlot build`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sandlot.build.builder import Builder, BuildOptions
from sandlot.build.commands import Machine
from sandlot.build.dockerfile import MAX_DOCKERFILE, parse_dockerfile
from sandlot.build.progress import BuildProgress
from sandlot.build.sources import Context
from sandlot.errors import BuildError, ConfigError
from sandlot.image.manifest import Platform
from sandlot.image.reference import Reference
from sandlot.image.steps import old_steps
from sandlot.sandbox.host import Host

if TYPE_CHECKING:
    from sandlot.image.records import Image
    from sandlot.network.policy import Network


async def build_image(
    context: str | os.PathLike[str], name: str | None = None, *,
    dockerfile: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, str] | None = None, target: str = "", cache: bool = True,
    pull: str | None = None, network: Network | None = None, platform: str | None = None,
    labels: Mapping[str, str] | None = None, memory: int | str = "2G", cpus: int = 1,
    disk: int | str = "16G", tell: Callable[[str], object] | None = None,
) -> Image:  # fmt: skip
    """Build an image from a Dockerfile and give it a name.

    Each RUN has a machine of its own, whose writes become a layer. A step whose inputs are those
    of an earlier build is not done again.

        image = await build_image("./app", "app:1.0", arguments={"VERSION": "1.0"})

    Args:
        context: the folder that COPY and ADD copy from.
        name: what the image is to be called; None for one that is known by its id only.
        dockerfile: `Dockerfile` in the context when None.
        arguments: values for ARG.
        target: the stage to build, the last one when empty.
        cache: whether steps of earlier builds may be used.
        pull: as in `Sandbox.create`, for the images in FROM.
        network: what the machines may reach; the public internet when None. A RUN with
            `--network=none` reaches nothing in any case.
        platform: this machine's, if any is named.
        labels: added to the image's.
        memory, cpus, disk: of the machine of a RUN, in bytes or as text such as `"2G"`.
        tell: called with each line of progress.

    Raises:
        BuildError: the Dockerfile is wrong, or a command failed; `line` tells where.
        ConfigError: an argument is wrong.
        ImageError, RegistryError: an image that it begins with cannot be had.
        ResourceError, StateError, EngineUnavailable, KernelUnavailable, BootError
    """
    if name is not None:
        Reference.parse(name)
    host_platform = Platform.host()
    if platform is not None and not Platform.parse(platform).runs(host_platform):
        raise ConfigError(
            f"images for {platform} cannot be built on {host_platform}",
            hint="their commands would have to run here; build on such a machine",
        )
    root = Path(context)
    if str(context) == "-":
        raise ConfigError(
            "the build's context cannot be standard input",
            hint="for a Dockerfile on standard input: sandlot build -f - DIR < Dockerfile",
        )
    if not root.is_dir():
        raise ConfigError(f"{root} is not a folder", hint="name the folder of the build's files")
    path = Path(dockerfile) if dockerfile is not None else root / "Dockerfile"
    text = await asyncio.to_thread(_read, path)
    parsed = parse_dockerfile(text)
    progress = BuildProgress(tell or (lambda line: None))
    for warning in parsed.warnings:
        progress.warn(warning)
    host = Host.current()
    options = BuildOptions(
        arguments=arguments or {}, labels=labels or {}, target=target, use_cache=cache, pull=pull,
        machine=Machine(memory=memory, cpus=cpus, disk=disk, network=network),
    )  # fmt: skip
    # What a failed build has made is kept: the next try goes on from there.
    with host.images.working(keep=True):
        builder = Builder(host, parsed, Context(root, path), options, progress)
        made = await builder.build(name, f"built from {root.absolute()}")
    for step in old_steps(host.images):
        host.images.remove(step.name)
    return made


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCKERFILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint="name the Dockerfile with -f") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is not UTF-8 text") from error
