"""A server of bearer tokens for the test's registry: http.server in a thread, keys by openssl."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SERVICE, ISSUER = "registry of a test", "tokens of a test"
IDENTITY = "an-identity-token"


@dataclass
class TokenServer:
    """Gives tokens to `user:password`, to IDENTITY, and to nobody for `public/…`."""

    folder: Path
    user: str = "sandlot"
    password: str = "secret"
    asked: list[str] = field(default_factory=list)
    address: str = ""

    @property
    def certificate(self) -> Path:
        return self.folder / "tokens.pem"

    def auth(self) -> str:
        """The `auth` section of a registry's settings."""
        return (
            f"auth: {{token: {{realm: '{self.address}/token', service: '{SERVICE}',"
            f" issuer: '{ISSUER}', rootcertbundle: {self.certificate}}}}}"
        )

    def token(self, scopes: list[str], subject: str) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            if subject or name.startswith("public/"):
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": subject, "aud": SERVICE, "exp": now + 300, "nbf": now - 60,
            "iat": now, "jti": secrets.token_hex(8), "access": access,
        }  # fmt: skip
        pem = self.certificate.read_text().split("-----")[2]
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.folder / "tokens.key")],
            input=signed.encode(), capture_output=True, check=True,
        ).stdout  # fmt: skip
        return f"{signed}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.contextmanager
def token_server(folder: Path) -> Iterator[TokenServer]:
    """Run one on a free port of loopback."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tokens.key",
         "-out", "tokens.pem", "-days", "2", "-subj", "/CN=tokens of a test"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    made = TokenServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            shown = self.headers.get("Authorization", "")
            right = base64.b64encode(f"{made.user}:{made.password}".encode()).decode()
            if shown and shown != f"Basic {right}":
                self._reply(401, {"details": "wrong password"})
                return
            self._token(query, made.user if shown else "")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            form = urllib.parse.parse_qs(body)
            if form.get("refresh_token") != [IDENTITY]:
                self._reply(401, {"details": "wrong token"})
                return
            self._token(form, made.user)

        def _token(self, query: dict[str, list[str]], subject: str) -> None:
            made.asked.append(f"{self.command} {' '.join(query.get('scope', []))}")
            token = made.token(query.get("scope", []), subject)
            name = "access_token" if self.command == "POST" else "token"
            self._reply(200, {name: token, "expires_in": 300})

        def _reply(self, status: int, data: object) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
