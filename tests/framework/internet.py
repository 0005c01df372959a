"""An internet on loopback: what the gateway lets through is led to servers of the test.

Every address outside is 127.x.y.z here, with its own last three bytes, so that nothing leaves this
machine whatever becomes of a test. What the gateway's last step is asked for is noted, and apart
from it everything that this process connects or sends to.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandlot.network import datagrams, upstream
from sandlot.network.flow import Address
from sandlot.network.router import ROUTERS


class Internet:
    """What was reached: `led` are addresses that the gateway went to, `touched` those of sockets."""

    def __init__(self) -> None:
        self.led: list[str] = []
        self.touched: list[str] = []

    def lead(self, address: Address) -> str:
        """In the place of `real_target`."""
        self.led.append(str(address))
        if address in ROUTERS:
            return "127.0.0.1" if address.version == 4 else "::1"
        return here(str(address))

    def watch(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit hook. What is not on this machine is not reached at all."""
        if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            return
        target = arguments[1]
        if not isinstance(target, tuple) or not isinstance(target[0], str):
            return
        try:
            address = ipaddress.ip_address(target[0].partition("%")[0])
        except ValueError:
            return
        if event == "socket.connect" and target[1] == 9:
            return  # `upstream.is_own` asks the kernel which way leads there, and sends nothing
        if not address.is_loopback:
            self.touched.append(str(address))
            raise PermissionError(f"a test reaches for {address}")


def here(address: str) -> str:
    """Where an address of the internet is on this machine."""
    return str(ipaddress.IPv4Address((127 << 24) + (int(ipaddress.ip_address(address)) & 0xFFFFFF)))


_watching: list[Internet] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    for each in _watching:
        each.watch(event, arguments)


_hooked: list[bool] = []


@contextmanager
def internet() -> Iterator[Internet]:
    """While it is open, the gateways of this process reach this internet and no other."""
    if not _hooked:  # one that was added stays for ever
        sys.addaudithook(_hook)
        _hooked.append(True)
    made = Internet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream, "real_target", made.lead)
        patch.setattr(datagrams, "real_target", made.lead)
        _watching.append(made)
        try:
            yield made
        finally:
            _watching.remove(made)
