"""What a registry refuses, in words that tell the remedy. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sandlot.errors import ImageNotFound, RegistryError
from sandlot.image.registry.credentials import Credentials
from sandlot.image.registry.headers import rate_limit, retry_after
from sandlot.image.registry.words import complaint, duration


def login_hint(registry: str) -> str:
    """Where to put credentials."""
    return (
        f"log in with `docker login`, `podman login` or `skopeo login` {registry}"
        " (Sandlot reads their files)"
    )


def refused(
    registry: str, repository: str, found: Credentials | None, status: int, body: bytes,
    action: str = "pull",
) -> RegistryError:  # fmt: skip
    """401 or 403; `found` are the credentials that were shown, if there were any."""
    name = f"{registry}/{repository}"
    if found is None:
        what = f"{name} does not exist, or needs a login"
    elif status == 403:
        what = f"{found.username or 'your token'} may not {action} {name}"
    else:
        what = f"{registry} refused the credentials of {found.username or 'your token'}"
    return RegistryError(
        what + complaint(body), hint=login_hint(registry), registry=registry, status=status
    )


def limited(
    registry: str,
    *,
    anonymous: bool,
    limit: str,
    remaining: str,
    wait: str,
    now: float,
    body: bytes,
) -> RegistryError:
    """429. `limit`, `remaining` and `wait` are the headers, `now` is in seconds since 1970."""
    counts = ""
    allowed = rate_limit(limit, remaining)
    seconds = retry_after(wait, now)
    if allowed is not None and allowed.limit is not None:
        window = f" in {duration(allowed.window)}" if allowed.window else ""
        counts = f", which are {allowed.limit}{window}"
    if seconds is None and allowed is not None and allowed.remaining == 0:
        seconds = float(allowed.window or 3600)  # a few seconds would not help
    remedies = [f"wait {duration(seconds)}" if seconds else "wait"]
    if anonymous:
        remedies.append(login_hint(registry))
    remedies.append("or name a mirror with SANDLOT_REGISTRY_MIRRORS")
    return RegistryError(
        f"{registry} allows you no more pulls for now{counts}{complaint(body)}",
        hint=", ".join(remedies), registry=registry, status=429, retry_after=seconds,
    )  # fmt: skip


def missing_tag(name: str, tag: str, there: Sequence[str]) -> ImageNotFound:
    """404 for a tag; `there` are the tags that the repository has, as far as they are known."""
    near = difflib.get_close_matches(tag, there, 3, 0.5) or sorted(there)[-3:]
    hint = f"there are for example {', '.join(near)}" if near else ""
    return ImageNotFound(f"there is no tag {tag} in {name}", hint=hint)
