"""A guest's resolver library and an upstream resolver, both by dnspython."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from sandlot.network.dns.service import Ask, NameService, Reply
from sandlot.network.policy import Network

OWN = ip_address("10.64.0.2")
HOST = ip_address("10.64.0.1")
PUBLIC = "93.184.216.34"
OTHER = "93.184.216.35"


def service(network: Network | None = None, **options: Any) -> NameService:
    policy = (network or Network(allow=["example.com", "*.example.com:443"])).compile([HOST])
    return NameService(
        policy, hostname="Box", addresses=[OWN], host_addresses=[HOST],
        randbits=random.Random(1).getrandbits, **options,
    )  # fmt: skip


def asking(name: str, type_: str = "A", **options: Any) -> bytes:
    options.setdefault("use_edns", 0)
    return dns.message.make_query(name, type_, id=77, **options).to_wire()


def ask(one: NameService, name: str, type_: str = "A", now: float = 0, **options: Any) -> Ask:
    found = one.ask(asking(name, type_, **options), now)
    assert isinstance(found, Ask), found
    return found


def read(reply: Reply | Ask | None) -> dns.message.Message:
    assert isinstance(reply, Reply), reply
    return dns.message.from_wire(reply.wire)


def upstream(question: Ask, *records: str, code: int = 0, flags: int = 0) -> bytes:
    """What a resolver says: `NAME TTL TYPE DATA` each."""
    response = dns.message.make_response(dns.message.from_wire(question.wire))
    response.flags |= dns.flags.RA | flags
    response.set_rcode(dns.rcode.Rcode(code))
    for record in records:
        name, ttl, type_, data = record.split(" ", 3)
        rrset = dns.rrset.from_text(name + ".", int(ttl), "IN", type_, data)
        response.answer.append(rrset)
    return response.to_wire()


def said(message: dns.message.Message) -> list[str]:
    return [str(rrset) for rrset in message.answer]
