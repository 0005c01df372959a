from __future__ import annotations

import pytest

from sandlot.build.dockerfile import parse_dockerfile
from sandlot.build.graph import find_stage, order
from sandlot.errors import BuildError

TEXT = """
FROM a AS one
FROM b AS two
COPY --from=one /x /x
FROM c AS unused
FROM two
COPY --from=0 /x /x
COPY --from=registry.example.com/tools /y /y
"""


def stages(text: str, target: str = "") -> list[int]:
    made = parse_dockerfile(text)
    return [stage.index for stage in order(made, target, [s.base.image for s in made.stages])]


def test_only_what_the_target_needs() -> None:
    assert stages(TEXT) == [0, 1, 3]
    assert stages(TEXT, "two") == [0, 1]
    assert stages(TEXT, "ONE") == [0]
    assert stages(TEXT, "2") == [2]


def test_a_stage_that_is_not_there() -> None:
    with pytest.raises(BuildError, match="no stage 'three'") as caught:
        stages(TEXT, "three")
    assert "one, two, unused" in caught.value.hint
    with pytest.raises(BuildError, match="line 2: there is no stage 5"):
        stages("FROM a\nCOPY --from=5 /x /x")


def test_a_stage_cannot_copy_from_itself_or_later() -> None:
    made = parse_dockerfile("FROM a AS one\nCOPY --from=two /x /x\nFROM b AS two")
    assert find_stage(made.stages[:0], "two") is None  # then it is the name of an image
