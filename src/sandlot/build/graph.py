"""Which stages are built, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sandlot.build.dockerfile import Copy, Dockerfile, Stage
from sandlot.errors import BuildError


def find_stage(stages: Sequence[Stage], name: str) -> Stage | None:
    """A stage by its name or number."""
    for stage in stages:
        if stage.name and stage.name == name.lower():
            return stage
    if name.isascii() and name.isdecimal() and int(name) < len(stages):
        return stages[int(name)]
    return None


def needs(stage: Stage, earlier: Sequence[Stage], image: str) -> list[Stage]:
    """The stages that one is made from. `image` is its base, with variables replaced."""
    found = []
    base = next(
        (each for each in reversed(earlier) if each.name and each.name == image.lower()), None
    )
    if base is not None:
        found.append(base)
    for instruction in stage.instructions:
        if isinstance(instruction, Copy) and instruction.source_image:
            source = find_stage(earlier, instruction.source_image)
            if source is not None:
                found.append(source)
            elif instruction.source_image.isdecimal():
                raise BuildError(
                    f"there is no stage {instruction.source_image} before this one",
                    line=instruction.line,
                )
    return found


def order(dockerfile: Dockerfile, target: str, images: Sequence[str]) -> list[Stage]:
    """The stages that the target needs, itself last; `images` are the bases of all stages.

    The target is the last stage when it is empty. Raises BuildError when there is none of that
    name.
    """
    stages = dockerfile.stages
    last = find_stage(stages, target) if target else stages[-1]
    if last is None:
        there = ", ".join(stage.name for stage in stages if stage.name)
        raise BuildError(
            f"there is no stage {target[:60]!r}", hint=f"there are {there}" if there else ""
        )
    wanted, queue = {last.index}, [last]
    while queue:
        stage = queue.pop()
        for other in needs(stage, stages[: stage.index], images[stage.index]):
            if other.index not in wanted:
                wanted.add(other.index)
                queue.append(other)
    return [stage for stage in stages if stage.index in wanted]
