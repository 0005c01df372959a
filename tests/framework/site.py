"""A site of the internet as it is: nginx with TLS and HTTP/2 before servers of events, WebSockets
and git, and a gRPC server of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
from cryptography.hazmat.primitives import serialization
from websockets.asyncio.server import ServerConnection, serve

from tests.framework.certificates import certificate, write
from tests.framework.internet import here
from tests.framework.upstreams import free_port, nginx_command, nginx_paths, program

EVENTS = 3


@dataclass
class Site:
    """Its name, its ports and the file of its authority."""

    host: str
    port: int
    grpc_port: int
    authority: Path
    repository: Path

    def url(self, path: str) -> str:
        """The address of a page."""
        return f"https://{self.host}:{self.port}{path}"


class Pages(BaseHTTPRequestHandler):
    """`/hello`, events of which each waits until the one before was seen, and git."""

    protocol_version = "HTTP/1.1"
    projects = Path()
    seen: dict[str, threading.Event]

    def do_GET(self) -> None:
        """A page."""
        path = self.path.partition("?")[0]
        if path == "/hello":
            self._answer(b"hello\n")
        elif path == "/events":
            self._events()
        elif path.startswith("/seen/"):
            self.seen[path.rpartition("/")[2]].set()
            self._answer(b"")
        else:
            self._git()

    def do_POST(self) -> None:
        """What git sends."""
        self._git()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written to the test's output."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        """Whoever keeps an event back waits for ever: the next one comes when it was seen."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(EVENTS):
            self.wfile.write(f"data: {number}\n\n".encode())
            self.wfile.flush()
            if not self.seen[str(number)].wait(180):
                return

    def _git(self) -> None:
        path, _, query = self.path.removeprefix("/git").partition("?")
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.projects),
            "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1", "REMOTE_USER": "guest",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.projects),
        }  # fmt: skip
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=True
        )
        head, _, said = done.stdout.partition(b"\r\n\r\n")
        fields = [line.decode().split(": ", 1) for line in head.split(b"\r\n")]
        status = next((value for name, value in fields if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in fields:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _chunks(self) -> bytes:
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole


@contextmanager
def _pages(folder: Path) -> Iterator[int]:
    made: type[Pages] = type(
        "Made", (Pages,),
        {"projects": folder, "seen": {str(n): threading.Event() for n in range(EVENTS)}},
    )  # fmt: skip
    with ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _calls(address: str, chain: bytes, key: bytes) -> Iterator[int]:
    pool = ThreadPoolExecutor(4)
    # `/test.Echo/Shout`: each message comes back in capitals, at once.
    shout = grpc.stream_stream_rpc_method_handler(
        lambda messages, context: (message.upper() for message in messages)
    )
    echo = grpc.method_handlers_generic_handler("test.Echo", {"Shout": shout})
    server = grpc.server(pool, handlers=[echo])
    port: int = server.add_secure_port(f"{address}:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
        pool.shutdown()


async def _shout(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message.upper() if isinstance(message, str) else message[::-1])


def _repository(folder: Path) -> Path:
    """`project.git`, with one file in it, that may be pushed to."""
    quiet = {
        **{name: f"{name}@example.com" for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL")},
        "GIT_AUTHOR_NAME": "a", "GIT_COMMITTER_NAME": "a", "PATH": os.environ["PATH"],
        "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
    }  # fmt: skip

    def git(*words: str) -> None:
        subprocess.run(["git", *words], check=True, env=quiet, cwd=folder, capture_output=True)

    git("init", "-q", "-b", "main", "work")
    (folder / "work" / "file").write_text("of the repository\n")
    git("-C", "work", "add", "file")
    git("-C", "work", "commit", "-q", "-m", "one")
    git("clone", "-q", "--bare", "work", "project.git")
    git("-C", "project.git", "config", "http.receivepack", "true")
    return folder / "project.git"


_NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
{paths}
access_log off; client_max_body_size 0;
server {{
    listen {address}:{port} ssl http2;
    ssl_certificate {folder}/site.pem; ssl_certificate_key {folder}/site.key;
    location / {{
        proxy_pass http://127.0.0.1:{pages}; proxy_http_version 1.1; proxy_buffering off;
        proxy_read_timeout 300; proxy_set_header Connection "";
    }}
    location /socket {{
        proxy_pass http://127.0.0.1:{sockets}; proxy_http_version 1.1; proxy_read_timeout 300;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
}}
}}"""


@asynccontextmanager
async def site(folder: Path, host: str, address: str) -> AsyncIterator[Site]:
    """One that is reached by `host`, whose address of the internet is `address`."""
    folder.mkdir()
    root = certificate("Internet", authority=True)
    leaf = certificate(host, root)
    write(folder, "site", leaf)
    authority = folder / "ca.pem"
    authority.write_bytes(root[0].public_bytes(serialization.Encoding.PEM))
    bound = here(address)
    chain, key = ((folder / f"site.{kind}").read_bytes() for kind in ("pem", "key"))
    async with contextlib.AsyncExitStack() as stack:
        pages = stack.enter_context(_pages(folder))
        calls = stack.enter_context(_calls(bound, chain, key))
        sockets = await stack.enter_async_context(
            serve(_shout, "127.0.0.1", 0, max_size=None, ping_interval=None)
        )
        port = free_port(bound)
        (folder / "nginx.conf").write_text(
            _NGINX.format(
                folder=folder, address=bound, port=port, pages=pages,
                sockets=next(iter(sockets.sockets)).getsockname()[1],
                paths=nginx_paths(folder),
            )
        )  # fmt: skip
        await stack.enter_async_context(program(*nginx_command(folder), at=(bound, port)))
        yield Site(host, port, calls, authority, _repository(folder))


@contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """An address that answers no connection at all: its queue is full and nobody takes from it."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind((here(address), port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((here(address), port))
        yield


def build_go_client(folder: Path, go: str) -> Path:
    """The static program of `goclient`."""
    target = folder / "client"
    source = Path(__file__).with_name("goclient")
    subprocess.run(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", target, "."], cwd=source, check=True,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"},
    )  # fmt: skip
    return target


def package_folder(name: str) -> Path:
    """Where a pure Python package of this environment is, to be put into a guest."""
    module = __import__(name)
    return Path(str(module.__file__)).parent
