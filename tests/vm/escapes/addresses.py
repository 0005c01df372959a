"""Addresses in disguise, and those that nobody named."""

from __future__ import annotations

from tests.vm.escapes.escape import GOOD_ADDRESS, Escape

_FAR = "(EACCES|EHOSTUNREACH|ENETUNREACH)"
_TWICE = f"{_FAR} {_FAR}"
_OWN = "ECONNREFUSED ECONNREFUSED"  # the guest's own loopback, on which nobody listens


def _to(name: str, address: str, says: str = _TWICE) -> Escape:
    return Escape(name, f"print(both({address!r}, TREASURE))", says)


ESCAPES = [
    _to("host-by-router", "10.231.0.1"),
    _to("host-by-router-6", "fd5a:6e64:6c6f:7400::1"),
    _to("loopback", "127.0.0.1", _OWN),
    _to("loopback-6", "::1", _OWN),
    _to("loopback-other", "127.255.255.254", _OWN),
    _to("unspecified", "0.0.0.0", _OWN),
    _to("unspecified-6", "::", _OWN),
    _to("mapped-loopback", "::ffff:127.0.0.1", _OWN),
    _to("mapped-router", "::ffff:10.231.0.1"),
    _to("mapped-private", "::ffff:10.0.0.5"),
    _to("compatible", "::127.0.0.1"),
    _to("nat64-loopback", "64:ff9b::7f00:1"),
    _to("nat64-metadata", "64:ff9b::a9fe:a9fe"),
    _to("nat64-local", "64:ff9b:1::7f00:1"),
    _to("six-to-four", "2002:7f00:1::1"),
    _to("teredo", "2001:0:7f00:1::80ff:fffe"),
    _to("isatap", "2a00:1450::5efe:10.0.0.5"),
    _to("siit", "::ffff:0:127.0.0.1"),
    _to("metadata", "169.254.169.254"),
    _to("metadata-6", "fd00:ec2::254"),
    _to("private-10", "10.0.0.5"),
    _to("private-172", "172.16.0.5"),
    _to("private-192", "192.168.0.5"),
    _to("private-6", "fd00::5"),
    _to("carrier", "100.64.0.5"),
    _to("documentation", "192.0.2.5"),
    _to("reserved", "240.0.0.5"),
    _to("never-looked-up", "93.184.216.99"),
    _to("never-looked-up-6", "2606:2800:220:1::99"),
    Escape("host-by-name", "print(look('host.sandlot.internal'), reach('host.sandlot.internal', TREASURE, family=2))", rf"10\.231\.0\.1 fd5a\S* {_FAR}"),
    Escape("host-by-own-address", "print(*(both(a, TREASURE) for a in HOSTS), sep='|')", rf"{_TWICE}(\|{_TWICE})*"),
    Escape(
        "loose-forms",
        "print(*(reach(a, TREASURE, family=2) for a in ('2130706433', '0x7f.1', '017700000001', '127.1', '2852039166', '0xa9fea9fe', '012.0.0.5')))",
        rf"(ECONNREFUSED ){{4}}{_FAR} {_FAR} {_FAR}",
    ),
    Escape("link-local-zone", "print(reach('fe80::1', TREASURE, scope=socket.if_nametoindex('eth0')))", rf"{_FAR}|EADDRNOTAVAIL|timeout"),
    Escape(
        "multicast",
        """
s = socket.socket(socket.AF_INET, UDP)
s.sendto(CATCH, ("224.0.0.251", 5353))
s.sendto(CATCH, ("239.255.255.250", TREASURE))
s = socket.socket(socket.AF_INET6, UDP)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
s.sendto(CATCH, ("ff02::fb", 5353))
s.sendto(CATCH, ("ff0e::1", TREASURE))
print(settled())
""",
        "sent",
    ),
    Escape(
        "broadcast",
        """
s = socket.socket(socket.AF_INET, UDP)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for address in ("255.255.255.255", "10.231.0.255"):
    try:
        s.sendto(CATCH, (address, TREASURE))
    except OSError as error:
        assert error.errno in (errno.EACCES, errno.EHOSTUNREACH), error
print(settled())
""",
        "sent",
    ),
    Escape("port-zero", "print(reach(GOOD, 0, family=2), reach('10.231.0.1', 0))", rf"({_FAR}|EADDRNOTAVAIL|ECONNREFUSED|EINVAL) ({_FAR}|EADDRNOTAVAIL|ECONNREFUSED|EINVAL)"),
    Escape("another-port", "print(reach(GOOD, 9, family=2), reach(GOOD, TREASURE, UDP, family=2))", _TWICE),
    Escape("neighbour-of-a-name", f"look(GOOD); print(reach({GOOD_ADDRESS[:-1] + '6'!r}, WEB))", _FAR),
    Escape(
        "source-routed-by-bind",
        """
with socket.socket() as s:
    s.settimeout(5)
    try:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([131, 7, 4]) + socket.inet_aton("10.0.0.5") + b"\\0")
        s.connect((GOOD_ADDRESS, TREASURE))
        print("IN")
    except OSError as error:
        print(name_of(error))
""",
        rf"{_FAR}|timeout|EINVAL|EPERM",
    ),
    Escape(
        "port-scan",
        """
open_ports = []
for port in [*range(1, 300), TREASURE, WEB, PLAIN]:
    with socket.socket() as s:
        s.settimeout(20)
        if s.connect_ex((R4, port)) == 0:
            open_ports.append(port)
print(open_ports)
""",
        r"\[53\]",
    ),
    Escape("fast-open", """
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 20, 0))
    try:
        s.sendto(CATCH, 0x20000000, ("10.231.0.1", TREASURE))
        s.recv(1)
        print("IN")
    except OSError as error:
        print(name_of(error))
""", _FAR),
]  # fmt: skip
