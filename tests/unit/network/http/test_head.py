"""Heads of HTTP/1.1: one reading, or none."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.http.head import (
    MAX_FIELDS,
    MAX_HEAD,
    HeadBuffer,
    Malformed,
    parse_fields,
    parse_request,
    parse_status,
    tokens,
    written,
)

GET = b"GET / HTTP/1.1\r\nHost: a.example"


def test_a_request() -> None:
    head = b"POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nContent-Length:5 \r\nX:\t a  b \r\nEmpty:"
    request = parse_request(head)
    assert (request.method, request.target, request.minor) == (b"POST", b"/a?b=c", 1)
    assert request.length == 5
    assert request.fields[2:] == [(b"X", b"a  b"), (b"Empty", b"")]
    assert parse_request(GET).length == 0
    assert parse_request(GET + b"\r\nTransfer-Encoding: Chunked").length == -1
    assert parse_request("GET /ä HTTP/1.1\r\nHost: x".encode()).target == "/ä".encode()


@pytest.mark.parametrize(
    "extra",
    [
        b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",  # CL.TE
        b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",  # TE.CL
        b"\r\nContent-Length: 5\r\nContent-Length: 5",
        b"\r\nContent-Length: 5\r\nContent-Length: 6",
        b"\r\nContent-Length: 5, 5",
        b"\r\nContent-Length: +5",
        b"\r\nContent-Length: -5",
        b"\r\nContent-Length: 0x5",
        b"\r\nContent-Length: 5 5",
        b"\r\nContent-Length: ",
        b"\r\nContent-Length: 5_0",
        b"\r\nContent-Length: \xb2",
        b"\r\nContent-Length: " + b"9" * 19,
        b"\r\nContent_Length: 5",
        b"\r\nTransfer_Encoding: chunked",
        b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: identity",
        b"\r\nTransfer-Encoding: gzip, chunked",
        b"\r\nTransfer-Encoding: chunked, chunked",
        b"\r\nTransfer-Encoding: xchunked",
        b"\r\nTransfer-Encoding: identity",
        b'\r\nTransfer-Encoding: "chunked"',
        b"\r\nTransfer-Encoding: chunked;x=y",
        b"\r\nTransfer-Encoding: \x0bchunked",
        b"\r\nTransfer-Encoding:",
        b"\r\nTransfer-Encoding : chunked",
        b"\r\n Transfer-Encoding: chunked",
        b"\r\nX: a\r\n folded",
        b"\r\nX: a\r\n\tfolded",
        b"\r\nX: a\x00b",
        b"\r\nX: a\x7fb",
        b"\r\nX: a\x08b",
        b"\r\nno colon",
        b"\r\n: no name",
        b"\r\nX Y: blank in the name",
        b"\r\nX\x80: not ASCII",
        b"\r\n",
        b"\r\nX: y" * (MAX_FIELDS + 1),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(extra: bytes) -> None:
    with pytest.raises(Malformed):
        parse_request(GET + extra)


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET / HTTP/2.0", b"GET /",
        b"GET / HTTP/1.2", b"GET / http/1.1", b"GET\t/ HTTP/1.1", b"GET /a b HTTP/1.1", b"",
        b"G\x00T / HTTP/1.1", b"GET /\x01 HTTP/1.1", b"GET /#x HTTP/1.1", b"GET /\x7f HTTP/1.1",
        b"GET / HTTP/1.1x", b"/ HTTP/1.1", b"(GET) / HTTP/1.1", b"X" * 33 + b" / HTTP/1.1",
        b"GET / HTTP/01.1", b"GET / HTTP/1.1\x0b",
    ],
)  # fmt: skip
def test_request_lines(line: bytes) -> None:
    with pytest.raises(Malformed):
        parse_request(line + b"\r\nHost: a.example")


def test_chunks_in_http_1_0() -> None:
    with pytest.raises(Malformed, match="no chunked"):
        parse_request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked")


def test_status_lines() -> None:
    answer = parse_status(b"HTTP/1.1 200 All is\twell\r\nContent-Length: 3")
    assert (answer.status, answer.reason, answer.length) == (200, b"All is\twell", 3)
    assert parse_status(b"HTTP/1.0 404").length is None
    assert parse_status(b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked").length == -1
    for bad in (b"HTTP/2 200", b"HTTP/1.1 20", b"HTTP/1.1 2000", b"HTTP/1.1  200 OK", b"ICY 200 OK",
                b"HTTP/1.1 099 X", b"HTTP/1.1 200 a\x00"):  # fmt: skip
        with pytest.raises(Malformed):
            parse_status(bad)


def feed(data: bytes, size: int, limit: int = MAX_HEAD) -> tuple[bytes | None, bytes]:
    buffer = HeadBuffer(limit)
    for at in range(0, len(data), size):
        head, taken = buffer.feed(data[at : at + size])
        if head is not None:
            return head, data[at + taken :]
    return None, b""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_collecting_a_head(size: int) -> None:
    assert feed(GET + b"\r\n\r\nbody\nwith\rends", size) == (GET, b"body\nwith\rends")
    assert feed(GET + b"\r\n\r", size)[0] is None


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\r\n\r\n", b"\rX\r\n\r\n"])
def test_line_ends_are_cr_lf(size: int, end: bytes) -> None:
    with pytest.raises(Malformed, match="CR LF"):
        feed(GET + end + b"X: y\r\n\r\n", size)


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_heads_are_bounded(size: int) -> None:
    with pytest.raises(Malformed) as raised:
        feed(b"GET /" + b"a" * 3000, size, 1000)
    assert raised.value.status == 431
    with pytest.raises(Malformed):
        feed(b"a" * 1001 + b"\r\n\r\n", size, 1000)
    assert feed(b"a" * 1000 + b"\r\n\r\n", size, 1000)[0] == b"a" * 1000


def test_lists_of_words() -> None:
    fields = [(b"Connection", b"Keep-Alive, ,\tTE"), (b"X", b"y"), (b"connection", b"close")]
    assert tokens(fields, b"connection") == [b"keep-alive", b"te", b"close"]


NAMES = st.text(alphabet="ABCxyz-_!~09", min_size=1, max_size=8).map(str.encode)
VALUES = st.text(alphabet='ab: \t,;="\x80\xff', max_size=12).map(lambda t: t.encode("latin-1"))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_what_is_written_reads_the_same_for_others(fields: list[tuple[bytes, bytes]]) -> None:
    """h11 understands the heads that we write as we do."""
    lines = [b"%b: %b" % field for field in fields]
    mine = parse_fields(lines)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(written(b"GET /x HTTP/1.1", [(b"Host", b"a.example"), *mine]))
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert list(event.headers.raw_items())[1:] == mine


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for parse in (parse_request, parse_status):
        try:
            parse(data)
        except Malformed as error:
            assert error.reason and error.status in (400, 431, 501)


HOSTILE = st.lists(
    st.sampled_from(
        [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"Content-Length", b"Transfer-Encoding",
         b"chunked", b"5", b"0", b",", b"X", b"\x00", b"_", b";"]
    ),
    max_size=20,
).map(b"".join)  # fmt: skip


@given(HOSTILE)
def test_what_we_take_others_take_the_same(tail: bytes) -> None:
    """A head that we accept has the same framing for h11; what it refuses, we refuse too."""
    data = b"POST / HTTP/1.1\r\nHost: a.example\r\n" + tail + b"\r\n\r\n"
    buffer = HeadBuffer()
    try:
        head, _ = buffer.feed(data)
        assert head is not None
        request = parse_request(head)
    except Malformed:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head + b"\r\n\r\n")
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert list(event.headers) == [(name.lower(), value) for name, value in request.fields]
