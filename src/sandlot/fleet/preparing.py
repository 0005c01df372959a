"""Has the images of a fleet as they are now, where the file says that they may change."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sandlot.errors import SandboxError
from sandlot.fleet.executing import Tell
from sandlot.fleet.making import image, network
from sandlot.fleet.spec import Member
from sandlot.sandbox.host import Host


async def prepare(member: Member, build: bool, say: Tell) -> None:
    """Build its image, unless it is there and `build` is False, or ask the registry for it.

    Raises:
        BuildError, ImageError, RegistryError
    """
    first = member.sandboxes[0] if member.sandboxes else member.name
    if member.build is None:
        if member.model.pull == "always":
            say(first, f"asks for {member.image}")
            await image(member)
        return
    if not build:
        with contextlib.suppress(SandboxError):
            Host.current().images.get(member.image)
            return
    from sandlot.build.api import build_image

    model = member.build
    say(first, f"builds {member.image}")
    own = {name: os.environ.get(name) for name, value in model.args.items() if value is None}
    await build_image(
        model.context, member.image,
        dockerfile=Path(model.context) / model.dockerfile if model.dockerfile else None,
        arguments={name: value for name, value in {**model.args, **own}.items() if value is not None},
        target=model.target, labels={name: value or "" for name, value in model.labels.items()},
        memory=model.memory, disk=model.disk, network=network(model.network),
        tell=lambda line: say(first, line),
    )  # fmt: skip
