"""The name service of one sandbox: bytes of a question in, bytes of an answer or a question out.

No sockets and no clock. The caller sends what `ask` hands out as an `Ask` to a resolver, brings what
comes back to `answer`, and tells `fail` when nothing does. Only names that the policy allows for some
port are ever asked of anybody; what comes back is read, judged and written anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from sandlot.network.dns.message import (
    Code,
    Fault,
    Labels,
    Malformed,
    Query,
    Record,
    Response,
    Type,
    answer,
    fold,
    host_name,
    name_in,
    parse_query,
    parse_response,
    question,
    to_labels,
)
from sandlot.network.dns.pins import Pins
from sandlot.network.flow import Address, Decision
from sandlot.network.names import normalise
from sandlot.network.policy import Policy
from sandlot.network.rules import HOST_NAME

SHORTEST_TTL = 30  # seconds; less is for those who change an address between check and use
LONGEST_TTL = 3600
OWN_TTL = 10
LONGEST_CHAIN = 16
MOST_ADDRESSES = 64  # of one answer; the rest is left out
MOST_WAITING = 256
MOST_STRAYS = 16  # datagrams that do not fit a question until it is asked over TCP

_PROHIBITED, _FILTERED, _UNSUPPORTED, _INVALID = 18, 17, 21, 24  # RFC 8914
_LOCALHOST: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_CARRIED = (Type.A, Type.AAAA, Type.CNAME, Type.MX, Type.TXT, Type.SRV)
_NOWHERE = ("onion", "invalid")  # by their definition not for the DNS
_OWN = Decision(True, "built-in names", "the sandbox's own name")


@dataclass(frozen=True)
class Lookup:
    """What was asked, and what became of it. `addresses` are the ones that were pinned."""

    name: str
    type: str
    decision: Decision
    code: Code = Code.NOERROR
    addresses: tuple[Address, ...] = ()
    problem: str = ""
    """Why there is no answer, though it was allowed to ask."""


@dataclass(frozen=True)
class Reply:
    """Bytes for the guest. `lookup` is there when the question could be read."""

    wire: bytes
    lookup: Lookup | None = None


@dataclass(frozen=True)
class Ask:
    """A question for the resolver: `wire`, over TCP (with its two bytes of length to add) or UDP."""

    name: str
    type: str
    id: int
    wire: bytes
    over_tcp: bool
    edns: bool
    token: int
    labels: Labels
    query: Query
    from_tcp: bool
    decision: Decision


class NameService:
    """Answers the guest's questions.

    Args:
        policy: what may be asked for; it may be replaced at any time.
        hostname: the sandbox's own name.
        addresses: its own addresses.
        host_addresses: what stands for the host in the guest.
        pins: the pins that it writes; new ones otherwise.
        randbits: where the unguessable bits come from.
    """

    def __init__(
        self, policy: Policy, *, hostname: str, addresses: Iterable[Address],
        host_addresses: Iterable[Address] = (), pins: Pins | None = None,
        randbits: Callable[[int], int] = secrets.randbits,
    ) -> None:  # fmt: skip
        self.policy = policy
        self.pins = pins if pins is not None else Pins()
        self._own: dict[str, tuple[Address, ...]] = {
            _spelled(hostname): tuple(addresses),
            HOST_NAME: tuple(host_addresses),
            "localhost": _LOCALHOST,
        }
        self.peers: Callable[[str], Address | None] = lambda name: None
        """The address of another sandbox that is reached by a name."""
        self._randbits = randbits
        self._waiting: dict[int, int] = {}  # token -> datagrams that did not fit
        self._last = 0

    @property
    def waiting(self) -> int:
        """How many questions were handed out and neither answered nor failed."""
        return len(self._waiting)

    def ask(self, data: bytes, now: float, *, tcp: bool = False) -> Reply | Ask | None:
        """A question of the guest.

        Args:
            data: its bytes, without the length that TCP puts before them.
            now: the time, in seconds.
            tcp: whether it came over TCP.

        Returns:
            What to send back, what to ask upstream, or None when nothing is to be done.
        """
        query = parse_query(data)
        if query is None:
            return None
        if isinstance(query, Fault):
            return Reply(answer(query, query.code, tcp=tcp))
        name = host_name(query.labels)
        if name is None:
            decision = Decision(False, "built-in names", "no host can be called so")
            text = b".".join(query.labels).decode("ascii", "backslashreplace")
            text = text if text.isprintable() else ascii(text)[1:-1]  # records are shown
            return self._refuse(query, text, decision, tcp)
        own = self._by_ourselves(query, name, now, tcp)
        if own is not None:
            return own
        decision = self.policy.may_resolve(name)
        if not decision.allowed:
            return self._refuse(query, name, decision, tcp)
        if query.type in (Type.AXFR, Type.IXFR):
            return self._say(
                query, name, Code.REFUSED, decision, tcp, (_UNSUPPORTED, "no transfers")
            )
        if query.type not in _CARRIED:
            # HTTPS and SVCB too: their address hints and ECH keys would lead around what is judged
            # here, and every client goes on with A and AAAA.
            unsupported = (_UNSUPPORTED, "this type is not passed on")
            return self._say(query, name, Code.NOERROR, decision, tcp, unsupported)
        if len(self._waiting) >= MOST_WAITING:
            return self._say(query, name, Code.SERVFAIL, decision, tcp, (_INVALID, "too many"))
        self._last += 1
        self._waiting[self._last] = 0
        return self._asked(query, name, self._last, decision, tcp, over_tcp=False, edns=True)

    def answer(self, ask: Ask, data: bytes, now: float) -> Reply | Ask | None:
        """What came back from the resolver for a question.

        Returns:
            What to send the guest; the same question, to be asked in another way; or None when the
            bytes are no answer to it, and the right one may still come.
        """
        if ask.token not in self._waiting:
            return None
        try:
            response = parse_response(data)
        except Malformed:
            # Whoever knows the id is taken at his word; others are not heard.
            mine = data[:2] == ask.id.to_bytes(2, "big")
            return self._stray(ask) if not mine else self._broken(ask, "the answer is malformed")
        fits = response.id == ask.id and response.type == ask.query.type
        if not fits or fold(response.labels) != fold(ask.labels):
            return self._stray(ask)
        if not ask.over_tcp and (response.truncated or response.labels != ask.labels):
            # The case of letters is part of what a forger has to guess; a resolver that does not
            # keep it is asked over TCP, which cannot be forged from aside.
            return self._again(ask, over_tcp=True)
        if response.code in (Code.FORMERR, Code.NOTIMP) and ask.edns:
            return self._again(ask, over_tcp=ask.over_tcp, edns=False)
        if response.truncated or response.code not in (Code.NOERROR, Code.NXDOMAIN):
            return self._broken(ask, "the resolver failed")
        del self._waiting[ask.token]
        return self._judge(ask, response, now)

    def fail(self, ask: Ask, reason: str = "the resolver did not answer") -> Reply:
        """No answer came, or it is not waited for any longer."""
        return self._broken(ask, reason)

    def _by_ourselves(self, query: Query, name: str, now: float, tcp: bool) -> Reply | None:
        """Names that nobody else is asked for."""
        below = name.rpartition(".")[2]
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._reverse(query, name, now, tcp)
        if below == "localhost":
            name = "localhost"
        peer = self.peers(name) if name not in self._own else None
        if name not in self._own and peer is None:
            if below not in _NOWHERE:
                return None
            decision = Decision(False, "built-in names", f".{below} is not for the DNS")
            return self._refuse(query, name, decision, tcp)
        version = (
            {Type.A: 4, Type.AAAA: 6}.get(Type(query.type)) if query.type in _CARRIED else None
        )
        own = (peer,) if peer is not None else self._own[name]
        addresses = tuple(each for each in own if each.version == version)
        records = [Record(query.labels, query.type, OWN_TTL, each) for each in addresses]
        decision = _OWN if peer is None else self.policy.may_resolve(name)
        lookup = Lookup(name, _type(query.type), decision, addresses=addresses)
        return Reply(answer(query, Code.NOERROR, records, tcp=tcp), lookup)

    def _reverse(self, query: Query, name: str, now: float, tcp: bool) -> Reply:
        """Names of addresses: our own ones, and the pins. Nobody else is asked."""
        address = _address_of(name)
        found: tuple[str, ...] = ()
        if address is not None and query.type == Type.PTR:
            mine = tuple(own for own in self._own if address in self._own[own])
            found = mine or self.pins.names_for(address, now)
        records = [Record(query.labels, Type.PTR, OWN_TTL, to_labels(each)) for each in found]
        code = Code.NOERROR if found else Code.NXDOMAIN
        decision = Decision(True, "built-in names", "addresses are named from what was looked up")
        lookup = Lookup(name, _type(query.type), decision, code)
        return Reply(answer(query, code, records, tcp=tcp), lookup)

    def _asked(
        self, query: Query, name: str, token: int, decision: Decision, tcp: bool, *, over_tcp: bool,
        edns: bool,
    ) -> Ask:  # fmt: skip
        labels = tuple(self._shuffled(label.lower()) for label in query.labels)
        id_ = self._randbits(16)
        wire = question(id_, labels, query.type, edns)
        type_ = _type(query.type)
        return Ask(name, type_, id_, wire, over_tcp, edns, token, labels, query, tcp, decision)

    def _shuffled(self, label: bytes) -> bytes:
        bits = self._randbits(len(label))
        return bytes(
            byte - 32 if 97 <= byte <= 122 and bits >> place & 1 else byte
            for place, byte in enumerate(label)
        )

    def _again(self, ask: Ask, *, over_tcp: bool, edns: bool | None = None) -> Ask:
        keep = ask.edns if edns is None else edns
        return self._asked(
            ask.query, ask.name, ask.token, ask.decision, ask.from_tcp, over_tcp=over_tcp, edns=keep
        )

    def _stray(self, ask: Ask) -> Ask | None:
        self._waiting[ask.token] += 1
        if self._waiting[ask.token] == MOST_STRAYS and not ask.over_tcp:
            return self._again(ask, over_tcp=True)
        return None

    def _broken(self, ask: Ask, reason: str) -> Reply:
        self._waiting.pop(ask.token, None)
        return self._say(
            ask.query, ask.name, Code.SERVFAIL, ask.decision, ask.from_tcp, (_INVALID, reason)
        )

    def _judge(self, ask: Ask, response: Response, now: float) -> Reply:
        """Follow the chain from the asked name, and judge all that it leads to."""
        query, policy = ask.query, self.policy
        decision = policy.may_resolve(ask.name)  # it may have changed meanwhile
        if not decision.allowed:
            return self._refuse(query, ask.name, decision, ask.from_tcp)
        try:
            chain, found = _chain(ask, response)
        except Malformed as error:
            return self._say(
                query, ask.name, Code.SERVFAIL, decision, ask.from_tcp, (_INVALID, str(error))
            )
        for link in chain:
            target = host_name(name_in(link))
            denied = policy.denies_name(target) if target else None
            if denied is not None:
                return self._refuse(query, ask.name, denied, ask.from_tcp)
        addresses: list[Address] = []
        for record in found:
            if isinstance(record.data, IPv4Address | IPv6Address):
                verdict = policy.may_answer(record.data)
                if not verdict.allowed:
                    return self._refuse(query, ask.name, verdict, ask.from_tcp, _FILTERED)
                addresses.append(record.data)
        ttl = min((record.ttl for record in (*chain, *found)), default=0)
        ttl = min(max(ttl, SHORTEST_TTL), LONGEST_TTL)
        self.pins.pin(ask.name, addresses, ttl, now)
        records = [replace(record, ttl=ttl) for record in (*chain, *found)]
        records = [_respelled(record, query.labels) for record in records]
        code = Code(response.code) if not found else Code.NOERROR
        lookup = Lookup(ask.name, ask.type, decision, code, tuple(addresses))
        return Reply(answer(query, code, records, tcp=ask.from_tcp), lookup)

    def _refuse(
        self, query: Query, name: str, decision: Decision, tcp: bool, error: int = _PROHIBITED
    ) -> Reply:
        """A name that this sandbox has not got: final, so that nothing tries it again and again."""
        hint = f" (hint: {decision.hint})" if decision.hint else ""
        return self._say(query, name, Code.NXDOMAIN, decision, tcp, (error, decision.reason + hint))

    def _say(
        self, query: Query, name: str, code: Code, decision: Decision, tcp: bool,
        error: tuple[int, str],
    ) -> Reply:  # fmt: skip
        problem = error[1] if code is Code.SERVFAIL else ""
        lookup = Lookup(name, _type(query.type), decision, code, problem=problem)
        return Reply(answer(query, code, tcp=tcp, error=error), lookup)


def _chain(ask: Ask, response: Response) -> tuple[list[Record], list[Record]]:
    """The aliases from the asked name on, and the records of the wanted type at their end.

    Everything else in the answer is left out.

    Raises:
        Malformed: the chain is too long, in a circle, or leads to what is no host.
    """
    wanted = ask.query.type
    aliases: dict[Labels, Record] = {}
    if wanted != Type.CNAME:
        for record in response.answers:
            if record.type == Type.CNAME:
                aliases.setdefault(fold(record.labels), record)
    chain: list[Record] = []
    here = fold(ask.labels)
    while here in aliases:
        link = aliases[here]
        chain.append(link)
        here = fold(name_in(link))
        if len(chain) > LONGEST_CHAIN:
            raise Malformed("the chain of aliases does not end")
        if host_name(here) is None:
            raise Malformed("an alias leads to what no host can be called")
    found: list[Record] = []
    for record in response.answers:
        fits = record.type == wanted and fold(record.labels) == here and _sound(record)
        if fits and record not in found and len(found) < MOST_ADDRESSES:
            found.append(record)
    return chain, found


def _sound(record: Record) -> bool:
    """Whether the name in a record is a host's, or the root, which says that there is none."""
    if record.type not in (Type.CNAME, Type.MX, Type.SRV):
        return True
    labels = name_in(record)
    return not labels or host_name(labels) is not None


def _respelled(record: Record, asked: Labels) -> Record:
    """The owner as the guest spelled it, where it is the asked name; lower case elsewhere."""
    labels = asked if fold(record.labels) == fold(asked) else fold(record.labels)
    return replace(record, labels=labels)


def _spelled(hostname: str) -> str:
    try:
        return normalise(hostname)
    except ValueError:
        return "localhost"


def _type(number: int) -> str:
    return Type(number).name if number in set(Type) else f"TYPE{number}"


def _address_of(name: str) -> Address | None:
    """The address that a name below in-addr.arpa or ip6.arpa is for."""
    *digits, family, _ = name.split(".")
    digits.reverse()
    try:
        if family == "in-addr" and len(digits) == 4:
            return ip_address(".".join(digits))
        if family == "ip6" and len(digits) == 32 and all(len(each) == 1 for each in digits):
            return ip_address(bytes.fromhex("".join(digits)))
    except ValueError:
        return None
    return None
