"""What a program does with the network, for the benchmarks: inside a guest, or without a sandbox.

visitor.py WHAT HOST PORT [NUMBER ...]      prints one line of JSON

Only the standard library: a guest runs this file as it is. `bench/guest_end.py` does the same at
the guest's end of a channel.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

NAME = "host.sandlot.internal"
AUTHORITY = "/tmp/upstream.pem"
"""In a guest: the server's own authority, for what is not looked into."""


def _connect(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), 120)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _take(sock: socket.socket, size: int) -> None:
    into = bytearray(256 * 1024)
    while size > 0 and (count := sock.recv_into(into, min(size, len(into)))):
        size -= count
    assert size == 0, f"{size} bytes are missing"


def _moved(host: str, port: int, streams: int, size: int, down: bool) -> float:
    """MB/s of some streams together, each of its part of the size."""
    socks = [_connect(host, port) for _ in range(streams)]
    part = size // streams
    piece = bytes(256 * 1024)

    def move(sock: socket.socket) -> None:
        if down:
            sock.sendall(b"down %d\n" % part)
            _take(sock, part)
            return
        sock.sendall(b"up %d\n" % part)
        for at in range(0, part, len(piece)):
            sock.sendall(piece[: part - at])
        assert sock.recv(10) == b"done\n"

    threads = [threading.Thread(target=move, args=(sock,)) for sock in socks]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for sock in socks:
        sock.close()
    return part * streams / 1e6 / took


def down(host: str, port: int, streams: int, size: int) -> float:
    """From the server."""
    return _moved(host, port, streams, size, True)


def up(host: str, port: int, streams: int, size: int) -> float:
    """To the server."""
    return _moved(host, port, streams, size, False)


def connect(host: str, port: int, times: int) -> list[float]:
    """Milliseconds of connect(2)."""
    values = []
    for _ in range(times):
        began = time.perf_counter()
        sock = _connect(host, port)
        values.append((time.perf_counter() - began) * 1e3)
        sock.sendall(b"ping\n")
        assert sock.recv(10) == b"done\n"
        sock.close()
    return values


def connect_own(host: str, port: int, times: int) -> list[float]:
    """The same to a program on the same machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        values = []
        for _ in range(times):
            began = time.perf_counter()
            sock = _connect(*listener.getsockname()[:2])
            values.append((time.perf_counter() - began) * 1e3)
            listener.accept()[0].close()
            sock.close()
    return values


def _shaken(host: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(_connect(host, port), server_hostname=NAME)


def _head(method: str, path: str, fields: str = "") -> bytes:
    return (
        f"{method} /{path} HTTP/1.1\r\nHost: {NAME}:{sys.argv[3]}\r\nAccept: */*\r\n"
        f"User-Agent: bench\r\nAuthorization: Bearer {KEY}\r\n{fields}\r\n"
    ).encode()


def _answer(sock: socket.socket) -> int:
    """Read an answer's head; how many bytes of its body are still to come."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        assert more, "the connection ended"
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b" 200 " in head, head
    return int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) - len(rest)


def tls_connect(host: str, port: int, times: int) -> list[float]:
    """Milliseconds of connect(2) and the TLS handshake."""
    context = ssl.create_default_context()
    if Path(AUTHORITY).exists():
        context.load_verify_locations(AUTHORITY)
    values = []
    for _ in range(times):
        began = time.perf_counter()
        sock = _shaken(host, port, context)
        values.append((time.perf_counter() - began) * 1e3)
        sock.sendall(_head("GET", "2"))
        _take(sock, _answer(sock))
        sock.close()
    return values


def tls_down(host: str, port: int, size: int) -> float:
    """MB/s of an answer."""
    sock = _shaken(host, port, ssl.create_default_context())
    began = time.perf_counter()
    sock.sendall(_head("GET", str(size)))
    _take(sock, _answer(sock))
    return size / 1e6 / (time.perf_counter() - began)


def tls_up(host: str, port: int, size: int) -> float:
    """MB/s of a request."""
    sock = _shaken(host, port, ssl.create_default_context())
    piece = bytes(256 * 1024)
    began = time.perf_counter()
    sock.sendall(_head("POST", "", f"Content-Length: {size}\r\n"))
    for at in range(0, size, len(piece)):
        sock.sendall(piece[: size - at])
    _take(sock, _answer(sock))
    return size / 1e6 / (time.perf_counter() - began)


def requests(host: str, port: int, count: int) -> float:
    """Requests each second, one after the other on one connection."""
    sock = _shaken(host, port, ssl.create_default_context())
    for number in range(count + 5):
        if number == 5:
            began = time.perf_counter()
        sock.sendall(_head("GET", "2000"))
        _take(sock, _answer(sock))
    return count / (time.perf_counter() - began)


def idle(host: str, port: int, count: int) -> None:
    """Hold connections until a line comes."""
    held = [_connect(host, port) for _ in range(count)]
    for sock in held:
        sock.sendall(b"ping\n")
        assert sock.recv(10) == b"done\n"
    print(json.dumps(len(held)), flush=True)
    sys.stdin.readline()


WORK: dict[str, Callable[..., object]] = {
    "down": down, "up": up, "connect": connect, "connect-own": connect_own,
    "tls-connect": tls_connect, "tls-down": tls_down, "tls-up": tls_up, "requests": requests,
    "idle": idle,
}  # fmt: skip

if __name__ == "__main__":
    KEY = os.environ.get("API_KEY", "none")
    print(json.dumps(WORK[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))), flush=True)
