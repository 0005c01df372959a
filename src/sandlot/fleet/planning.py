"""What has to be done to come from what is to what is wanted. Pure: it looks at nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["create", "start", "recreate", "leave", "stop", "remove"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One sandbox that is to be there.

    `options` maps what it is made with to a digest, `needs` other members to the condition that
    they have to meet first.
    """

    sandbox: str
    member: str
    options: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    peers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The sandboxes that it reaches by name; they change while it runs."""
    completes: bool = False
    """Others wait for its end: when it has ended well, it is not started again."""


@dataclass(frozen=True, kw_only=True)
class Existing:
    """One sandbox that is there."""

    sandbox: str
    member: str
    options: Mapping[str, str] = field(default_factory=dict)
    running: bool = False
    exit_code: int | None = None
    peers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    replaced: str = ""
    """What stands for something else by now under the same name: `image`, `from_snapshot`."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is to be done with one sandbox, and the sandboxes that come first, by condition."""

    action: Action
    sandbox: str
    member: str
    reason: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
    connects: bool = False
    """It is left as it is, and reaches other peers from now on."""

    def __str__(self) -> str:
        return f"{self.action} {self.sandbox}{f' ({self.reason})' if self.reason else ''}"


def plan(
    wanted: Iterable[Wanted], existing: Iterable[Existing], *, keep: Iterable[str] = (),
    recreate: bool = False,
) -> tuple[Step, ...]:  # fmt: skip
    """The steps, in an order in which every sandbox comes after those that it needs.

    What is there and not wanted is removed first, as it may hold ports and names.

    Args:
        keep: members of which what is there is left as it is, and not told of.
        recreate: make all of them anew.
    """
    asked = {each.sandbox: each for each in wanted}
    there = {each.sandbox: each for each in existing}
    kept = set(keep)
    steps = [
        Step(action="remove", sandbox=each.sandbox, member=each.member, reason="not in the file")
        for _, each in sorted(there.items())
        if each.sandbox not in asked and each.member not in kept
    ]
    replicas: dict[str, list[str]] = {}
    for each in asked.values():
        replicas.setdefault(each.member, []).append(each.sandbox)
    for name in _in_order(asked, replicas):
        each = asked[name]
        action, reason = _decide(each, there.get(name), recreate)
        connects = action in ("leave", "start") and dict(there[name].peers) != dict(each.peers)
        if action == "leave" and connects:
            reason = "networks changed"
        needs = {
            other: condition
            for member, condition in each.needs.items()
            for other in replicas.get(member, ())
        }
        steps.append(
            Step(
                action=action,
                sandbox=name,
                member=each.member,
                reason=reason,
                needs=needs,
                connects=connects,
            )
        )
    return tuple(steps)


def _decide(wanted: Wanted, there: Existing | None, recreate: bool) -> tuple[Action, str]:
    if there is None:
        return "create", ""
    changed = sorted(
        name for name in {*wanted.options, *there.options}
        if wanted.options.get(name) != there.options.get(name)
    )  # fmt: skip
    if there.replaced and there.replaced not in changed:
        changed = sorted([*changed, there.replaced])
    if changed:
        return "recreate", f"{', '.join(changed)} changed"
    if recreate:
        return "recreate", "asked for"
    if there.running:
        return "leave", ""
    if wanted.completes and there.exit_code == 0:
        return "leave", "it has completed"
    return "start", "" if there.exit_code is None else f"it ended with {there.exit_code}"


def _in_order(asked: Mapping[str, Wanted], replicas: Mapping[str, list[str]]) -> list[str]:
    """The sandboxes, each after those that it needs, otherwise in the order of the file."""
    done: dict[str, None] = {}

    def visit(name: str, above: frozenset[str]) -> None:
        if name in done or name in above:
            return
        for member in asked[name].needs:
            for other in replicas.get(member, ()):
                visit(other, above | {name})
        done[name] = None

    for name in asked:
        visit(name, frozenset())
    return list(done)


def plan_end(
    wanted: Iterable[Wanted], existing: Iterable[Existing], action: Literal["stop", "remove"]
) -> tuple[Step, ...]:
    """The steps that end a fleet: dependents before what they need.

    Stopped ones are only told of when they are to be removed.
    """
    asked = {each.sandbox: each for each in wanted}
    replicas: dict[str, list[str]] = {}
    for each in asked.values():
        replicas.setdefault(each.member, []).append(each.sandbox)
    order = {name: number for number, name in enumerate(_in_order(asked, replicas))}
    there = sorted(
        (each for each in existing if each.running or action == "remove"),
        key=lambda each: (-order.get(each.sandbox, len(order)), each.sandbox),
    )
    names = {each.sandbox for each in there}
    dependents: dict[str, dict[str, str]] = {each: {} for each in names}
    for each in asked.values():
        for member in each.needs:
            for other in replicas.get(member, ()):
                if other in names and each.sandbox in names:
                    dependents[other][each.sandbox] = "ended"
    return tuple(
        Step(action=action, sandbox=each.sandbox, member=each.member,
             needs=dependents[each.sandbox])
        for each in there
    )  # fmt: skip


def changes(steps: Iterable[Step]) -> list[Step]:
    """The steps that do something."""
    return [step for step in steps if step.action != "leave" or step.connects]
