"""More of everything than there should be. What the machine is worth afterwards is looked at."""

from __future__ import annotations

from tests.vm.escapes.escape import GOOD_ADDRESS, Escape

_LED = (GOOD_ADDRESS,)
_USER = ("1000",)

ESCAPES = [
    Escape("many-connections", """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held, refused = [], 0
for _ in range(LIMIT + 20):
    s = socket.socket()
    s.settimeout(60)
    if s.connect_ex((GOOD_ADDRESS, PLAIN)):
        refused += 1
        s.close()
    else:
        held.append(s)
print(len(held) <= LIMIT, refused >= 20)
""", "True True", _LED, users=_USER),
    Escape("slow-requests", """
held = [socket.create_connection((GOOD, PLAIN), 60) for _ in range(20)]
for s in held:
    for byte in b"GET / HT":
        s.send(bytes([byte]))
print(exchange(f"GET / HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\nConnection: close\\r\\n\\r\\n".encode(), PLAIN))
""", "200", _LED, users=_USER),
    Escape("slow-handshakes", """
held = [socket.create_connection((GOOD, WEB), 60) for _ in range(20)]
for s in held:
    s.send(b"\\x16\\x03\\x01\\x02\\x00\\x01")
print(exchange(f"GET / HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nConnection: close\\r\\n\\r\\n".encode(), WEB, tls=GOOD, wait=60))
""", "200", _LED, users=_USER),
    Escape("endless-head", """
s = socket.create_connection((GOOD, PLAIN), 30)
try:
    s.sendall(b"GET / HTTP/1.1\\r\\n" + (b"X-Filler: " + b"x" * 8000 + b"\\r\\n") * 25)
    print(s.recv(100).split()[1].decode())
except OSError as error:
    print(name_of(error))
""", "431|ECONNRESET|EPIPE", _LED, users=_USER),
    Escape("flood-of-datagrams", """
s = socket.socket(socket.AF_INET, UDP)
for number in range(3000):
    try:
        s.sendto(CATCH, ("10.0.%d.%d" % (number >> 8 & 255, number & 255), TREASURE))
    except OSError:
        pass  # the errors about earlier ones
print(settled())
""", "sent", users=_USER),
    Escape("flood-of-questions", """
with socket.socket(socket.AF_INET, UDP) as s:
    s.connect((R4, 53))
    for number in range(2000):
        try:
            s.send(question([b"%d" % number, b"silent", b"trick", b"example"]))
        except OSError:
            pass
time.sleep(0)
print(look(GOOD, 2))
""", "93.184.216.34", users=_USER),
    Escape("flood-of-first-packets", """
for number in range(2000):
    target = "10.1.%d.%d" % (number >> 8 & 255, number & 255)
    wire(ip4("10.231.0.2", target, syn("10.231.0.2", target, TREASURE)))
print(settled())
""", "sent", users=("root",)),
    Escape("resets-without-end", """
for _ in range(200):
    s = socket.create_connection((GOOD, PLAIN), 60)
    s.send(b"GET")
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
print(exchange(f"GET / HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\nConnection: close\\r\\n\\r\\n".encode(), PLAIN))
""", "200", _LED, users=_USER),
]  # fmt: skip
