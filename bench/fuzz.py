"""Coverage-guided fuzzing of the parsers of network bytes.

python -m bench.fuzz TARGET [--seconds N]     needs `pip install atheris`

What was found is kept in the temporary folder for the next run; inputs that break a target are
written to the working folder, as libFuzzer does.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandlot.network.policy import Policy

ADDRESS = IPv4Address("93.184.216.34")


def dns_query(data: bytes) -> None:
    """What the guest asks: read, answered, and the answer read again."""
    from sandlot.network.dns import message

    query = message.parse_query(data)
    if isinstance(query, message.Query):
        wire = message.answer(query, message.Code.NXDOMAIN, error=(18, "no"))
        assert message.parse_response(wire).labels == query.labels
    elif query is not None:
        message.answer(query, query.code)


def dns_response(data: bytes) -> None:
    """What a resolver says: whatever it is, only what may be answered is pinned."""
    from sandlot.network.dns import message, service

    one = service.NameService(_policy(), hostname="box", addresses=[], randbits=lambda bits: 0)
    asked = one.ask(message.question(7, (b"example", b"com"), data[0] if data else 1), 0)
    if not isinstance(asked, service.Ask):
        return
    reply = one.answer(asked, b"\0\0" + data[1:], 0)
    if isinstance(reply, service.Reply):
        message.parse_response(reply.wire)
        assert reply.lookup is not None
        assert all(one.policy.may_answer(each).allowed for each in reply.lookup.addresses)
        assert len(one.pins) <= len(reply.lookup.addresses)


@cache
def _policy() -> Policy:
    from sandlot.network.policy import Network

    return Network().compile()


def hello(data: bytes) -> None:
    """A client's first bytes: the same outcome in one piece and in several."""
    from sandlot.network.tls.hello import HelloReader

    whole, pieces = HelloReader(), HelloReader()
    found = whole.feed(data)
    step = 1 + max(data[-1:] + bytes([len(data) // 40 % 256]))
    for at in range(0, len(data), step):
        pieces.feed(data[at : at + step])
    assert type(pieces.feed(b"")) is type(found)


def rule(data: bytes) -> None:
    """A rule is refused with a hint, or spelled in one way."""
    from sandlot.errors import ConfigError
    from sandlot.network.rules import parse_rule

    text = data.decode("utf-8", "surrogateescape")
    try:
        parsed = parse_rule(text)
    except ConfigError as error:
        assert error.hint
        return
    assert parse_rule(str(parsed)) == parsed


def http_request(data: bytes) -> None:
    """A request's head."""
    from sandlot.network.http import head

    try:
        head.parse_request(data)
    except head.Malformed:
        pass


def http_status(data: bytes) -> None:
    """An answer's head."""
    from sandlot.network.http import head

    try:
        head.parse_status(data)
    except head.Malformed:
        pass


def _seeds(name: str) -> list[bytes]:
    import ssl

    from sandlot.network.dns import message

    asked = (b"example", b"com")
    if name == "dns-query":
        return [message.question(7, asked, 1), message.question(7, asked, 16, edns=False)]
    if name == "dns-response":
        query = message.Query(0, asked, 1)
        records = [
            message.Record(asked, 5, 60, (b"b", b"net")),
            message.Record((b"b", b"net"), 1, 60, ADDRESS),
        ]
        return [b"\1" + message.answer(query, message.Code.NOERROR, records)[2:]]
    if name == "hello":
        outgoing = ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="example.com")
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return [outgoing.read()]
    if name == "rule":
        return [b"*.example.com:443/udp", b"[2001:db8::/32]:80-90", b"10.0.0.0/8:5432", b"host"]
    if name == "http-request":
        return [b"POST /a?b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\n"]
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "dns-query": dns_query,
    "dns-response": dns_response,
    "hello": hello,
    "rule": rule,
    "http-request": http_request,
    "http-status": http_status,
}


def main() -> None:
    """Run one target until its time is over, or it breaks."""
    parser = argparse.ArgumentParser(prog="bench.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("this needs a coverage-guided fuzzer: pip install atheris")
    with atheris.instrument_imports(include=["sandlot"]):
        for name in ("dns.service", "http.head", "tls.hello"):
            importlib.import_module(f"sandlot.network.{name}")
    folder = Path(tempfile.gettempdir()) / "sandlot-fuzz" / arguments.target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(arguments.target)):
        (folder / f"seed-{number}").write_bytes(seed)
    words = [sys.argv[0], f"-max_total_time={arguments.seconds}", "-max_len=2048", str(folder)]
    atheris.Setup(words, TARGETS[arguments.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
