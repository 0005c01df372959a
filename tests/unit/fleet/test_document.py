"""YAML with places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandlot.fleet.document import Node, parse
from sandlot.fleet.problems import Place, Problems


def read(text: str, **variables: str) -> tuple[Node | None, Problems]:
    problems = Problems()
    return parse(text, "f.yaml", variables, problems), problems


def errors(text: str) -> list[str]:
    return [str(each) for each in sorted(read(text)[1].errors)]


def test_values_and_places() -> None:
    tree, problems = read("a: 1\nports: [8000:8000, 22:22]\nb:\n  c: yes\n  d: 1.10\n  e: ~\n")
    assert tree is not None and not problems.errors
    assert tree.plain() == {
        "a": 1, "ports": ["8000:8000", "22:22"], "b": {"c": "yes", "d": 1.1, "e": None},
    }  # fmt: skip
    assert tree.place_of("ports", 1) == Place("f.yaml", 2, 20)
    assert tree.place_of("b", "d", "nothing") == Place("f.yaml", 5, 6)
    inner = tree.get("b")
    assert inner is not None and inner.key_place("d") == Place("f.yaml", 5, 3)
    assert inner.value["d"].text == "1.10"


def test_variables_keep_the_kind_of_plain_text() -> None:
    tree, _ = read('n: ${N}\nt: "${N}"\nm: ${M:-x}\n', N="3")
    assert tree is not None and tree.plain() == {"n": 3, "t": "3", "m": "x"}


def test_what_is_no_yaml_is_told_with_its_place() -> None:
    assert errors("a: [1") == [
        "f.yaml:1:6: this is not YAML: expected ',' or ']', but got '<stream end>'"
    ]
    assert errors("a: *q")[0].startswith("f.yaml:1:4: this is not YAML: found undefined alias")
    assert errors("") == ["f.yaml:1:1: the file is empty"]


def test_all_of_it_at_once() -> None:
    assert errors("a: 1\na: 2\nb: $\nc: ${X:?no}\n? [x]\n: 1\n") == [
        "f.yaml:2:1: 'a' is there already, in line 1",
        "f.yaml:3:4: '$' is no variable; write $$ for a $",
        "f.yaml:4:4: the variable X has to be set: no",
        "f.yaml:5:3: a name is text, not a list or a mapping",
    ]


def test_aliases_and_merges() -> None:
    tree, problems = read("x: &x {p: 1, q: 2}\ny: {<<: *x, q: 3}\nz: {<<: [*x, {r: 4}]}\n")
    assert tree is not None and not problems.errors
    assert tree.plain()["y"] == {"p": 1, "q": 3}
    assert tree.plain()["z"] == {"p": 1, "q": 2, "r": 4}


def test_aliases_have_an_end() -> None:
    assert errors("a: &a [*a]") == ["f.yaml:1:4: an alias stands inside of what it names"]
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    assert any("more than" in each for each in errors(bomb))


@given(st.text(alphabet="ab:-[]{}&*<>|#'\"$\n ?!,~1.", max_size=80))
def test_any_text_ends_in_a_tree_or_problems(text: str) -> None:
    tree, problems = read(text)
    assert tree is not None or problems.errors
