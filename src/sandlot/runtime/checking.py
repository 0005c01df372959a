"""Whether a guest gets what it asks for: one function of the request, the grant and what there is.

Nothing that it returns exceeds the grant; tests/unit/runtime/test_checking.py holds it to that.
Pure: neither time nor the state of the host plays a part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sandlot.network.policy import Network
from sandlot.runtime.grant import MIB, SMALLEST, RuntimeAccess
from sandlot.runtime.requests import Start, Wanted

SMALLEST_DISK = 64 * MIB
DEFAULT_MEMORY = 512 * MIB


@dataclass(frozen=True)
class Share:
    """What a peer takes of the grant, from before it is started until it is gone: with what it was
    granted itself."""

    name: str
    sandboxes: int
    memory: int


@dataclass(frozen=True, kw_only=True)
class Permit:
    """What to start."""

    name: str
    image: str
    command: tuple[str, ...]
    memory: int
    cpus: int
    disk: int
    env: Mapping[str, str] = field(repr=False)
    workdir: str | None
    user: str | None
    network: Network
    secrets: tuple[str, ...]
    runtime: RuntimeAccess | None
    share: Share


@dataclass(frozen=True)
class Refusal:
    """Why not."""

    reason: str
    hint: str = ""


def permit(
    asked: Start, grant: RuntimeAccess, existing: Collection[Share], name: str
) -> Permit | Refusal:
    """What to start for a guest, or why not.

    Args:
        existing: all that it has started, or is starting, and that is not gone.
        name: the name when it asks for none.
    """
    name = asked.name or name
    if any(each.name == name for each in existing):
        return Refusal(f"there is a sandbox {name!r} already", "use another name, or stop it")
    image = asked.image or (grant.images[0] if len(grant.images) == 1 else "")
    if image not in grant.images:
        listed = ", ".join(grant.images) or "none"
        return Refusal(f"image {image!r} was not granted", f"granted: {listed}")
    if asked.cpus > grant.cpus:
        return Refusal(f"{asked.cpus} processors; at most {grant.cpus} were granted")
    disk = asked.disk // MIB * MIB if asked.disk is not None else grant.disk
    if not SMALLEST_DISK <= disk <= grant.disk:
        return Refusal(f"a disk of {disk // MIB}M; 64M to {grant.disk // MIB}M were granted")
    for each in asked.secrets:
        if each not in grant.secrets:
            return Refusal(f"the secret {each!r} was not granted")
        if each in asked.env:
            return Refusal(f"{each} is a secret and a variable", "leave it out of env")
    within = _within(asked.runtime, grant, asked)
    if isinstance(within, Refusal):
        return within
    share = _share(name, asked, grant, within)
    if isinstance(share, Refusal):
        return share
    sandboxes = sum(each.sandboxes for each in existing)
    if sandboxes + share.sandboxes > grant.max_sandboxes:
        return Refusal(
            f"{sandboxes} of {grant.max_sandboxes} sandboxes are taken"
            + (f", and this one would take {share.sandboxes}" if share.sandboxes > 1 else ""),
            "stop one first",
        )
    memory = sum(each.memory for each in existing)
    if memory + share.memory > grant.memory:
        left = (grant.memory - memory) // MIB
        return Refusal(
            f"{share.memory // MIB}M of memory; {left}M of {grant.memory // MIB}M are left",
            "ask for less, or stop another one",
        )
    network = grant.network if asked.network is None else asked.network.within(grant.network)
    return Permit(
        name=name, image=image, command=asked.command,
        memory=share.memory - (within.memory if within else 0), cpus=asked.cpus, disk=disk,
        env=dict(asked.env), workdir=asked.workdir, user=asked.user, network=network,
        secrets=asked.secrets, runtime=within, share=share,
    )  # fmt: skip


def _share(
    name: str, asked: Start, grant: RuntimeAccess, within: RuntimeAccess | None
) -> Share | Refusal:
    if asked.memory is None:
        # Evenly, if that is less than what one usually gets.
        memory = _power_below(
            max(min(grant.memory // grant.max_sandboxes, DEFAULT_MEMORY), SMALLEST)
        )
    elif asked.memory > grant.memory:
        return Refusal(
            f"{asked.memory // MIB}M of memory; {grant.memory // MIB}M were granted for all together"
        )
    else:
        memory = _power_above(max(asked.memory, SMALLEST))
    if within is None:
        return Share(name, 1, memory)
    return Share(name, 1 + within.max_sandboxes, memory + within.memory)


# The host keeps a template for every size of memory: a guest may not make one for each number.


def _power_above(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _power_below(size: int) -> int:
    return 1 << (size.bit_length() - 1)


def _within(
    wanted: Wanted | None, grant: RuntimeAccess, asked: Start
) -> RuntimeAccess | Refusal | None:
    """What a peer may start itself: a part of what its starter may, which is set aside for it."""
    if wanted is None:
        return None
    if wanted.max_depth >= grant.max_depth:
        return Refusal(
            f"a grant of depth {wanted.max_depth}; peers may be granted {grant.max_depth - 1}"
            if grant.max_depth > 1 else "peers may not start sandboxes themselves"
        )  # fmt: skip
    images = grant.images if wanted.images is None else wanted.images
    if missing := [each for each in images if each not in grant.images]:
        return Refusal(f"image {missing[0]!r} was not granted, so it cannot be passed on")
    secrets = asked.secrets if wanted.secrets is None else wanted.secrets
    if missing := [each for each in secrets if each not in asked.secrets]:
        return Refusal(f"the peer itself has no secret {missing[0]!r}")
    memory = SMALLEST if wanted.memory is None else wanted.memory // MIB * MIB
    if memory < SMALLEST:
        return Refusal("a grant of less memory than one sandbox needs", "use at least 128M")
    network = grant.network if wanted.network is None else wanted.network.within(grant.network)
    return RuntimeAccess(
        wanted.max_sandboxes, images=images, memory=memory, cpus=grant.cpus, disk=grant.disk,
        network=network, secrets=secrets, max_depth=wanted.max_depth,
        # Also where ours live on: what is set aside is free again when the peer is gone.
        lifetime="owner",
    )  # fmt: skip
