"""Names and the DNS: what may be asked, what is believed of answers, what questions carry out."""

from __future__ import annotations

from tests.vm.escapes.escape import GOOD_ADDRESS, SECOND_ADDRESS, TRICKS, Escape

_FAR = "(EACCES|EHOSTUNREACH|ENETUNREACH)"


def _refused(name: str, asked: str) -> Escape:
    return Escape(name, f"print(look('{asked}.{TRICKS}'))", "no-name", asked=True)


def _not_asked(name: str, code: str, says: str) -> Escape:
    return Escape(name, code, says, asked=False)


ESCAPES = [
    _refused("rebinding-private", "private"),
    _refused("rebinding-loopback", "loopback"),
    _refused("rebinding-metadata", "metadata"),
    _refused("rebinding-among-public", "mixed"),
    _refused("rebinding-mapped", "mapped"),
    _refused("rebinding-nat64", "nat64"),
    _refused("rebinding-six-to-four", "sixtofour"),
    _refused("rebinding-router", "router"),
    _refused("alias-to-private", "alias-private"),
    _refused("alias-in-a-circle", "circle"),
    Escape("alias-to-the-host", f"print(look('alias-host.{TRICKS}'), look('alias-local.{TRICKS}'))", "no-name no-name", asked=True),
    Escape(
        "changes-to-private",
        f"""
first = look("turns.{TRICKS}", 2)
later = [look("turns.{TRICKS}", 2) for _ in range(3)]
print(first, *later, reach("10.0.0.5", TREASURE))
""",
        rf"({SECOND_ADDRESS}|no-name)( no-name){{3}} {_FAR}",
        asked=True,
    ),
    Escape(
        "check-then-use",
        f"""
# The name is looked up once more between check and use, and leads elsewhere by then.
seen = [look("swaps.{TRICKS}", 2) for _ in range(4)]
print(*(reach(a, TREASURE) for a in ("10.0.0.5", "127.0.0.1", "169.254.169.254", R4)), "10." in str(seen))
""",
        rf"{_FAR} ECONNREFUSED {_FAR} {_FAR} False",
        asked=True,
    ),
    Escape(
        "ttl-zero",
        """
import re
answer = b""
with socket.socket(socket.AF_INET, UDP) as s:
    s.settimeout(10)
    s.connect((R4, 53))
    s.send(question([b"good", b"example", b"com"]))
    answer = s.recv(4096)
ttl = struct.unpack("!I", answer[-10:-6])[0]
print(ttl >= 30, socket.inet_ntoa(answer[-4:]))
""",
        f"True {GOOD_ADDRESS}",
    ),
    Escape("poisoned-answer", f"print(look('poison.{TRICKS}', 2), reach('93.184.216.77', TREASURE))", rf"({SECOND_ADDRESS}|no-name) {_FAR}", asked=True),
    _not_asked("service-binding", "print(ask(question([b'svcb', b'trick', b'example'], 65)), ask(question([b'svcb', b'trick', b'example'], 64)))", "0/0 0/0"),
    Escape("mail-and-services", """
print(ask(question([b"mx", b"trick", b"example"], 15)), ask(question([b"srv", b"trick", b"example"], 33)), look("inner.elsewhere.example"))
""", "0/1 0/1 no-name"),
    _not_asked("reverse", "print(ask(question([b'5', b'0', b'0', b'10', b'in-addr', b'arpa'], 12)))", "3/0"),
    _not_asked("name-not-allowed", "print(look('elsewhere.example'))", "no-name"),
    _not_asked("suffix-confusion", f"print(*(look(n) for n in ('x{TRICKS}', '{TRICKS}.evil.example', '{TRICKS}', 'good.example.com.evil.example', 'notgood.example.com')))", "no-name( no-name){4}"),
    _not_asked("tunnel-in-names", """
for number in range(50):
    ask(question([b"%032x" % number, b"secret", b"elsewhere", b"example"], 16))
print("tried")
""", "tried"),
    _not_asked("tunnel-to-another-server", "print(*(reach(a, 53, kind) for a in ('1.1.1.1', '93.184.216.34', '2606:4700:4700::1111') for kind in (TCP, UDP)))", rf"{_FAR}( {_FAR}){{5}}"),
    _not_asked("encrypted-dns", "print(*(reach(a, p) for a in ('1.1.1.1', '9.9.9.9') for p in (443, 853)), reach('1.1.1.1', 853, UDP))", rf"{_FAR}( {_FAR}){{4}}"),
    _not_asked("local-discovery", """
with socket.socket(socket.AF_INET, UDP) as s:
    for group, port in (("224.0.0.251", 5353), ("224.0.0.252", 5355)):
        s.sendto(question([b"host", b"local"]), (group, port))
print(settled())
""", "sent"),
    _not_asked("zone-transfer", "print(*(ask(question([b'zone', b'trick', b'example'], kind)) for kind in (252, 251, 253)))", "[345]/0 [345]/0 [0345]/0"),
    _not_asked("update-and-notify", "print(*(ask(question([b'trick', b'example'], 6, flags=op << 11)) for op in (4, 5)))", "[145]/0 [145]/0"),
    _not_asked("other-classes", "print(ask(question([b'version', b'bind'], 16, 3)), ask(question([b'good', b'example', b'com'], 1, 255)))", "[1-5]/0 [1-5]/0"),
    _not_asked("addresses-as-names", "print(*(ask(question(n)) for n in ([b'0x7f', b'1'], [b'127', b'1'], [b'2130706433'], [b'10', b'0', b'0', b'5'])))", "[235]/0( [235]/0){3}"),
    _not_asked("odd-labels", "print(*(ask(question([l, b'trick', b'example'])) for l in (b'a.b', b'a\\0b', b'a b', b'\\xff\\xfe', b'x' * 63 + b'' )[:4]))", "[235]/0( [235]/0){3}"),
    _not_asked("pointer-loops", r"""
head = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0)
queries = [head + b"\xc0\x0c\0\1\0\1", head + b"\xc0\xff\0\1\0\1", head + b"\3abc\xc0\x0c\0\1\0\1", head + b"\xff" * 40]
print(*(ask(query) in ("1/0", "timeout") for query in queries[:2]), settled())
""", "True True sent"),
    _not_asked("garbage-to-the-name-server", """
import random
random.seed(5)
with socket.socket(socket.AF_INET, UDP) as s:
    s.connect((R4, 53))
    for _ in range(300):
        try:
            s.send(random.randbytes(random.randrange(200)))
        except OSError:
            pass
print(settled())
""", "sent"),
    _not_asked("length-that-never-comes", """
held = [socket.create_connection((R4, 53), 20) for _ in range(20)]
for s in held:
    s.send(b"\\xff\\xff")
print(settled())
""", "sent"),
    Escape("name-of-another-port", "look(GOOD); print(reach(GOOD_ADDRESS, 22))", _FAR),
]  # fmt: skip
