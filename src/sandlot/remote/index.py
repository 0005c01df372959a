"""Where chunks lie in packs, and where they belong in a file. Pure and bounded.

An index and the list of a file's chunks are rows of numbers, little-endian:

    index   u32 packs; for each: 16 bytes its name, u32 chunks; for each: 32 bytes its name,
            u32 offset, u32 length as it is stored
    list    for each chunk: u64 offset in the file, u32 length, 32 bytes its name
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sandlot.errors import RemoteDamaged
from sandlot.remote.sealing import ID, MAX_CHUNK, OVERHEAD

MAX_PACK = 64 << 20
NAME = 16
"""Bytes of the name of a pack."""
MOST_PACKS = 1 << 20
_COUNT = struct.Struct("<I")
_PACK = struct.Struct("<16sI")
_CHUNK = struct.Struct("<32sII")
_ENTRY = struct.Struct("<QI32s")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies: in which pack, from which byte, how many."""

    pack: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk of a file."""

    offset: int
    length: int
    id: bytes


Rows = Sequence[tuple[bytes, int, int]]
"""Of one pack: name of a chunk, offset, length."""


def pack_key(pack: bytes) -> str:
    """The key that a pack is stored under."""
    name = pack.hex()
    return f"packs/{name[:2]}/{name}"


def pack_of(key: str) -> bytes | None:
    """The name of the pack under a key, if it is one."""
    name = key.rpartition("/")[2]
    try:
        pack = bytes.fromhex(name)
    except ValueError:
        return None
    return pack if len(pack) == NAME and pack_key(pack) == key else None


def make_index(packs: Mapping[bytes, Rows]) -> bytes:
    """An index of those packs."""
    out = [_COUNT.pack(len(packs))]
    for pack, rows in packs.items():
        out.append(_PACK.pack(pack, len(rows)))
        out += [_CHUNK.pack(*row) for row in rows]
    return b"".join(out)


def parse_index(data: bytes) -> dict[bytes, Rows]:
    """The packs of an index.

    Raises:
        RemoteDamaged: it says what cannot be.
    """
    try:
        return _index(data)
    except struct.error:
        raise RemoteDamaged("an index is cut off") from None


def _index(data: bytes) -> dict[bytes, Rows]:
    (count,) = _COUNT.unpack_from(data)
    if count > MOST_PACKS:
        raise RemoteDamaged(f"an index has {count} packs")
    at = _COUNT.size
    found: dict[bytes, Rows] = {}
    for _ in range(count):
        pack, chunks = _PACK.unpack_from(data, at)
        at += _PACK.size
        end = at + chunks * _CHUNK.size
        if end > len(data):
            raise RemoteDamaged("an index is cut off")
        rows: Rows = list(_CHUNK.iter_unpack(data[at:end]))
        at = end
        for _, offset, length in rows:
            if not OVERHEAD < length <= MAX_CHUNK + OVERHEAD or offset + length > MAX_PACK:
                raise RemoteDamaged("an index has a chunk where none can be")
        found[pack] = rows
    if at != len(data):
        raise RemoteDamaged("an index has something behind its end")
    return found


def make_list(entries: Iterable[Entry]) -> bytes:
    """A file's chunks."""
    return b"".join(_ENTRY.pack(each.offset, each.length, each.id) for each in entries)


def parse_list(data: bytes, size: int) -> list[Entry]:
    """The chunks of a file of `size` bytes.

    Raises:
        RemoteDamaged: they do not make such a file.
    """
    if len(data) % _ENTRY.size:
        raise RemoteDamaged("a list of chunks is cut off")
    found, end = [], 0
    for offset, length, id in _ENTRY.iter_unpack(data):
        if not 0 < length <= MAX_CHUNK or offset < end or offset + length > size:
            raise RemoteDamaged("a list of chunks has one where none can be")
        end = offset + length
        found.append(Entry(offset, length, id))
    return found


assert _CHUNK.size == ID + 8 and _ENTRY.size == ID + 12
