"""The pure layers of the network gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from bench.measure import Row, row
from sandlot.network.flow import Flow
from sandlot.network.policy import Network

RULES = 10_000


def _microseconds(call: Callable[[], object], times: int = 2000, samples: int = 15) -> list[float]:
    """The cost of one call, in microseconds, several times."""
    values = []
    for _ in range(samples):
        began = time.perf_counter()
        for _ in range(times):
            call()
        values.append((time.perf_counter() - began) / times * 1e6)
    return values


def big_policy() -> Network:
    """Rules of every form, on many names, prefix lengths and ports."""
    share = RULES // 10
    allow = [f"h{i}.example.com" for i in range(4 * share)]
    allow += [f"*.s{i}.example.net:443" for i in range(2 * share)]
    allow += [f"many.example.org:{port}" for port in range(1, share + 1)]
    deny = [f"{IPv4Address(0x0B000000 + (i << 12))}/{20 + i % 13}" for i in range(2 * share)]
    deny += [f"{IPv6Address((0x2600 << 112) + (i << 80))}/{48 + i % 80}" for i in range(share)]
    return Network(allow, deny)


async def policy() -> list[Row]:
    """Decisions by 10,000 rules."""
    compiled = big_policy().compile()
    v4, v6 = IPv4Address("93.184.216.34"), IPv6Address("2a00:1450:4001::200e")
    long = ".".join(["a"] * 100) + ".s9.example.net"
    flows = {
        "allowed by name": Flow("tcp", v4, 443, "h77.example.com"),
        "a long name, IPv6, refused": Flow("udp", v6, 80, long),
        "one of 1,000 rules of one name": Flow("tcp", v4, 900, "many.example.org"),
    }
    calls: dict[str, Callable[[], object]] = {
        what: partial(compiled.decide, flow) for what, flow in flows.items()
    }
    calls["may a name be looked up"] = partial(compiled.may_resolve, "x.s9.example.net")
    return [
        row(f"policy of {RULES:,} rules: {what}", "<= 20 us", _microseconds(call), "us")
        for what, call in calls.items()
    ]


BENCHES = {"policy": policy}
