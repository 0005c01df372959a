"""nginx and dnsmasq, as a host of the internet and as the resolver behind the gateway."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tests.framework.certificates import write, zoo
from tests.framework.internet import here


def free_port(address: str) -> int:
    """One that nobody listens on, TCP or UDP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((address, 0))
        port: int = tcp.getsockname()[1]
        udp.bind((address, port))
        return port


async def listening(process: asyncio.subprocess.Process, address: str, port: int) -> None:
    """Wait until a server answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection(address, port)
            except OSError:
                assert process.returncode is None, "the server has ended"
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


@asynccontextmanager
async def program(*command: str, at: tuple[str, int]) -> AsyncIterator[None]:
    """A server while the block runs."""
    path = f"{shutil.which(command[0]) or '/usr/sbin/' + command[0]}"
    process = await asyncio.create_subprocess_exec(path, *command[1:])
    try:
        await listening(process, *at)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def nginx_command(folder: Path) -> list[str]:
    """An nginx that reads `nginx.conf` of a folder and writes nowhere else."""
    return ["nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log", "-p", str(folder)]


def nginx_paths(folder: Path) -> str:
    """The lines of its configuration that keep its temporary files there."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)


@dataclass
class Nginx:
    """Its ports, by certificate, and where it writes what it was told."""

    ports: dict[str, int]
    authority: Path
    log: Path


@asynccontextmanager
async def nginx(folder: Path, host: str, address: str, value: str) -> AsyncIterator[Nginx]:
    """A host of the internet that says whether it was told `Bearer VALUE`, never the value."""
    root, animals = zoo(host)
    (folder / "ca.pem").write_bytes(root)
    servers, ports, bound = [], {}, here(address)
    leaf = animals["good"][0].public_bytes(serialization.Encoding.PEM)
    for name, made in animals.items():
        write(folder, name, made, leaf if name == "signed-by-a-leaf" else b"")
        ports[name] = free_port(bound)
        servers.append(
            f"""server {{
    listen {bound}:{ports[name]} ssl http2;
    ssl_certificate {folder}/{name}.pem; ssl_certificate_key {folder}/{name}.key;
    ssl_ciphers DEFAULT@SECLEVEL=0;
    location / {{
        default_type text/plain;
        if ($http_authorization = "Bearer {value}") {{ return 200 "value $server_protocol\\n"; }}
        return 200 "nothing $server_protocol\\n";
    }}
}}"""
        )
    paths = nginx_paths(folder)
    (folder / "nginx.conf").write_text(
        f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
{paths}
log_format all '$server_port $server_protocol $request_uri $http_authorization';
access_log {folder}/access.log all;
{chr(10).join(servers)}
}}"""
    )
    async with program(*nginx_command(folder), at=(bound, ports["good"])):
        yield Nginx(ports, folder / "ca.pem", folder / "access.log")


@asynccontextmanager
async def dnsmasq(names: dict[str, str]) -> AsyncIterator[str]:
    """A resolver that knows these names; as `dns=` takes it."""
    port = free_port("127.0.0.1")
    command = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
        f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=",
        "--user=", "--log-facility=-",
        *(f"--address=/{name}/{address}" for name, address in names.items()),
    ]  # fmt: skip
    async with program(*command, at=("127.0.0.1", port)):
        yield f"127.0.0.1:{port}"
