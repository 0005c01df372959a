"""Digests and marks of files."""

from __future__ import annotations

import os
from pathlib import Path

from sandlot.snapshot.integrity import PIECE, digest_sparse, marks, sparse_pieces, write_out


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in pieces:
            file.seek(at)
            file.write(data)
    return path


def test_the_digest_of_a_sparse_file_sees_data_and_place(tmp_path: Path) -> None:
    size = 4 << 20
    base = digest_sparse(sparse(tmp_path / "a", size, (1 << 20, b"x" * 4096)))
    assert base == digest_sparse(sparse(tmp_path / "b", size, (1 << 20, b"x" * 4096)))
    moved = digest_sparse(sparse(tmp_path / "c", size, (2 << 20, b"x" * 4096)))
    other = digest_sparse(sparse(tmp_path / "d", size, (1 << 20, b"y" * 4096)))
    assert len({base, moved, other}) == 3


def test_the_digest_does_not_depend_on_where_the_holes_are(tmp_path: Path) -> None:
    size = (3 << 20) + 5000
    pieces = [
        (100, b"a" * 10),
        (70_000, b"b" * 200_000),
        (2 << 20, b"c" * (1 << 20)),
        (size - 1, b"d"),
    ]
    holes = sparse(tmp_path / "holes", size, *pieces)
    dense = tmp_path / "dense"
    dense.write_bytes(holes.read_bytes())
    assert digest_sparse(holes) == digest_sparse(dense)
    with dense.open("rb") as file:
        found = bytearray(size)
        for at, piece in sparse_pieces(file.fileno()):
            assert not at % PIECE and (len(piece) == PIECE or at + len(piece) == size)
            found[at : at + len(piece)] = piece
    assert found == dense.read_bytes()
    longer = sparse(tmp_path / "longer", size + 1, *pieces)
    assert digest_sparse(longer) != digest_sparse(holes)


def test_marks_tell_a_change(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    before = marks([path])
    assert marks([path]) == before
    path.write_bytes(b"abcd")
    assert marks([path]) != before
    path.write_bytes(b"abc")
    os.utime(path, ns=(0, before[1]))
    assert marks([path]) == before
    write_out([path])
