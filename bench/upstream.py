"""A server for the benchmarks of the network, in a process of its own.

python -m bench.upstream    prints one line of JSON: its ports and its authority; ends with stdin

On both ports a connection says lines: `down N` is answered with N bytes, `up N` is followed by N
bytes and answered with a line, `ping` is answered with a line. With TLS the same is said in
HTTP/1.1: `GET /N`, and `POST /` with a body.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

from sandlot.network.tls.authority import Authority

HOST = "host.sandlot.internal"
PIECE = bytes(256 * 1024)


def _send(file: BinaryIO, size: int) -> None:
    while size > 0:
        size -= file.write(PIECE[:size])


def _take(file: BinaryIO, size: int) -> None:
    while size > 0 and (data := file.read(min(size, len(PIECE)))):
        size -= len(data)


def _plain(reading: BinaryIO, writing: BinaryIO) -> None:
    for line in reading:
        words = line.split()
        if words[0] == b"down":
            _send(writing, int(words[1]))
        else:
            if words[0] == b"up":
                _take(reading, int(words[1]))
            writing.write(b"done\n")
        writing.flush()


def _http(reading: BinaryIO, writing: BinaryIO) -> None:
    for line in reading:
        method, path, _ = line.split()
        length = 0
        for field in iter(reading.readline, b"\r\n"):
            if field.lower().startswith(b"content-length:"):
                length = int(field.split(b":")[1])
        size = int(path[1:]) if method == b"GET" else 2
        _take(reading, length)
        head = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Length: %d\r\n\r\n" % size
        if size < len(PIECE):
            writing.write(head + PIECE[:size])
        else:
            writing.write(head)
            _send(writing, size)
        writing.flush()


def _serve(
    sock: socket.socket, context: ssl.SSLContext | None, speak: Callable[[BinaryIO, BinaryIO], None]
) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError, ValueError):
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        with sock, sock.makefile("rb") as reading, sock.makefile("wb") as writing:
            speak(reading, writing)


def _listen(context: ssl.SSLContext | None, speak: Callable[[BinaryIO, BinaryIO], None]) -> int:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=_serve, args=(sock, context, speak), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def main() -> None:
    """Serve until the standard input ends."""
    threading.stack_size(256 * 1024)
    authority = Authority("upstream")
    context = authority.server_context(HOST, ["http/1.1"])
    said = {
        "plain": _listen(None, _plain), "tls": _listen(context, _http),
        "other": _listen(context, _http),
        "authority": authority.certificate_pem.decode(),
    }  # fmt: skip
    print(json.dumps(said), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
