"""The audit log: what is in it, and that nothing of it can be changed unseen."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot import AuditLog, ConfigError, ExecContext, StopContext
from sandlot.plugin.builtin.audit_log import sealed, verify

json_values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)

EXEC = ExecContext(sandbox="box", id=1, argv=("ls", "-l"), env={"B": "secret", "A": "1"})
STOP = StopContext(sandbox="box", reason="stopped")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(each) for each in path.read_text().splitlines()]


def filled(path: Path, count: int = 5, **options: object) -> AuditLog:
    log = AuditLog(path, **options)  # type: ignore[arg-type]
    for _ in range(count):
        log.on_exec(EXEC)
    return log


def test_a_line_says_what_happened_and_no_value_of_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "new" / "audit.jsonl"
    log = filled(path, 1)
    log.on_stop(STOP)
    first, second = lines(path)
    assert (first["number"], first["hook"], first["argv"]) == (1, "on_exec", ["ls", "-l"])
    assert first["env"] == ["A", "B"] and "secret" not in path.read_text()
    assert second["before"] == first["digest"] and second["hook"] == "on_stop"
    assert path.stat().st_mode & 0o777 == 0o600
    checked = verify(path)
    assert (checked.lines, checked.head, checked.problem) == (2, second["digest"], "")


@pytest.mark.parametrize("key", [None, b"a key"])
@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda text: text.replace(b"ls", b"rm", 1), ":1 was changed"),
        (lambda text: text.replace(b'"number":3', b'"number":4', 1), ":3 was changed"),
        (lambda text: b"".join(text.splitlines(True)[:2] + text.splitlines(True)[3:]), ":3 does not"),
        (lambda text: b"".join(sorted(text.splitlines(True), reverse=True)), ":2 does not follow"),
        (lambda text: text[:-1], ":5 was changed"), (lambda text: text[:-9], ":5 is no line"),
        (lambda text: text + b"{}\n", ":6 is no line"), (lambda text: b"\n" + text, ":1 is no line"),
        (lambda text: text.replace(b'"sandbox":"box"', b'"sandbox": "box"', 1), ":1 was changed"),
        (lambda text: text.replace(b'"}\n', b'" }\n', 1), ":1 was changed"),
    ],
)  # fmt: skip
def test_every_change_shows(tmp_path: Path, change: object, where: str, key: bytes | None) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path, key=key)
    assert not verify(path, key=key).problem
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    problem = verify(path, key=key).problem
    assert where in problem, problem


@given(st.lists(st.binary(max_size=80) | st.sampled_from([b"[" * 100_000, b"[]", b"7", b'"x"'])))
def test_any_file_is_checked(lines: list[bytes]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\n".join(lines))
        file.flush()
        found = verify(file.name)
        assert found.lines == 0 and (found.problem or not b"\n".join(lines))


@given(st.dictionaries(st.sampled_from(["number", "before", "x"]), json_values, max_size=3))
def test_a_line_that_was_sealed_by_another(line: dict[str, Any]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(sealed({"number": 1, "before": ""}, None)[0] + sealed(line, None)[0])
        file.flush()
        found = verify(file.name)
        assert found.lines in (1, 2) and (found.problem or found.lines == 2)


def test_with_a_key_nobody_else_can_write_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path)
    assert not verify(path).problem
    assert "was changed" in verify(path, key=b"the key").problem


def test_it_is_rotated_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path, 100, max_bytes=4096, keep=100)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3 and all(each.stat().st_size < 5000 for each in files)
    checked = verify(path)
    assert (checked.lines, checked.first, checked.problem) == (100, 1, "")
    assert checked.files == len(files)
    (tmp_path / "audit.jsonl.2").unlink()  # the newest two are there: the chain begins later
    assert verify(path).first > 1


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = filled(path, 100, max_bytes=1024, keep=2)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "audit.jsonl", "audit.jsonl.1", "audit.jsonl.2",
    ]  # fmt: skip
    log.on_stop(STOP)
    checked = verify(path)
    assert not checked.problem and checked.first + checked.lines - 1 == 101
    with pytest.raises(ConfigError):
        AuditLog(path, keep=0)


def test_a_missing_file_in_the_middle_shows(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path, 100, max_bytes=4096, keep=100)
    (tmp_path / "audit.jsonl.3").rename(tmp_path / "gone")
    (tmp_path / "audit.jsonl.4").rename(tmp_path / "audit.jsonl.3")
    assert "does not follow" in verify(path).problem


def test_several_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    script = (
        "import sys; from sandlot import AuditLog, StopContext\n"
        "log = AuditLog(sys.argv[1], max_bytes=3000, keep=999)\n"
        "for n in range(300): log.on_stop(StopContext(sandbox='x', reason=str(n)))"
    )
    others = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(3)]
    first, second = (
        AuditLog(path, max_bytes=3000, keep=999),
        AuditLog(path, max_bytes=3000, keep=999),
    )
    for _ in range(50):
        first.on_exec(EXEC)
        second.on_exec(EXEC)
    assert [other.wait() for other in others] == [0, 0, 0]
    checked = verify(path)
    assert (checked.lines, checked.problem) == (1000, "") and checked.files > 50


def test_half_a_line_of_one_that_died_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path, 3)
    with path.open("ab") as file:
        file.write(b'{"number":4,"ti')
    assert "is no line" in verify(path).problem
    filled(path, 1)
    assert verify(path).lines == 4 and not verify(path).problem
    assert (tmp_path / "audit.jsonl.torn").read_bytes() == b'{"number":4,"ti\n'


def test_what_cannot_be_written_down_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text("no audit log\n")
    with pytest.raises(OSError, match="is no audit log"):
        filled(tmp_path / "audit.jsonl", 1)
    with pytest.raises(OSError):
        filled(Path("/proc/nothing/audit.jsonl"), 1)


def test_its_argument_is_a_file(tmp_path: Path) -> None:
    assert AuditLog.from_argument("a.jsonl", tmp_path).path == tmp_path / "a.jsonl"
    for wrong in ("",):
        with pytest.raises(ConfigError):
            AuditLog.from_argument(wrong, tmp_path)
    with pytest.raises(ConfigError):
        AuditLog(tmp_path / "x", max_bytes=1)


@pytest.mark.parametrize("key", [None, b"k" * 32])
@pytest.mark.parametrize("harm", ["cut", "emptied", "removed", "changed"])
def test_nothing_is_written_behind_what_was_cut(
    tmp_path: Path, harm: str, key: bytes | None
) -> None:
    """The log fails, and so what it should tell of is not done."""
    path = tmp_path / "audit.jsonl"
    log = filled(path, 5, key=key)
    whole = path.read_bytes().splitlines(keepends=True)
    if harm == "removed":
        path.unlink()
    elif harm == "changed":
        other, _ = sealed({**json.loads(whole[4]), "argv": ["x"]}, b"another" * 5)
        path.write_bytes(b"".join(whole[:4]) + other)
    else:
        path.write_bytes(b"".join(whole[:3]) if harm == "cut" else b"")
    with pytest.raises(OSError, match=r"line 5|this key|no audit log"):
        log.on_exec(EXEC)
    assert verify(path, key=key).lines < 6 if path.exists() else True


def test_a_line_of_another_key_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    filled(path, 3, key=b"a" * 32).close()
    with pytest.raises(OSError, match="not written with this key"):
        filled(path, 1, key=b"b" * 32)
