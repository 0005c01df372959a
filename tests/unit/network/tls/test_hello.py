"""The TLS hello, compared with what OpenSSL reads and writes."""

from __future__ import annotations

import ssl
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.tls.hello import (
    LONGEST_HELLO,
    MOST_RECORDS,
    BrokenHello,
    Hello,
    HelloReader,
    NotTls,
    Outcome,
)

RANDOM = bytes(range(32))


@cache
def written(name: str | None, alpn: tuple[str, ...] = (), old: bool = False) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def server_reads(data: bytes) -> tuple[bool, str | None]:
    """Whether OpenSSL as a server takes the hello, and the name that it reads."""
    seen: list[str | None] = []

    def note(_socket: Any, name: str | None, _context: Any) -> int:
        seen.append(name)
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = note
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(data)
    try:
        server.do_handshake()
    except ssl.SSLError:
        pass
    return bool(seen), seen[0] if seen else None


def read(data: bytes, step: int = 0) -> Outcome | None:
    reader = HelloReader()
    if not step:
        return reader.feed(data)
    outcome = None
    for at in range(0, len(data), step):
        outcome = reader.feed(data[at : at + step])
    return outcome


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, data)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def hello(*extensions: bytes, **parts: bytes) -> bytes:
    body = parts.get("version", b"\3\3") + RANDOM + parts.get("session", vector(1, RANDOM))
    body += parts.get("suites", vector(2, b"\x13\1\x13\2")) + parts.get("compressions", b"\1\0")
    if extensions:
        body += vector(2, b"".join(extensions))
    return b"\1" + vector(3, body + parts.get("tail", b""))


def record(message: bytes, kind: int = 22, version: bytes = b"\3\1") -> bytes:
    return bytes([kind]) + version + vector(2, message)


def in_records(message: bytes, size: int) -> bytes:
    return b"".join(record(message[at : at + size]) for at in range(0, len(message), size))


@pytest.mark.parametrize("name", ["example.com", "a-b_c.example", "xn--bcher-kva.example", None])
@pytest.mark.parametrize("alpn", [(), ("http/1.1",), ("h2", "http/1.1")])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("step", [0, 1, 100])
def test_hellos_of_openssl(name: str | None, alpn: tuple[str, ...], old: bool, step: int) -> None:
    data = written(name, alpn, old)
    found = read(data, step)
    assert isinstance(found, Hello)
    assert found.name == name == server_reads(data)[1]
    assert found.alpn == tuple(each.encode() for each in alpn)
    assert (0x0304 in found.versions) != old and 0x0303 in found.versions
    assert not found.ech and not found.early_data


@pytest.mark.parametrize("size", [1, 3, 5, 40, 500])
def test_a_hello_may_be_cut_into_records(size: int) -> None:
    message = written("example.com", ("h2",))[5:]
    data = in_records(message, max(size, len(message) // (MOST_RECORDS - 2) + 1))
    for step in (0, 1, 7):
        found = read(data, step)
        assert isinstance(found, Hello) and found.name == "example.com"
    assert server_reads(data) == (True, "example.com")


def test_more_is_needed_until_it_is_whole() -> None:
    data = written("example.com")
    for end in range(len(data)):
        assert read(data[:end]) is None
    assert isinstance(read(data + b"what follows"), Hello)


def test_an_outcome_is_final() -> None:
    reader = HelloReader()
    first = reader.feed(written("example.com"))
    assert reader.feed(b"GET / HTTP/1.1") == first == reader.feed(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"\0\0\0\x10",
        b"\x80\x2e\1\3\1",
        b"\x16\x05\0",
        b"\x15\3\1",
    ],
)
def test_what_is_no_tls(data: bytes) -> None:
    assert read(data) == NotTls()
    assert read(data, 1) == NotTls()


GREASE = extension(0x0A0A, b"")


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ((), Hello(None, (), (0x0303,))),
        ((server_name(b"Example.COM"),), Hello("example.com", (), (0x0303,))),
        ((server_name(b"example.com."),), Hello("example.com", (), (0x0303,))),
        ((server_name(b"1.2.3.4"),), Hello("1.2.3.4", (), (0x0303,))),
        ((server_name(b"2001:DB8::1"),), Hello("2001:db8::1", (), (0x0303,))),
        ((GREASE, extension(43, b"\6\x7a\x7a\3\4\3\3")), Hello(None, (), (0x0304, 0x0303))),
        ((extension(16, vector(2, b"\2h2\x08http/1.1")),), Hello(None, (b"h2", b"http/1.1"), (0x0303,))),
        ((extension(0xFE0D, b"\0whatever"), server_name(b"public.example")),
         Hello("public.example", (), (0x0303,), ech=True)),
        ((extension(0xFFCE, b""),), Hello(None, (), (0x0303,), ech=True)),
        ((extension(42, b""),), Hello(None, (), (0x0303,), early_data=True)),
    ],
)  # fmt: skip
def test_extensions(extensions: tuple[bytes, ...], expected: Hello) -> None:
    assert read(record(hello(*extensions))) == expected
    assert read(in_records(hello(*extensions), 7), 3) == expected


