"""Plans: what is done, in which order, and that nothing is left to do after it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sandlot.fleet.planning import Existing, Step, Wanted, changes, plan, plan_end

CONDITIONS = ("started", "healthy", "completed")


def w(name: str, *needs: str, **options: str) -> Wanted:
    return Wanted(
        sandbox=f"f-{name}", member=name, options=options, needs=dict.fromkeys(needs, "started")
    )


def e(name: str, running: bool = True, **options: str) -> Existing:
    return Existing(sandbox=f"f-{name}", member=name, options=options, running=running)


def told(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps]


def test_what_is_missing_is_created_in_order_of_needs() -> None:
    steps = plan([w("api", "db"), w("db"), w("web", "api")], [])
    assert told(steps) == ["create f-db", "create f-api", "create f-web"]
    assert steps[1].needs == {"f-db": "started"}


def test_what_changed_is_named() -> None:
    steps = plan(
        [w("a", memory="1", env="2"), w("b", memory="1"), w("c", x="1"), w("d")],
        [e("a", memory="0", ports="1", env="2"), e("b", memory="1"), e("c", False, x="1"), e("z"),
         Existing(sandbox="f-d", member="d", running=True, replaced="image")],
    )  # fmt: skip
    assert told(steps) == [
        "remove f-z (not in the file)", "recreate f-a (memory, ports changed)", "leave f-b",
        "start f-c", "recreate f-d (image changed)",
    ]  # fmt: skip
    assert told(changes(steps)) == [each for each in told(steps) if not each.startswith("leave")]


def test_what_completed_is_not_run_again() -> None:
    job = Wanted(sandbox="f-job", member="job", completes=True)
    ended = Existing(sandbox="f-job", member="job", exit_code=0)
    failed = Existing(sandbox="f-job", member="job", exit_code=3)
    assert told(plan([job], [ended])) == ["leave f-job (it has completed)"]
    assert told(plan([job], [failed])) == ["start f-job (it ended with 3)"]


def test_members_of_other_profiles_are_left_alone() -> None:
    assert told(plan([w("a")], [e("a"), e("debug")], keep=["debug"])) == ["leave f-a"]


def test_a_need_means_every_replica() -> None:
    two = [Wanted(sandbox=f"f-db-{n}", member="db") for n in (1, 2)]
    assert plan([w("api", "db"), *two], [])[-1].needs == {"f-db-1": "started", "f-db-2": "started"}


def test_an_end_goes_the_other_way() -> None:
    asked = [w("db"), w("api", "db"), w("web", "api")]
    steps = plan_end(asked, [e("db"), e("api"), e("web", False)], "stop")
    assert told(steps) == ["stop f-api", "stop f-db"]
    assert told(plan_end(asked, [e("db"), e("web", False), e("old")], "remove")) == [
        "remove f-old", "remove f-web", "remove f-db",
    ]  # fmt: skip


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Wanted], list[Existing]]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6))
    options = st.dictionaries(st.sampled_from(["memory", "env"]), st.sampled_from("12"), max_size=2)
    wanted: list[Wanted] = []
    for number, name in enumerate(names):
        # On earlier ones alone: the reader refuses cycles.
        needs = draw(st.dictionaries(st.sampled_from(names[:number]), st.sampled_from(CONDITIONS))
                     if number else st.just({}))  # fmt: skip
        given_options = draw(options)
        wanted += [
            Wanted(sandbox=f"f-{name}-{replica}", member=name, options=given_options, needs=needs)
            for replica in range(draw(st.integers(1, 2)))
        ]
    awaited = {n for each in wanted for n, how in each.needs.items() if how == "completed"}
    wanted = [
        Wanted(sandbox=x.sandbox, member=x.member, options=x.options, needs=x.needs,
               completes=x.member in awaited)
        for x in draw(st.permutations(wanted))
    ]  # fmt: skip
    there = draw(
        st.lists(
            st.builds(
                Existing, sandbox=st.sampled_from([f"f-{n}-{r}" for n in "abcdefghij" for r in (0, 1)]),
                member=st.just(""), options=options, running=st.booleans(),
                exit_code=st.sampled_from([None, 0, 1]), replaced=st.sampled_from(["", "image"]),
            ),
            unique_by=lambda x: x.sandbox, max_size=6,
        )
    )  # fmt: skip
    return wanted, [
        Existing(sandbox=x.sandbox, member=x.sandbox[2], options=x.options, running=x.running,
                 exit_code=x.exit_code, replaced=x.replaced)
        for x in there
    ]  # fmt: skip


def executed(
    steps: Sequence[Step], wanted: Sequence[Wanted], there: Sequence[Existing]
) -> list[Existing]:
    """What is there when the steps are done: a model of the executor."""
    state = {each.sandbox: each for each in there}
    asked = {each.sandbox: each for each in wanted}
    for step in steps:
        if step.action == "remove":
            del state[step.sandbox]
        elif step.action in ("create", "recreate", "start"):
            one = asked[step.sandbox]
            state[step.sandbox] = Existing(
                sandbox=step.sandbox, member=one.member, options=one.options,
                running=not one.completes, exit_code=0 if one.completes else None,
            )  # fmt: skip
    return list(state.values())


@given(fleets())
def test_after_a_plan_there_is_nothing_left_to_do(
    fleet: tuple[list[Wanted], list[Existing]],
) -> None:
    wanted, there = fleet
    again = plan(wanted, executed(plan(wanted, there), wanted, there))
    assert all(step.action == "leave" for step in again)
    assert {step.sandbox for step in again} == {each.sandbox for each in wanted}


@given(fleets(), st.data())
def test_an_interrupted_plan_goes_on_to_the_same_end(
    fleet: tuple[list[Wanted], list[Existing]], data: st.DataObject
) -> None:
    wanted, there = fleet
    steps = plan(wanted, there)
    some = steps[: data.draw(st.integers(0, len(steps)))]
    between = executed(some, wanted, there)
    after = executed(plan(wanted, between), wanted, between)
    assert not changes(plan(wanted, after))


@given(fleets())
def test_what_is_needed_comes_first_and_ends_last(
    fleet: tuple[list[Wanted], list[Existing]],
) -> None:
    wanted, there = fleet
    steps = plan(wanted, there)
    position = {step.sandbox: n for n, step in enumerate(steps)}
    for step in steps:
        assert all(position[other] < position[step.sandbox] for other in step.needs)
    ending = plan_end(wanted, executed(steps, wanted, there), "remove")
    order = {step.sandbox: n for n, step in enumerate(ending)}
    for step in steps:
        assert all(order[step.sandbox] < order[other] for other in step.needs)


def test_who_reaches_whom_changes_while_they_run() -> None:
    def reaching(*names: str) -> dict[str, tuple[str, ...]]:
        return {name: (f"f-{name}",) for name in names}

    wanted = [
        Wanted(sandbox="f-a", member="a", peers=reaching("b")),
        Wanted(sandbox="f-b", member="b", peers=reaching("a")),
        Wanted(sandbox="f-c", member="c", peers=reaching("a")),
        Wanted(sandbox="f-d", member="d", peers=reaching("a")),
    ]
    existing = [
        Existing(sandbox="f-a", member="a", running=True, peers=reaching("b", "z")),
        Existing(sandbox="f-b", member="b", running=True, peers=reaching("a")),
        Existing(sandbox="f-c", member="c"),
    ]
    steps = plan(wanted, existing)
    assert told(steps) == ["leave f-a (networks changed)", "leave f-b", "start f-c", "create f-d"]
    assert [step.connects for step in steps] == [True, False, True, False]
    assert [step.sandbox for step in changes(steps)] == ["f-a", "f-c", "f-d"]
