"""The archive, read back as the kernel reads it."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from sandlot.guest.cpio import Entry, build, folder, program


def parse(archive: bytes) -> list[tuple[list[int], str, bytes]]:
    """The thirteen numbers, the name and the data of each entry."""
    entries, at = [], 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = numbers[6], numbers[11]
        name_at = at + 110
        assert archive[name_at + name_size - 1] == 0
        name = archive[name_at : name_at + name_size - 1].decode()
        data_at = (name_at + name_size + 3) // 4 * 4
        entries.append((numbers, name, archive[data_at : data_at + size]))
        at = (data_at + size + 3) // 4 * 4
    return entries


def test_kinds_of_entries() -> None:
    console = Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    parsed = parse(build([folder("/dev"), console, program("init", b"\x7fELF!")]))
    assert [name for _, name, _ in parsed] == ["dev", "dev/console", "init", "TRAILER!!!"]
    assert parsed[0][0][1] == stat.S_IFDIR | 0o755
    assert parsed[1][0][9:11] == [5, 1]
    assert parsed[2][0][1] == stat.S_IFREG | 0o755
    assert parsed[2][2] == b"\x7fELF!"
    numbers = [entry[0][0] for entry in parsed]
    assert len(set(numbers)) == len(numbers)  # the same inode would make hard links


@given(st.lists(st.tuples(st.text("abc/", min_size=1, max_size=9), st.binary(max_size=9))))
def test_everything_comes_back(files: list[tuple[str, bytes]]) -> None:
    archive = build([program(path, data) for path, data in files])
    assert len(archive) % 4 == 0
    expected = [(path.lstrip("/"), data) for path, data in files]
    assert [(name, data) for _, name, data in parse(archive)[:-1]] == expected
    assert archive == build([program(path, data) for path, data in files])
