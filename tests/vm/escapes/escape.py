"""The form of an attempt, and what its code finds in the guest."""

from __future__ import annotations

from dataclasses import dataclass

GOOD = "good.example.com"
GOOD_ADDRESS = "93.184.216.34"
SECOND_ADDRESS = "93.184.216.35"
TRICKS = "trick.example"  # whose name server lies


@dataclass(frozen=True)
class Escape:
    """One attempt.

    `code` runs in the guest after `PRELUDE` and prints what became of it, never "IN". `says` is a
    regular expression of all that it prints. `led` are addresses that it may reach on the way.
    """

    name: str
    code: str
    says: str
    led: tuple[str, ...] = ()
    users: tuple[str, ...] = ("root", "1000")
    asked: bool | None = None
    """Whether the name server outside may be asked; None where it does not matter."""


ROOT = ("root",)

PRELUDE = f"""
import errno, os, select, socket, ssl, struct, sys, time
R4, R6 = "10.231.0.1", "fd5a:6e64:6c6f:7400::1"
GOOD, GOOD_ADDRESS = "{GOOD}", "{GOOD_ADDRESS}"
TCP, UDP, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
CATCH = b"escape\\n"

def name_of(error):
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, socket.gaierror):
        return "no-name"
    if isinstance(error, ssl.SSLError):
        return "tls"
    return errno.errorcode.get(error.errno, type(error).__name__)

def reach(host, port, kind=TCP, family=None, wait=20, scope=0):
    # How a program fares that connects, sends and waits for an answer.
    family = family or (socket.AF_INET6 if ":" in host else socket.AF_INET)
    with socket.socket(family, kind) as s:
        s.settimeout(wait)
        try:
            s.connect((host, port, 0, scope) if family == socket.AF_INET6 else (host, port))
            s.send(CATCH)
            return "IN" if s.recv(100) else "closed"
        except OSError as error:
            return name_of(error)

def both(host, port):
    return reach(host, port) + " " + reach(host, port, UDP)

def look(name, family=0):
    try:
        return " ".join(sorted({{a[4][0] for a in socket.getaddrinfo(name, 80, family, TCP)}}))
    except OSError as error:
        return name_of(error)

def question(labels, kind=1, klass=1, flags=0x0100, extra=b""):
    name = b"".join(bytes([len(l)]) + l for l in labels) + b"\\0"
    return struct.pack("!6H", 0x1234, flags, 1, 0, 0, 0) + name + struct.pack("!2H", kind, klass) + extra

def ask(query, server=R4):
    # The code of the answer, and how many records it has.
    with socket.socket(socket.AF_INET, UDP) as s:
        s.settimeout(10)
        s.connect((server, 53))
        s.send(query)
        try:
            answer = s.recv(4096)
        except OSError as error:
            return name_of(error)
    return "%d/%d" % (answer[3] & 15, int.from_bytes(answer[6:8], "big"))

def exchange(request, port, host=GOOD, tls=None, wait=30, most=65536):
    # The first line of each answer to what is sent as it is.
    s = socket.create_connection((host, port), wait)
    try:
        if tls is not None:
            context = ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            s = context.wrap_socket(s, server_hostname=tls)
        s.sendall(request)
        data = b""
        while len(data) < most:
            piece = s.recv(65536)
            if not piece:
                break
            data += piece
        lines = [l for l in data.split(b"\\r\\n") if l.startswith(b"HTTP/1.1 ")]
        return " ".join(l.split()[1].decode() for l in lines) or ("data" if data else "closed")
    except OSError as error:
        return name_of(error)
    finally:
        s.close()

def checksum(data):
    if len(data) % 2:
        data += b"\\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def syn(source, target, port):
    # The first packet of a TCP connection, without its IP header.
    six = ":" in source
    family = socket.AF_INET6 if six else socket.AF_INET
    a, b = socket.inet_pton(family, source), socket.inet_pton(family, target)
    head = struct.pack("!HHIIBBHHH", 4321, port, 1, 0, 0x50, 2, 65535, 0, 0)
    check = checksum(a + b + struct.pack("!BBH", 0, 6, len(head)) + head)
    return head[:16] + struct.pack("!H", check) + head[18:]

def ip4(source, target, payload, protocol=6, fragment=0, options=b""):
    size = 20 + len(options)
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | size // 4, 0, size + len(payload), 7, fragment, 64,
                       protocol, 0, socket.inet_aton(source), socket.inet_aton(target)) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload

def ip6(source, target, payload, following=6):
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + socket.inet_pton(
        socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target) + payload

def wire(packet, ethertype=0x0800, device="eth0"):
    # Puts a packet on the device, past all of the kernel's own rules.
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as s:
        s.sendto(packet, (device, ethertype))

def run(*command):
    import subprocess
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).returncode

def settled():
    # What was sent before has been dealt with: the name server answers what came after it.
    for _ in range(3):
        ask(question([b"nobody", b"example"]))
    return "sent"
"""

RUNNER = """
import json, os, sys
exec(os.environ["PRELUDE"])
for line in sys.stdin:
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        os.dup2(w, 1)
        try:
            exec(compile(json.loads(line), "escape", "exec"), globals())
            sys.stdout.flush()
        except BaseException:
            import traceback
            os.write(1, traceback.format_exc().encode())
        os._exit(0)
    os.close(w)
    said = b""
    while data := os.read(r, 65536):
        said += data
    os.close(r)
    os.waitpid(pid, 0)
    print(json.dumps(said.decode(errors="replace")), flush=True)
"""
