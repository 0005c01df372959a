"""Packets that no socket would send, written on the device itself."""

from __future__ import annotations

from tests.vm.escapes.escape import ROOT, Escape

_SENT = "sent"


def _wired(name: str, code: str) -> Escape:
    return Escape(name, f"{code}\nprint(settled())", _SENT, users=ROOT)


ESCAPES = [
    _wired("raw-connections", """
raw = socket.socket(socket.AF_INET, RAW, socket.IPPROTO_RAW)
for target in (R4, "10.0.0.5", "169.254.169.254", "93.184.216.99"):
    raw.sendto(ip4("10.231.0.2", target, syn("10.231.0.2", target, TREASURE)), (target, 0))"""),
    _wired("other-source-addresses", """
for source in ("127.0.0.1", "10.0.0.5", "169.254.169.254", "93.184.216.34", "10.231.0.1", "0.0.0.0"):
    for target in (R4, "10.0.0.5", "127.0.0.1"):
        wire(ip4(source, target, syn(source, target, TREASURE)))
for source in ("::1", "fd00::5", "fe80::1"):
    wire(ip6(source, R6, syn(source, R6, TREASURE)), 0x86DD)"""),
    _wired("other-protocols", """
for protocol in (0, 2, 4, 41, 47, 50, 51, 89, 103, 112, 115, 132, 136, 255):
    for target in (R4, "10.0.0.5"):
        wire(ip4("10.231.0.2", target, bytes(64), protocol))
    wire(ip6("fd5a:6e64:6c6f:7400::2", R6, bytes(64), protocol or 59), 0x86DD)"""),
    _wired("packets-in-packets", """
inner = ip4("10.231.0.2", "10.0.0.5", syn("10.231.0.2", "10.0.0.5", TREASURE))
wire(ip4("10.231.0.2", R4, inner, 4))
wire(ip4("10.231.0.2", R4, struct.pack("!HH", 0, 0x0800) + inner, 47))
wire(ip6("fd5a:6e64:6c6f:7400::2", R6, inner, 4), 0x86DD)"""),
    _wired("ipv4-fragments", """
whole = syn("10.231.0.2", R4, TREASURE)
wire(ip4("10.231.0.2", R4, whole[:8], fragment=0x2000))
wire(ip4("10.231.0.2", R4, whole[8:], fragment=1))
wire(ip4("10.231.0.2", R4, whole, fragment=0x2000))
wire(ip4("10.231.0.2", R4, whole, fragment=0x1FFF))"""),
    _wired("ipv4-options", """
for options in (bytes([131, 7, 4]) + socket.inet_aton("10.0.0.5") + b"\\0", bytes([137, 7, 4]) + socket.inet_aton("10.0.0.5") + b"\\0", bytes([7, 7, 4]) + bytes(5), b"\\x94\\4\\0\\0"):
    wire(ip4("10.231.0.2", R4, syn("10.231.0.2", R4, TREASURE), options=options))"""),
    _wired("ipv6-extension-headers", """
here, first = "fd5a:6e64:6c6f:7400::2", syn("fd5a:6e64:6c6f:7400::2", R6, TREASURE)
for kind, header in ((0, bytes([6, 0, 1, 4, 0, 0, 0, 0])), (60, bytes([6, 0, 1, 4, 0, 0, 0, 0])), (135, bytes([6, 0] + [0] * 6)), (140, bytes([6, 0] + [0] * 6))):
    wire(ip6(here, R6, header + first, kind), 0x86DD)
chain = bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 100 + bytes([6, 0, 1, 4, 0, 0, 0, 0])
wire(ip6(here, R6, chain + first, 0), 0x86DD)"""),
    _wired("ipv6-routing-header", """
here = "fd5a:6e64:6c6f:7400::2"
route = bytes([6, 2, 0, 1, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, "fd00::5")
wire(ip6(here, R6, route + syn(here, R6, TREASURE), 43), 0x86DD)"""),
    _wired("ipv6-fragments", """
here, first = "fd5a:6e64:6c6f:7400::2", syn("fd5a:6e64:6c6f:7400::2", R6, TREASURE)
wire(ip6(here, R6, bytes([6, 0, 0, 0, 0, 0, 0, 1]) + first, 44), 0x86DD)
wire(ip6(here, R6, bytes([6, 0, 0, 1, 0, 0, 0, 2]) + first[:8], 44), 0x86DD)
wire(ip6(here, R6, bytes([6, 0, 0, 8, 0, 0, 0, 2]) + first[8:], 44), 0x86DD)"""),
    _wired("lengths-that-lie", """
good = ip4("10.231.0.2", R4, syn("10.231.0.2", R4, TREASURE))
for packet in (good[:2] + b"\\xff\\xff" + good[4:], good[:2] + b"\\0\\x14" + good[4:], good[:2] + b"\\0\\0" + good[4:], b"\\x4f" + good[1:], b"\\x41" + good[1:], good[:30], good + bytes(2000)):
    try:
        wire(packet)
    except OSError:
        pass
try:
    wire(b"\\x60\\0\\0\\0\\xff\\xff\\x06\\x40" + bytes(32), 0x86DD)
except OSError:
    pass"""),
    _wired("datagrams-by-hand", """
for target in (R4, "10.0.0.5", "255.255.255.255", "127.0.0.1"):
    for size in (13, 12, 8, 65535, 0):
        wire(ip4("10.231.0.2", target, struct.pack("!4H", 99, TREASURE, size, 0) + b"hello", 17))"""),
    _wired("arp", """
mac = bytes(6)
for target in (R4, "10.0.0.5", "192.0.2.2"):
    wire(struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + socket.inet_aton("10.231.0.2") + mac + socket.inet_aton(target), 0x0806)
    wire(struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac + socket.inet_aton(R4) + mac + socket.inet_aton(R4), 0x0806)"""),
    _wired("other-ethertypes", """
for ethertype in (0x8100, 0x88CC, 0x8863, 0x888E, 0x22F0, 0x0001, 0xFFFF):
    wire(bytes(100), ethertype)"""),
    _wired("router-advertisements", """
here = "fe80::2"
for kind in (133, 134, 135, 136, 137):
    body = bytes([kind, 0, 0, 0]) + bytes(20)
    wire(ip6(here, "ff02::1", body, 58), 0x86DD)
    wire(ip6(here, R6, body, 58), 0x86DD)"""),
    Escape("ping", """
with socket.socket(socket.AF_INET, RAW, socket.IPPROTO_ICMP) as s:
    s.settimeout(20)
    said = []
    for target in ("93.184.216.99", "10.0.0.5", R4):
        s.sendto(bytes([8, 0, 0xF7, 0xFF, 0, 0, 0, 0]), (target, 0))
        said.append(s.recv(200)[20:22].hex())
print(*said)
""", "030d 030d 030d", users=ROOT),
    Escape("forged-errors", """
# Errors that seem to come from elsewhere, about a connection that was never made.
inner = ip4("10.231.0.2", R4, syn("10.231.0.2", R4, TREASURE))
for kind, code in ((5, 1), (3, 4), (11, 0)):
    body = bytes([kind, code, 0, 0]) + socket.inet_aton("10.0.0.5") + inner[:28]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    wire(ip4(R4, "10.231.0.2", body, 1))
    wire(ip4("10.231.0.2", R4, body, 1))
print(settled())
""", _SENT, users=ROOT),
    Escape("other-families", """
said = set()
for family, kind, protocol in ((socket.AF_INET, RAW, 132), (socket.AF_INET, TCP, 132), (socket.AF_INET, 6, 33), (40, TCP, 0), (16, RAW, 16), (38, 5, 0), (44, RAW, 0), (29, RAW, 1), (31, RAW, 1)):
    try:
        with socket.socket(family, kind, protocol) as s:
            if family == 40:
                for port in (TREASURE, 1024, 22):
                    s.settimeout(5)
                    said.add(s.connect_ex((2, port)) and "refused" or "IN")
            elif family == socket.AF_INET:
                s.settimeout(5)
                s.connect((R4, TREASURE))
                s.send(CATCH)
    except OSError as error:
        said.add("refused")
print(*said, settled())
""", "refused sent", users=ROOT),
]  # fmt: skip