BROKEN = {
    "another message first": record(b"\2" + hello()[1:]),
    "an empty record": record(b""),
    "an empty record within": record(hello()[:9]) + record(b"") + record(hello()[9:]),
    "a record that is too long": b"\x16\3\1\x40\1",
    "too many records": in_records(hello(server_name(b"a" * 60 + b".com")), 1),
    "an alert within": record(hello()[:9]) + record(b"\2\x28", 21),
    "data within": record(hello()[:9]) + record(b"x", 23),
    "something behind in the record": record(hello() + b"\x0b\0\0\0"),
    "too long": record(b"\1" + (LONGEST_HELLO + 1).to_bytes(3, "big")),
    "cut off inside": record(b"\1\0\0\x28" + hello()[4:44]),
    "version of no TLS": record(hello(version=b"\2\0")),
    "a long session id": record(hello(session=vector(1, bytes(33)))),
    "no ciphers": record(hello(suites=b"\0\0")),
    "half a cipher": record(hello(suites=vector(2, b"abc"))),
    "no compression": record(hello(compressions=b"\0")),
    "bytes behind the extensions": record(hello(GREASE, tail=b"x")),
    "an extension that is cut off": record(hello(GREASE + b"\0\0\0\5a")),
    "half an extension": record(hello(GREASE + b"\0")),
    "two server names in two extensions": record(
        hello(server_name(b"a.com"), server_name(b"b.com"))
    ),
    "the same extension twice": record(hello(GREASE, GREASE)),
    "two names": record(hello(extension(0, vector(2, (b"\0" + vector(2, b"a.com")) * 2)))),
    "an empty list of names": record(hello(extension(0, b"\0\0"))),
    "an empty server name extension": record(hello(extension(0, b""))),
    "an empty name": record(hello(server_name(b""))),
    "a name of another kind": record(hello(server_name(b"a.com", kind=1))),
    "bytes behind the name": record(
        hello(extension(0, vector(2, b"\0" + vector(2, b"a.com")) + b"x"))
    ),
    "a name with NUL": record(hello(server_name(b"a.com\0.evil.org"))),
    "a name with a blank": record(hello(server_name(b"a com"))),
    "a name that is no text": record(hello(server_name(b"\xc3\xbc.com"))),
    "an endless name": record(hello(server_name(b"a." * 200 + b"com"))),
    "an address in disguise": record(hello(server_name(b"0x7f.1"))),
    "an empty list of protocols": record(hello(extension(16, b"\0\0"))),
    "an empty protocol": record(hello(extension(16, vector(2, b"\0")))),
    "endless protocols": record(hello(extension(16, vector(2, b"\1a" * 65)))),
    "no versions": record(hello(extension(43, b"\0"))),
    "half a version": record(hello(extension(43, b"\3\3\4\3"))),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_begins_as_tls_and_is_wrong(what: str) -> None:
    found = read(BROKEN[what])
    assert isinstance(found, BrokenHello) and found.reason
    assert isinstance(read(BROKEN[what], 1), BrokenHello)


def test_endless_bytes_cost_no_memory() -> None:
    reader = HelloReader()
    for _ in range(100):
        outcome = reader.feed(record(b"\1\0\x7f\xff" + bytes(5000)))
        if outcome is not None:
            break
        assert len(reader._data) + len(reader._message) < 2 * LONGEST_HELLO
    assert isinstance(outcome, BrokenHello)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: b"\x16\3\1" + tail))
def test_any_bytes(data: bytes) -> None:
    whole = read(data)
    assert type(read(data, 1)) is type(whole)


@given(
    st.binary(max_size=60), st.lists(st.sampled_from([GREASE, server_name(b"a.com"), b"\0\0"]), max_size=3)
)  # fmt: skip
def test_any_extensions(data: bytes, others: list[bytes]) -> None:
    read(record(hello(*others, data)))


@given(st.data())
def test_what_openssl_takes_is_read_with_the_same_name_or_refused(data: st.DataObject) -> None:
    """Never a hello in which the server sees another name than we do."""
    wire = bytearray(written("example.com", ("h2",), data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        # Names that are no ASCII are refused by us, and by Python before it calls us back.
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 127))
    ours = read(bytes(wire))
    taken, name = server_reads(bytes(wire))
    if taken:
        assert ours != NotTls(), "OpenSSL took it"
        if isinstance(ours, Hello):
            assert ours.name == (name.lower().removesuffix(".") if name else None)


def test_hellos_compare_by_value() -> None:
    one = Hello("a.com", (b"h2",))
    assert replace(one) == one and hash(replace(one)) == hash(one)
