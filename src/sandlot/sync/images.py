"""Images without `await`; tests/unit/sync/test_images.py holds the signatures to the originals."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sandlot.image import store as origin
from sandlot.network.policy import Network
from sandlot.sync.portal import run

if TYPE_CHECKING:
    from sandlot.image import Image


class ImageStore(origin.ImageStore):
    """See `sandlot.ImageStore`, which waits only in `pull`."""

    def pull(  # type: ignore[override]
        self, name: str, *, platform: str | None = None, insecure: Sequence[str] = (),
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Image:  # fmt: skip
        """See `sandlot.ImageStore.pull`."""
        return run(
            super().pull(name, platform=platform, insecure=insecure, progress=progress)
        )  # fmt: skip


def build_image(
    context: str | os.PathLike[str], name: str | None = None, *,
    dockerfile: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, str] | None = None, target: str = "", cache: bool = True,
    pull: str | None = None, network: Network | None = None, platform: str | None = None,
    labels: Mapping[str, str] | None = None, memory: int | str = "2G", cpus: int = 1,
    disk: int | str = "16G", tell: Callable[[str], object] | None = None,
) -> Image:  # fmt: skip
    """See `sandlot.build_image`."""
    from sandlot.build import api

    return run(
        api.build_image(
            context, name, dockerfile=dockerfile, arguments=arguments, target=target, cache=cache,
            pull=pull, network=network, platform=platform, labels=labels, memory=memory,
            cpus=cpus, disk=disk, tell=tell,
        )
    )  # fmt: skip
