"""The bytes of DNS, read with bounds and written anew: nothing that came in is passed on as it was.

Source: RFC 1035, RFC 2782 (SRV), RFC 6891 (EDNS), RFC 8914 (extended errors), RFC 9619 (one question).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from sandlot.network.names import LONGEST_LABEL, LONGEST_NAME

LONGEST_QUERY = 2048
LONGEST_MESSAGE = 65535
LONGEST_WIRE_NAME = 255
MOST_RECORDS = 256  # in the answer section; more is no answer to one question
MOST_JUMPS = 32
PLAIN_SIZE = 512  # what may be sent over UDP to who speaks no EDNS
LARGEST_UDP = 4096  # to the guest; nothing is fragmented on the way
UPSTREAM_SIZE = 1232

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")
_IN = 1
_RESPONSE, _TRUNCATED, _WANTED, _AVAILABLE, _UNCHECKED = 0x8000, 0x0200, 0x0100, 0x0080, 0x0010
_POINTER = 0xC0
_EXTENDED_ERROR = 15

Labels: TypeAlias = tuple[bytes, ...]


class Type(IntEnum):
    """The types of records that mean something here."""

    A = 1
    CNAME = 5
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    SVCB = 64
    HTTPS = 65
    IXFR = 251
    AXFR = 252
    ANY = 255


class Code(IntEnum):
    """How an answer ended."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Malformed(ValueError):
    """The bytes are no DNS message, or not one that has to be understood."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question of the guest. `size` is what it takes over UDP, 0 when it speaks no EDNS."""

    id: int
    labels: Labels
    type: int
    recursion: bool = True
    unchecked: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """A message of the guest that is not a plain question, and what it is answered."""

    id: int
    code: Code
    opcode: int = 0


