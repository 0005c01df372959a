"""The image of a new sandbox: from the store, or from its registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandlot.errors import ConfigError, ImageError, ImageNotFound
from sandlot.image.manifest import Platform

if TYPE_CHECKING:
    from sandlot.image import Image
    from sandlot.sandbox.host import Host

Progress = Callable[[str, float | None], object]
PULL = ("missing", "always", "never")


async def find_image(
    host: Host, name: str, *, pull: str | None = None, platform: str | None = None,
    progress: Progress | None = None,
) -> Image:  # fmt: skip
    """The image of this name; `pull` says whether a registry is asked for it.

    `missing` asks when the image is not here, `always` each time, `never` not at all; None means
    SANDLOT_PULL, else `missing`. Raises what `ImageStore.get` and `ImageStore.pull` raise.
    """
    how = pull or host.settings.pull or PULL[0]
    if how not in PULL:
        raise ConfigError(f"pull {how[:40]!r} is not known", hint=f"use {', '.join(PULL)}")
    wanted = Platform.parse(platform) if platform else None
    tell = progress or (lambda stage, fraction: host.tell(stage))
    if how == "always":
        return runnable(await host.images.pull(name, platform=platform, progress=tell))
    try:
        found = host.images.get(name)
        if wanted is not None and not wanted.runs(found.platform):
            raise ImageNotFound(f"image `{name}` is here for {found.platform}, not for {wanted}")
    except ImageNotFound as missing:
        if how == "never":
            missing.hint += f", or fetch it with `sandlot image pull {name}`"
            raise
        try:
            return runnable(await host.images.pull(name, platform=platform, progress=tell))
        except ImageError as error:
            error.args = (f"there is no image `{name}` here, and pulling failed: {error.message}",)
            error.message = error.args[0]
            guess, question, _ = missing.hint.partition("? ")
            if question:
                error.hint = f"{guess}? If not: {error.hint}" if error.hint else f"{guess}?"
            raise
    return runnable(found)


def runnable(image: Image) -> Image:
    """The image itself. Raises ImageError when it is for another kind of machine."""
    host = Platform.host()
    if not host.runs(image.platform):
        raise ImageError(
            f"image `{image.name}` is for {image.platform}, and this machine runs {host}",
            hint=f"fetch it for this machine: sandlot image pull --platform {host} {image.name}",
        )
    return image
