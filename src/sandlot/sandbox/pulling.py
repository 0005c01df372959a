"""The image of a new sandbox: from the store, or from its registry."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from sandlot.errors import ConfigError, ImageError, ImageNotFound

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
    tell = progress or (lambda stage, fraction: host.tell(stage))
    if how == "always":
        return await host.images.pull(name, platform=platform, progress=tell)
    try:
        found = look_up(host, name)
    except ImageNotFound as missing:
        if how == "never":
            raise
        try:
            return await host.images.pull(name, platform=platform, progress=tell)
        except ConfigError:
            raise missing from None  # it can only have meant an image of this machine
        except ImageError as error:
            error.args = (f"there is no image `{name}` here, and pulling failed: {error.message}",)
            error.message = error.args[0]
            if missing.hint.startswith("did you mean"):
                error.hint = missing.hint
            raise
    return found


def look_up(host: Host, name: str) -> Image:
    """An image of this machine, also by the long or the short form of its name."""
    try:
        return host.images.get(name)
    except ImageNotFound:
        from sandlot.image.reference import Reference

        with contextlib.suppress(ConfigError, ImageNotFound):
            return host.images.get(Reference.parse(name).familiar)
        raise
