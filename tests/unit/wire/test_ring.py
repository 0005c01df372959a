"""The rings of the memory window."""

from __future__ import annotations

import random
from collections import deque

import pytest

from sandlot.errors import GuestProtocolError
from sandlot.wire.ring import ReceiveRing, SendRing


def test_random_traffic_arrives_whole() -> None:
    rng = random.Random(7)
    memory = memoryview(bytearray(4096))
    ring, sent = SendRing(memory), deque[tuple[int, bytes]]()
    moved = 0
    while moved < 300_000:
        data = rng.randbytes(rng.randint(1, 1500))
        offset = ring.put(memoryview(data))
        if offset is not None:
            sent.append((offset, data))
            moved += len(data)
        if offset is None or rng.random() < 0.3:
            count = rng.randint(1, len(sent))
            total = 0
            for _ in range(count):
                at, expected = sent.popleft()
                assert bytes(memory[at : at + len(expected)]) == expected
                total += len(expected)
            ring.freed(total)


def test_pieces_that_end_where_the_half_ends() -> None:
    memory = memoryview(bytearray(40))
    ring = SendRing(memory)
    assert [ring.put(memoryview(bytes([n]) * 10)) for n in range(4)] == [0, 10, 20, 30]
    assert ring.put(memoryview(bytes(10))) is None
    ring.freed(10)
    assert ring.put(memoryview(b"x" * 10)) == 0
    assert ring.put(memoryview(b"y")) is None
    assert bytes(memory[:11]) == b"x" * 10 + b"\x01"


def test_what_is_too_large_never_fits() -> None:
    assert SendRing(memoryview(bytearray(10))).put(memoryview(bytes(11))) is None


def test_the_room_is_what_fits_in_one_piece() -> None:
    rng = random.Random(8)
    ring, sizes = SendRing(memoryview(bytearray(4096))), deque[int]()
    for _ in range(2000):
        if room := ring.room():
            assert room >= 512
            size = rng.choice([room, rng.randint(1, room)])
            assert ring.put(memoryview(bytes(size))) is not None
            sizes.append(size)
        if sizes and (not room or rng.random() < 0.4):
            ring.freed(sizes.popleft())


@pytest.mark.parametrize("freed", [1, 5, 101])
def test_freeing_what_is_not_outstanding(freed: int) -> None:
    ring = SendRing(memoryview(bytearray(100)))
    assert ring.put(memoryview(bytes(4))) == 0
    with pytest.raises(GuestProtocolError):
        ring.freed(freed)


@pytest.mark.parametrize(("offset", "length"), [(0, 101), (100, 1), (2**32 - 1, 1), (0, 0)])
def test_payloads_outside_the_window(offset: int, length: int) -> None:
    with pytest.raises(GuestProtocolError, match="outside the window"):
        ReceiveRing(memoryview(bytearray(100))).take(offset, length)


def test_the_copy_does_not_change_with_the_window() -> None:
    memory = bytearray(b"before")
    data = ReceiveRing(memoryview(memory)).take(0, 6)
    memory[:] = b"after!"
    assert data == b"before"


def test_debts_are_paid_at_the_latest_where_the_specification_says() -> None:
    ring = ReceiveRing(memoryview(bytearray(1 << 20)))
    owed = 0
    for _ in range(64):
        ring.take(0, 8192)
        owed += 8192
        paid = ring.debt()
        owed -= paid
        assert owed < 262_144
