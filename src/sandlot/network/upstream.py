"""Connections of the host on behalf of a guest, and the host's errors in the guest's numbers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from ipaddress import ip_address

from sandlot.network.flow import Address
from sandlot.network.router import ROUTERS

PATIENCE = 120.0  # seconds; the guest's own patience usually ends before

SPARE_DESCRIPTORS = 64

# Linux's numbers, whatever the host is. Source: include/uapi/asm-generic/errno.h.
DENIED = 13
NETWORK_UNREACHABLE = 101
TIMED_OUT = 110
REFUSED = 111
HOST_UNREACHABLE = 113
_NUMBERS = {
    errno.ECONNREFUSED: REFUSED, errno.ENETUNREACH: NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: HOST_UNREACHABLE, errno.ETIMEDOUT: TIMED_OUT,
    errno.EAFNOSUPPORT: NETWORK_UNREACHABLE, errno.EADDRNOTAVAIL: NETWORK_UNREACHABLE,
    errno.ENETDOWN: NETWORK_UNREACHABLE, errno.EHOSTDOWN: HOST_UNREACHABLE,
    errno.ECONNRESET: REFUSED,
}  # fmt: skip


def guest_errno(error: OSError) -> int:
    """What a guest's connect(2) should end with."""
    if isinstance(error, TimeoutError):
        return TIMED_OUT
    return _NUMBERS.get(error.errno or 0, HOST_UNREACHABLE)


def real_target(address: Address) -> str:
    """Where an address leads from the host: what stands for the host is its loopback."""
    if address in ROUTERS:
        return "127.0.0.1" if address.version == 4 else "::1"
    return str(address)


def is_own(address: Address) -> bool:
    """Whether an address is one of the host's, now: it then speaks to it from the same one.

    Nothing is sent. Addresses come and go while a sandbox runs.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((str(address), 9))
            return ip_address(sock.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False  # no way leads there


def new_socket(target: str, kind: socket.SocketKind) -> socket.socket:
    """One towards a target, not blocking.

    Raises:
        OSError: this process is about to have no descriptors left. The last ones are for its own
            needs, such as the door by which its user stops the sandbox.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, kind)
    # The kernel gives the lowest that is free.
    if sock.fileno() >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS:
        sock.close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    sock.setblocking(False)
    return sock


async def dial(address: Address, port: int) -> socket.socket:
    """A TCP connection, not blocking. What stands for the host is its loopback, of either family:
    many services listen on one only.

    Raises:
        OSError: it does not stand; TimeoutError after two minutes.
    """
    first = real_target(address)
    try:
        return await _connected(first, port)
    except OSError:
        if address in ROUTERS:
            with contextlib.suppress(OSError):
                return await _connected("127.0.0.1" if first == "::1" else "::1", port)
        raise


async def _connected(target: str, port: int) -> socket.socket:
    sock = new_socket(target, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, (target, port))
    except BaseException:
        sock.close()
        raise
    return sock
