"""What is sealed opens in its own place only, and says nothing before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import RemoteDamaged
from sandlot.remote.keys import Ring
from sandlot.remote.sealing import MAX_CHUNK, OVERHEAD, Sealer, padded

SEALER = Sealer(Ring("0" * 32, b"s" * 32))
OTHER = Sealer(Ring("0" * 32, b"t" * 32))
TEXT = b"the quick brown fox " * 500


def test_a_chunk_opens_under_its_name_and_ring_only() -> None:
    id = SEALER.chunk_id(TEXT)
    sealed = SEALER.seal_chunk(id, TEXT)
    assert len(sealed) < len(TEXT) and b"quick" not in sealed
    assert SEALER.open_chunk(id, sealed, len(TEXT)) == TEXT
    assert SEALER.seal_chunk(id, TEXT) != sealed  # the nonce is fresh
    another = SEALER.chunk_id(b"other")
    assert OTHER.chunk_id(TEXT) != id
    for sealer, name, data, length in (
        (SEALER, another, sealed, len(TEXT)), (OTHER, id, sealed, len(TEXT)),
        (SEALER, id, sealed, len(TEXT) - 1), (SEALER, id, sealed, len(TEXT) + 1),
        (SEALER, id, sealed[:-1], len(TEXT)), (SEALER, id, sealed, 0),
        (SEALER, id, sealed, MAX_CHUNK + 1), (SEALER, id, b"", 10),
    ):  # fmt: skip
        with pytest.raises(RemoteDamaged):
            sealer.open_chunk(name, data, length)


def test_a_reader_of_the_ring_cannot_pass_off_one_chunk_as_another() -> None:
    id = SEALER.chunk_id(TEXT)
    with pytest.raises(RemoteDamaged, match="something else than its name"):
        SEALER.open_chunk(id, SEALER.seal_chunk(id, TEXT.upper()), len(TEXT))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = bytes(64 << 20)
    id = SEALER.chunk_id(TEXT)
    with pytest.raises(RemoteDamaged, match="more than it should"):
        SEALER.open_chunk(id, SEALER.seal_chunk(id, bomb), len(TEXT))


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 2999), st.integers(1, 255))
def test_any_changed_byte_is_seen(data: bytes, at: int, change: int) -> None:
    id = SEALER.chunk_id(data)
    sealed = bytearray(SEALER.seal_chunk(id, data))
    assert SEALER.open_chunk(id, bytes(sealed), len(data)) == data
    assert len(sealed) <= len(data) + OVERHEAD
    sealed[at % len(sealed)] ^= change
    with pytest.raises(RemoteDamaged):
        SEALER.open_chunk(id, bytes(sealed), len(data))


def test_a_document_opens_in_its_place_and_kind_only() -> None:
    sealed = SEALER.seal("a head", "heads/a", TEXT)
    assert SEALER.open("a head", "heads/a", sealed) == TEXT
    for sealer, kind, place in (
        (SEALER, "a head", "heads/b"), (SEALER, "a manifest", "heads/a"), (OTHER, "a head", "heads/a"),
    ):  # fmt: skip
        with pytest.raises(RemoteDamaged, match="what belongs there"):
            sealer.open(kind, place, sealed)
    lengths = {len(SEALER.seal("a head", "heads/a", b"x" * n)) for n in range(100)}
    assert lengths == {256}  # how long it is tells little


@given(st.binary(max_size=300))
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteDamaged):
        SEALER.open("a head", "heads/a", data)


def test_a_signature_is_of_its_kind_and_ring() -> None:
    signed = SEALER.sign("a head", TEXT)
    assert SEALER.verified("a head", signed) == TEXT
    for sealer, kind, data in (
        (OTHER, "a head", signed), (SEALER, "a manifest", signed),
        (SEALER, "a head", signed[:-1]), (SEALER, "a head", b""),
    ):  # fmt: skip
        with pytest.raises(RemoteDamaged, match="signature"):
            sealer.verified(kind, data)


@given(st.integers(0, 1 << 40))
def test_padding_is_little_and_tells_little(size: int) -> None:
    assert size <= padded(size) <= max(256, size + size // 8)
    assert padded(padded(size)) == padded(size)


def test_names_are_keyed() -> None:
    assert SEALER.name_id("web") != OTHER.name_id("web") and "web" not in SEALER.name_id("web")