Data: TypeAlias = (
    IPv4Address | IPv6Address | Labels | tuple[int, Labels] | tuple[int, int, int, Labels]
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of class IN.

    `data` is an address; the labels of a name (CNAME, PTR) or the strings of a TXT; preference and
    name (MX); or priority, weight, port and name (SRV).
    """

    labels: Labels
    type: int
    ttl: int
    data: Data


def name_in(record: Record) -> Labels:
    """The name that a record leads to: of CNAME, PTR, MX and SRV."""
    data = record.data
    assert isinstance(data, tuple)
    return data[-1] if data and isinstance(data[0], int) else data


@dataclass(frozen=True, slots=True)
class Response:
    """An answer from upstream."""

    id: int
    code: int
    truncated: bool
    labels: Labels
    type: int
    answers: tuple[Record, ...]


def host_name(labels: Labels) -> str | None:
    """The name in its one spelling, or None when no host can be called so."""
    if not labels or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    name = b".".join(labels).decode("ascii").lower()
    return name if len(name) <= LONGEST_NAME else None


def to_labels(name: str) -> Labels:
    """The labels of a name that is spelled right."""
    return tuple(name.encode("ascii").split(b"."))


def fold(labels: Labels) -> Labels:
    """The labels in lower case, in which equal names are equal."""
    return tuple(label.lower() for label in labels)


def read_name(data: bytes, at: int) -> tuple[Labels, int]:
    """A name, and where what follows it begins. Pointers lead strictly backwards.

    Raises:
        Malformed: it is cut off, too long, or leads in circles.
    """
    labels: list[bytes] = []
    size, jumps, after, barrier = 1, 0, -1, at
    while True:
        if at >= len(data):
            raise Malformed("a name is cut off")
        length = data[at]
        if length & _POINTER == _POINTER:
            if at + 1 >= len(data):
                raise Malformed("a pointer is cut off")
            target = (length & 0x3F) << 8 | data[at + 1]
            after = at + 2 if after < 0 else after
            jumps += 1
            if target >= barrier or target < _HEADER.size or jumps > MOST_JUMPS:
                raise Malformed("a pointer leads nowhere")
            at = barrier = target
            continue
        if length > LONGEST_LABEL:
            raise Malformed("a label is of an unknown kind")
        at += 1
        if length == 0:
            return tuple(labels), at if after < 0 else after
        size += length + 1
        if size > LONGEST_WIRE_NAME:
            raise Malformed("a name is too long")
        if at + length > len(data):
            raise Malformed("a label is cut off")
        labels.append(data[at : at + length])
        at += length


def parse_query(data: bytes) -> Query | Fault | None:
    """What the guest asks. None is for what must not be answered at all: no header, or an answer."""
    if len(data) < _HEADER.size:
        return None
    id_, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    opcode = flags >> 11 & 0xF
    if flags & _RESPONSE:
        return None
    if opcode:
        return Fault(id_, Code.NOTIMP, opcode)
    plain = questions == 1 and not answers and not authorities and additional <= 1
    if not plain or len(data) > LONGEST_QUERY or flags & _TRUNCATED:
        return Fault(id_, Code.FORMERR)
    try:
        labels, at = read_name(data, _HEADER.size)
        type_, class_ = _unpack(_QUESTION, data, at)
        at += _QUESTION.size
        size = 0
        if additional:
            size, version, at = _read_edns(data, at)
            if version:
                return Fault(id_, Code.BADVERS)
    except Malformed:
        return Fault(id_, Code.FORMERR)
    if at != len(data):
        return Fault(id_, Code.FORMERR)
    if class_ != _IN or type_ == Type.OPT:
        return Fault(id_, Code.REFUSED)
    return Query(id_, labels, type_, bool(flags & _WANTED), bool(flags & _UNCHECKED), size)


def _unpack(form: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    if at + form.size > len(data):
        raise Malformed("a record is cut off")
    return form.unpack_from(data, at)


def _read_edns(data: bytes, at: int) -> tuple[int, int, int]:
    """The size that the guest takes, the version, and the end. Its options are never passed on."""
    labels, at = read_name(data, at)
    type_, size, flags, length = _unpack(_RECORD, data, at)
    at += _RECORD.size + length
    if labels or type_ != Type.OPT or at > len(data):
        raise Malformed("the additional record is not EDNS")
    return max(size, PLAIN_SIZE), flags >> 16 & 0xFF, at


def parse_response(data: bytes) -> Response:
    """An answer from upstream, as far as it is looked at: its head, question and answer section.

    Raises:
        Malformed: it is none.
    """
    if not _HEADER.size <= len(data) <= LONGEST_MESSAGE:
        raise Malformed("the answer has no head")
    id_, flags, questions, count, _, _ = _HEADER.unpack_from(data)
    if not flags & _RESPONSE or flags >> 11 & 0xF or questions != 1:
        raise Malformed("it is no answer to one question")
    labels, at = read_name(data, _HEADER.size)
    type_, class_ = _unpack(_QUESTION, data, at)
    at += _QUESTION.size
    if class_ != _IN:
        raise Malformed("the answer is of another class")
    truncated = bool(flags & _TRUNCATED)
    if count > MOST_RECORDS:
        raise Malformed("the answer has too many records")
    answers: list[Record] = []
    for _ in range(0 if truncated else count):
        owner, at = read_name(data, at)
        kind, class_, ttl, length = _unpack(_RECORD, data, at)
        at += _RECORD.size
        if at + length > len(data):
            raise Malformed("a record is cut off")
        if class_ == _IN and kind in _READERS:
            # A TTL with its first bit set is none (RFC 2181).
            seconds = ttl if ttl < 1 << 31 else 0
            answers.append(Record(owner, kind, seconds, _READERS[kind](data, at, at + length)))
        at += length
    return Response(id_, flags & 0xF, truncated, labels, type_, tuple(answers))


def _read_a(data: bytes, at: int, end: int) -> Data:
    if end - at != 4:
        raise Malformed("an A record does not hold an address")
    return IPv4Address(data[at:end])


def _read_aaaa(data: bytes, at: int, end: int) -> Data:
    if end - at != 16:
        raise Malformed("an AAAA record does not hold an address")
    return IPv6Address(data[at:end])


def _read_target(data: bytes, at: int, end: int) -> Labels:
    labels, after = read_name(data, at)
    if after != end:
        raise Malformed("a name does not fill its record")
    return labels


def _read_mx(data: bytes, at: int, end: int) -> Data:
    if end - at < 3:
        raise Malformed("an MX record is cut off")
    return int.from_bytes(data[at : at + 2], "big"), _read_target(data, at + 2, end)


def _read_srv(data: bytes, at: int, end: int) -> Data:
    if end - at < 7:
        raise Malformed("an SRV record is cut off")
    priority, weight, port = struct.unpack_from("!3H", data, at)
    return priority, weight, port, _read_target(data, at + 6, end)


def _read_txt(data: bytes, at: int, end: int) -> Data:
    strings: list[bytes] = []
    while at < end:
        length = data[at]
        if at + 1 + length > end:
            raise Malformed("a TXT record is cut off")
        strings.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    if not strings:
        raise Malformed("a TXT record is empty")
    return tuple(strings)


_READERS: dict[int, Callable[[bytes, int, int], Data]] = {
    Type.A: _read_a,
    Type.AAAA: _read_aaaa,
    Type.CNAME: _read_target,
    Type.PTR: _read_target,
    Type.MX: _read_mx,
    Type.SRV: _read_srv,
    Type.TXT: _read_txt,
}


class _Writer:
    """Bytes of a message, with names pointing back to what was written before."""

    def __init__(self, head: bytes) -> None:
        self.data = bytearray(head)
        self._places: dict[Labels, int] = {}

    def name(self, labels: Labels, compress: bool = True) -> None:
        for index in range(len(labels)):
            rest = labels[index:]
            # Spelled the same: the guest checks the case of its own question in what comes back.
            place = self._places.get(rest)
            if compress and place is not None:
                self.data += struct.pack("!H", _POINTER << 8 | place)
                return
            if len(self.data) < 0x4000:
                self._places.setdefault(rest, len(self.data))
            self.data += bytes([len(labels[index])]) + labels[index]
        self.data.append(0)

    def record(self, record: Record) -> None:
        self.name(record.labels)
        self.data += _RECORD.pack(record.type, _IN, record.ttl, 0)
        begin = len(self.data)
        self._data(record)
        self.data[begin - 2 : begin] = struct.pack("!H", len(self.data) - begin)

    def _data(self, record: Record) -> None:
        data = record.data
        if isinstance(data, IPv4Address | IPv6Address):
            self.data += data.packed
        elif record.type == Type.TXT:
            for string in data:
                assert isinstance(string, bytes)
                self.data += bytes([len(string)]) + string
        else:
            numbers = [each for each in data if isinstance(each, int)]
            self.data += struct.pack(f"!{len(numbers)}H", *numbers)
            self.name(name_in(record), compress=record.type != Type.SRV)


def answer(
    query: Query | Fault, code: Code, answers: Sequence[Record] = (), *, tcp: bool = False,
    error: tuple[int, str] | None = None,
) -> bytes:  # fmt: skip
    """The answer to the guest. What does not fit is left out, and the guest told to come by TCP.

    Args:
        query: what it asked; its question is repeated as it was spelled.
        code: how it ended.
        answers: the records.
        tcp: whether it came over TCP, where all fits.
        error: number and text of an extended error, for those who speak EDNS.
    """
    flags = _RESPONSE | _AVAILABLE | code & 0xF
    if isinstance(query, Fault):
        edns = _edns(code >> 4, b"") if code > 0xF else b""
        head = _HEADER.pack(query.id, flags | query.opcode << 11, 0, 0, 0, bool(edns))
        return head + edns
    flags |= (_WANTED if query.recursion else 0) | (_UNCHECKED if query.unchecked else 0)
    option = b""
    if error is not None:
        text = error[1].encode()[:200]
        option = struct.pack("!HHH", _EXTENDED_ERROR, len(text) + 2, error[0]) + text
    edns = _edns(0, option) if query.size else b""
    limit = LONGEST_MESSAGE if tcp else min(max(query.size, PLAIN_SIZE), LARGEST_UDP)
    writer = _Writer(bytes(_HEADER.size))
    writer.name(query.labels)
    writer.data += _QUESTION.pack(query.type, _IN)
    question = len(writer.data)
    for record in answers:
        writer.record(record)
    count = len(answers)
    if len(writer.data) + len(edns) > limit:
        del writer.data[question:]
        flags, count = flags | _TRUNCATED, 0
        edns = _edns(0, b"") if edns else b""
    writer.data[: _HEADER.size] = _HEADER.pack(query.id, flags, 1, count, 0, bool(edns))
    return bytes(writer.data + edns)


def _edns(code: int, options: bytes) -> bytes:
    return b"\0" + _RECORD.pack(Type.OPT, LARGEST_UDP, code << 24, len(options)) + options


def question(id_: int, labels: Labels, type_: int, edns: bool = True) -> bytes:
    """A question for the upstream resolver."""
    writer = _Writer(_HEADER.pack(id_, _WANTED, 1, 0, 0, edns))
    writer.name(labels)
    writer.data += _QUESTION.pack(type_, _IN)
    if edns:
        writer.data += b"\0" + _RECORD.pack(Type.OPT, UPSTREAM_SIZE, 0, 0)
    return bytes(writer.data)
