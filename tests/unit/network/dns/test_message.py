"""The bytes of DNS, compared with what dnspython reads and writes."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.dns.message import (
    LARGEST_UDP,
    Code,
    Fault,
    Labels,
    Malformed,
    Query,
    Record,
    Response,
    Type,
    answer,
    host_name,
    parse_query,
    parse_response,
    question,
    read_name,
    to_labels,
)

LABEL = st.binary(min_size=1, max_size=20) | st.binary(min_size=1, max_size=63)
HOST_LABEL = st.sampled_from([b"a", b"B", b"www", b"x" * 63, b"_tcp", b"Example", b"com", b"-9"])
NAME = st.lists(HOST_LABEL, min_size=1, max_size=3).map(tuple)
ODD_NAME = (
    st.lists(LABEL, max_size=12)
    .map(tuple)
    .filter(lambda labels: sum(len(each) + 1 for each in labels) < 255)
)
V4 = st.integers(0, 2**32 - 1).map(lambda n: ip_address(n.to_bytes(4, "big")))
V6 = st.integers(0, 2**128 - 1).map(lambda n: ip_address(n.to_bytes(16, "big")))
U16 = st.integers(0, 65535)
TTL = st.integers(0, 2**31 - 1)


def record(kind: Type, data: st.SearchStrategy[object]) -> st.SearchStrategy[Record]:
    return st.builds(Record, NAME, st.just(kind), TTL, data)


RECORD = st.one_of(
    record(Type.A, V4), record(Type.AAAA, V6), record(Type.CNAME, NAME),
    record(Type.MX, st.tuples(U16, NAME)), record(Type.SRV, st.tuples(U16, U16, U16, NAME)),
    record(Type.PTR, NAME),
    record(Type.TXT, st.lists(st.binary(max_size=40) | st.just(bytes(255)), min_size=1, max_size=3).map(tuple)),
)  # fmt: skip
QUERY = st.builds(
    Query, U16, NAME, st.sampled_from([1, 5, 12, 15, 16, 28, 33, 65]), st.booleans(), st.booleans(),
    st.just(0) | st.integers(512, 65535),
)  # fmt: skip


def wire_of(labels: Labels) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


@given(QUERY)
def test_queries_of_another_library_are_read(query: Query) -> None:
    name = dns.name.Name([*query.labels, b""])
    made = dns.message.make_query(
        name, dns.rdatatype.RdataType(query.type), use_edns=0 if query.size else False, payload=query.size or None,
        options=[dns.edns.GenericOption(dns.edns.OptionType(n), b"\0\1cookie") for n in (8, 10)],
    )  # fmt: skip
    made.id = query.id
    made.flags = dns.flags.Flag(0)
    made.flags |= dns.flags.RD if query.recursion else 0
    made.flags |= dns.flags.CD if query.unchecked else 0
    assert parse_query(made.to_wire()) == query


@given(QUERY, st.lists(RECORD, max_size=8), st.sampled_from([Code.NOERROR, Code.NXDOMAIN]))
def test_answers_are_read_by_another_library(
    query: Query, records: list[Record], code: Code
) -> None:
    wire = answer(query, code, records, tcp=True, error=(18, "because"))
    read = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert read.id == query.id and read.rcode() == int(code)
    assert read.flags & dns.flags.QR and read.flags & dns.flags.RA
    assert bool(read.flags & dns.flags.RD) == query.recursion
    assert not read.flags & (dns.flags.AA | dns.flags.TC | dns.flags.AD)
    assert read.question[0].name.labels == (*query.labels, b"")
    assert len(read.answer) == len(records) or len(set(records)) < len(records)
    for rrset, one in zip(read.answer, records, strict=False):
        assert (rrset.ttl, rrset.rdtype, rrset.name.labels) == (
            one.ttl,
            one.type,
            (*one.labels, b""),
        )
    assert (read.edns == 0) == bool(query.size)
    errors = [option for option in read.options if option.otype == 15]
    assert len(errors) == bool(query.size)
    if errors:
        assert (errors[0].code, errors[0].text) == (18, "because")
    response = parse_response(wire)
    assert (response.labels, response.type, response.code) == (query.labels, query.type, code)
    assert response.answers == tuple(records)


@given(QUERY, st.lists(RECORD, max_size=12))
def test_what_does_not_fit_is_truncated(query: Query, records: list[Record]) -> None:
    wire = answer(query, Code.NOERROR, records)
    limit = min(max(query.size, 512), LARGEST_UDP)
    assert len(wire) <= limit
    whole = answer(query, Code.NOERROR, records, tcp=True)
    if len(whole) <= limit:
        assert wire == whole
    else:
        read = dns.message.from_wire(wire)
        assert read.flags & dns.flags.TC and not read.answer


@given(U16, NAME, st.sampled_from([1, 28, 16]), st.booleans())
def test_questions_for_upstream(id_: int, labels: Labels, type_: int, edns: bool) -> None:
    read = dns.message.from_wire(question(id_, labels, type_, edns))
    assert (read.id, read.edns) == (id_, 0 if edns else -1)
    assert read.flags == dns.flags.RD
    assert read.question[0].name.labels == (*labels, b"")
    assert read.question[0].rdtype == type_ and read.question[0].rdclass == dns.rdataclass.IN
    assert not read.options


def header(flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return b"\x12\x34" + flags.to_bytes(2, "big") + b"".join(n.to_bytes(2, "big") for n in counts)


ASKED = wire_of((b"a", b"com")) + b"\0\1\0\1"
EDNS = b"\0\0\x29\x10\0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (header(0x0000 | 1 << 11) + ASKED, Code.NOTIMP),  # inverse query
        (header(2 << 11) + ASKED, Code.NOTIMP),  # status
        (header(4 << 11) + ASKED, Code.NOTIMP),  # notify
        (header(5 << 11) + ASKED, Code.NOTIMP),  # update
        (header(counts=(0, 0, 0, 0)), Code.FORMERR),
        (header(counts=(2, 0, 0, 0)) + ASKED * 2, Code.FORMERR),
        (header(counts=(1, 1, 0, 0)) + ASKED + EDNS, Code.FORMERR),
        (header(counts=(1, 0, 1, 0)) + ASKED + EDNS, Code.FORMERR),
        (header(counts=(1, 0, 0, 2)) + ASKED + EDNS * 2, Code.FORMERR),
        (header(counts=(65535, 65535, 65535, 65535)) + ASKED, Code.FORMERR),
        (header(0x0300) + ASKED, Code.FORMERR),  # a truncated question
        (header() + ASKED + b"x", Code.FORMERR),
        (header() + ASKED[:-1], Code.FORMERR),
        (header() + b"\x3f" + b"a" * 10, Code.FORMERR),
        (header() + b"\x40a\0\0\1\0\1", Code.FORMERR),  # an extended label
        (header() + b"\xc0\x0c\0\1\0\1", Code.FORMERR),  # a pointer to itself
        (header() + b"\xc0\x00\0\1\0\1", Code.FORMERR),  # into the head
        (header() + b"\xc0", Code.FORMERR),
        (header() + b"\1a" * 127 + b"\1b\0\0\1\0\1", Code.FORMERR),  # 257 bytes
        (header(counts=(1, 0, 0, 1)) + ASKED + EDNS[:-1], Code.FORMERR),
        (header(counts=(1, 0, 0, 1)) + ASKED + b"\0\0\1\0\1\0\0\0\0\0\0", Code.FORMERR),
        (header(counts=(1, 0, 0, 1)) + ASKED + b"\1x" + EDNS, Code.FORMERR),
        (header(counts=(1, 0, 0, 1)) + ASKED + EDNS[:-1] + b"\5", Code.FORMERR),
        (header(counts=(1, 0, 0, 1)) + ASKED + EDNS + bytes(2048), Code.FORMERR),
        (header(counts=(1, 0, 0, 1)) + ASKED + b"\0\0\x29\x10\0\0\1\0\0\0\0", Code.BADVERS),
        (header() + ASKED[:-1] + b"\3", Code.REFUSED),  # class CHAOS
        (header() + ASKED[:-1] + b"\xff", Code.REFUSED),  # class ANY
        (header() + wire_of((b"a",)) + b"\0\x29\0\1", Code.REFUSED),  # type OPT
    ],
)
def test_what_is_no_plain_question_is_told_so(data: bytes, code: Code) -> None:
    fault = parse_query(data)
    assert isinstance(fault, Fault) and fault.code == code and fault.id == 0x1234
    read = dns.message.from_wire(answer(fault, fault.code))
    assert (read.id, read.rcode()) == (0x1234, int(code))


@pytest.mark.parametrize("data", [b"", b"\0" * 11, header(0x8100) + ASKED, header(0x8000)])
def test_what_must_not_be_answered_is_not(data: bytes) -> None:
    assert parse_query(data) is None


@given(st.binary(max_size=600) | st.binary(max_size=80).map(lambda tail: header() + tail))
def test_any_bytes_from_the_guest(data: bytes) -> None:
    query = parse_query(data)
    if query is not None:
        code = query.code if isinstance(query, Fault) else Code.REFUSED
        assert dns.message.from_wire(answer(query, code)).rcode() == int(code)


def safely(data: bytes) -> Response | None:
    try:
        return parse_response(data)
    except Malformed:
        return None


@given(st.binary(max_size=600) | st.binary(max_size=200).map(lambda t: header(0x8180) + ASKED + t))
def test_any_bytes_from_upstream(data: bytes) -> None:
    safely(data)


@given(QUERY, st.lists(RECORD, min_size=1, max_size=6), st.data())
def test_damaged_answers(query: Query, records: list[Record], data: st.DataObject) -> None:
    """Where both libraries can read them, they read the same."""
    wire = bytearray(answer(query, Code.NOERROR, records, tcp=True))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    ours = safely(bytes(wire))
    try:
        theirs = dns.message.from_wire(bytes(wire), one_rr_per_rrset=True, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return
    if ours is None or ours.truncated:
        return
    assert ours.id == theirs.id
    assert ours.labels == theirs.question[0].name.labels[:-1]
    read = {
        (rrset.name.labels[:-1], ip_address(rdata.address))
        for rrset in theirs.answer
        for rdata in rrset
        if rrset.rdclass == dns.rdataclass.IN and rrset.rdtype in (1, 28)
    }
    found = {(r.labels, r.data) for r in ours.answers if r.type in (1, 28)}
    assert found == read


@given(ODD_NAME)
def test_names(labels: Labels) -> None:
    assert read_name(wire_of(labels), 0) == (labels, len(wire_of(labels)))


def test_pointers() -> None:
    data = bytes(12) + wire_of((b"example", b"com")) + b"\3www\xc0\x0c" + b"\1a\xc0\x19"
    assert read_name(data, 25) == ((b"www", b"example", b"com"), 31)
    assert read_name(data, 31) == ((b"a", b"www", b"example", b"com"), 35)
    # Forwards, to itself, in circles, and a chain that is longer than any name needs.
    for bad in (
        bytes(12) + b"\xc0\x0e\0",
        bytes(12) + b"\xc0\x0c",
        bytes(12) + b"\1a\xc0\x0c",
        bytes(12) + b"\1a\xc0\x10\1b\xc0\x0c",
    ):
        with pytest.raises(Malformed):
            read_name(bad, 12)
    chain = (
        bytes(12)
        + b"\0"
        + b"".join(
            (0xC000 | (12 if i == 0 else 13 + 2 * (i - 1))).to_bytes(2, "big") for i in range(100)
        )
    )
    assert read_name(chain, 13 + 2 * 30) == ((), 13 + 2 * 30 + 2)
    with pytest.raises(Malformed):
        read_name(chain, 13 + 2 * 99)


@pytest.mark.parametrize(
    "tail",
    [
        b"\xc0\x0c\0\1\0\1\0\0\0\0\0\3abc",  # an A of three bytes
        b"\xc0\x0c\0\x1c\0\1\0\0\0\0\0\4abcd",  # an AAAA of four
        b"\xc0\x0c\0\5\0\1\0\0\0\0\0\3\xc0\x0cx",  # more than a name
        b"\xc0\x0c\0\x0f\0\1\0\0\0\0\0\2ab",  # MX without a name
        b"\xc0\x0c\0\x21\0\1\0\0\0\0\0\6abcdef",  # SRV without a name
        b"\xc0\x0c\0\x10\0\1\0\0\0\0\0\2\5a",  # TXT whose string is cut off
        b"\xc0\x0c\0\x10\0\1\0\0\0\0\0\0",  # TXT without a string
        b"\xc0\x0c\0\1\0\1\0\0\0\0\0\x10abcd",  # longer than the message
        b"\xc0\x0c\0\1\0\1\0\0",
        b"",
    ],
)
def test_damaged_records(tail: bytes) -> None:
    with pytest.raises(Malformed):
        parse_response(header(0x8180, (1, 1, 0, 0)) + ASKED + tail)


def test_other_classes_and_types_are_left_out() -> None:
    chaos = b"\xc0\x0c\0\1\0\3\0\0\0\0\0\4abcd"
    other = b"\xc0\x0c\0\x63\0\1\0\0\0\0\0\3abc"
    good = b"\xc0\x0c\0\1\0\1\xff\0\0\0\0\4\1\2\3\4"
    response = parse_response(header(0x8180, (1, 3, 0, 0)) + ASKED + chaos + other + good)
    assert response.answers == (Record((b"a", b"com"), 1, 0, ip_address("1.2.3.4")),)


def test_too_many_records_and_other_messages() -> None:
    for flags, counts in (
        (0x8180, (1, 257, 0, 0)), (0x0100, (1, 0, 0, 0)), (0x8180, (2, 0, 0, 0)),
        (0x8180, (0, 0, 0, 0)), (0xA180, (1, 0, 0, 0)),
    ):  # fmt: skip
        with pytest.raises(Malformed):
            parse_response(header(flags, counts) + ASKED)
    with pytest.raises(Malformed):
        parse_response(header(0x8180) + ASKED[:-1] + b"\3")


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ((b"Example", b"COM"), "example.com"),
        ((b"_sip", b"_tcp", b"a"), "_sip._tcp.a"),
        ((), None),
        ((b"a.b", b"com"), None),
        ((b"a b",), None),
        ((b"a\0",), None),
        ((b"\xc3\xbc",), None),
        ((b"*", b"com"), None),
    ],
)
def test_names_of_hosts(labels: Labels, name: str | None) -> None:
    assert host_name(labels) == name
    if name is not None:
        assert host_name(to_labels(name)) == name
