"""TLS and HTTP to a host that is allowed: other hosts behind it, smuggled requests, placeholders
in the wrong places, redirects."""

from __future__ import annotations

from tests.vm.escapes.escape import GOOD, GOOD_ADDRESS, Escape

_LED = (GOOD_ADDRESS,)
_FAR = "(EACCES|EHOSTUNREACH|ENETUNREACH)"
_CUT = "(ECONNRESET|EPIPE|closed|tls)"


def _plain(name: str, request: str, says: str) -> Escape:
    """A request in plain HTTP, under a rule on a name. Whatever it is, the server must see no other
    host than the one that was looked up (the server's own notes are checked for it)."""
    return Escape(name, f"print(exchange({request}, PLAIN))", says, _LED)


def _inside(name: str, request: str, says: str) -> Escape:
    """A request inside of TLS, to a host that a secret names."""
    return Escape(name, f"print(exchange({request}, WEB, tls=GOOD))", says, _LED)


_SMUGGLED = "GET /smuggled HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n"

ESCAPES = [
    Escape("other-server-name", "print(exchange(b'', WEB, tls='evil.example'))", _CUT, _LED),
    Escape("other-allowed-server-name", "print(exchange(b'', WEB, tls='never.trick.example'))", _CUT, _LED),
    Escape("server-name-in-pieces", """
context = ssl.create_default_context()
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
shake = context.wrap_bio(incoming, outgoing, server_hostname="evil.example")
try:
    shake.do_handshake()
except ssl.SSLWantReadError:
    pass
s = socket.create_connection((GOOD, WEB), 20)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
try:
    for byte in outgoing.read():
        s.send(bytes([byte]))
    print("IN" if s.recv(10)[:1] == b"\\x16" else "closed")
except OSError as error:
    print(name_of(error))
""", _CUT, _LED),
    Escape("no-server-name", """
context = ssl._create_unverified_context()
s = context.wrap_socket(socket.create_connection((GOOD, WEB), 20))
s.sendall(b"GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n")
print(s.recv(100).split()[1].decode())
""", "421", _LED),
    Escape("broken-hello", """
for hello in (b"\\x16\\x03\\x01\\x00\\x05\\x01\\x00\\x00\\x01\\xff", b"\\x16\\x03\\x01\\xff\\xff" + b"x" * 100, b"\\x16\\x03\\x01\\x00\\x02\\x01\\x00\\x15\\x03\\x01\\x00\\x02\\x01\\x00"):
    print(exchange(hello, WEB), end=" ")
""", rf"({_CUT} ?){{3}}", _LED),
    Escape("encrypted-hello", """
# A hello with the extension of an encrypted one (0xfe0d), whose inner name nobody sees.
name = GOOD.encode()
sni = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
ech = b"\\0" + struct.pack("!HHBH", 1, 1, 7, 32) + b"k" * 32 + struct.pack("!H", 64) + b"e" * 64
extensions = sni + struct.pack("!HH", 0xFE0D, len(ech)) + ech + bytes.fromhex("002b0003020304") + bytes.fromhex("000d00040002 0804".replace(" ", "")) + bytes.fromhex("000a00040002001d") + struct.pack("!HHHHH", 51, 38, 36, 29, 32) + os.urandom(32)
body = b"\\3\\3" + os.urandom(32) + b"\\0" + b"\\0\\2\\x13\\1" + b"\\1\\0" + struct.pack("!H", len(extensions)) + extensions
hello = b"\\1" + len(body).to_bytes(3, "big") + body
s = socket.create_connection((GOOD, WEB), 20)
s.sendall(b"\\x16\\3\\1" + struct.pack("!H", len(hello)) + hello)
try:
    # The gateway answers as the name that everybody sees; the encrypted part is not passed on.
    print("shaken" if s.recv(10)[:1] == b"\\x16" else "closed")
except OSError as error:
    print(name_of(error))
""", rf"shaken|{_CUT}", _LED),
    Escape("encrypted-hello-elsewhere", """
# To a host that is allowed by its name and not looked into: what the server makes of it is unknown.
host = "other.trick.example"
name = host.encode()
sni = struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
ech = b"\\0" + struct.pack("!HHBH", 1, 1, 7, 32) + b"k" * 32 + struct.pack("!H", 64) + b"e" * 64
extensions = sni + struct.pack("!HH", 0xFE0D, len(ech)) + ech
body = b"\\3\\3" + os.urandom(32) + b"\\0" + b"\\0\\2\\x13\\1" + b"\\1\\0" + struct.pack("!H", len(extensions)) + extensions
hello = b"\\1" + len(body).to_bytes(3, "big") + body
print(exchange(b"\\x16\\3\\1" + struct.pack("!H", len(hello)) + hello, OTHER, host))
""", _CUT, ("93.184.216.36",)),
    _plain("other-host", "b'GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'", f"421|{_CUT}"),
    _plain("other-host-second", f"(f'GET / HTTP/1.1\\r\\nHost: {{GOOD}}:{{PLAIN}}\\r\\n\\r\\n{_SMUGGLED}').encode()", f"200 421|200|{_CUT}"),
    _plain("two-hosts", "f'GET / HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\nHost: evil.example\\r\\n\\r\\n'.encode()", f"400|{_CUT}"),
    _plain("whole-url", "f'GET http://evil.example/ HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\n\\r\\n'.encode()", f"400|{_CUT}"),
    _plain("blank-lines-first", "b'\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'", f"400|421|{_CUT}"),
    _plain("bare-line-ends-first", "b'\\n\\nGET / HTTP/1.1\\nHost: evil.example\\n\\n'", f"400|421|{_CUT}"),
    _plain("small-letters", "b'get / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'", f"4..|{_CUT}"),
    _plain("odd-method", "b'M_X / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'", f"4..|501|{_CUT}"),
    _plain("another-version", "b'GET / HTTP/1.7\\r\\nHost: evil.example\\r\\n\\r\\n'", f"4..|505|{_CUT}"),
    _plain("long-line", "b'GET /' + b'x' * 8100 + b' HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'", f"4..|{_CUT}"),
    _plain("tabs-in-the-line", "b'GET\\t/\\tHTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'", f"400|{_CUT}"),
    _plain("plain-http2", "b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes.fromhex('000000040000000000') + b'\\0\\0\\x1b\\1\\5\\0\\0\\0\\1' + b'\\x82\\x86\\x84\\x01\\x0cevil.example' + b'\\0\\1a\\1b\\0\\1c\\1d'", f"4..|{_CUT}|data"),
    _plain("length-and-chunks", f"(f'POST / HTTP/1.1\\r\\nHost: {{GOOD}}:{{PLAIN}}\\r\\nContent-Length: 6\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n{_SMUGGLED}').encode()", f"400|{_CUT}"),
    _plain("odd-encoding", f"(f'POST / HTTP/1.1\\r\\nHost: {{GOOD}}:{{PLAIN}}\\r\\nTransfer-Encoding: xchunked\\r\\nContent-Length: 4\\r\\n\\r\\n0\\r\\n\\r\\n{_SMUGGLED}').encode()", f"400|501|{_CUT}"),
    _plain("two-lengths", f"(f'POST / HTTP/1.1\\r\\nHost: {{GOOD}}:{{PLAIN}}\\r\\nContent-Length: 0\\r\\nContent-Length: 5\\r\\n\\r\\n{_SMUGGLED}').encode()", f"400|{_CUT}"),
    _plain("folded-lines", "f'GET / HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\nX: a\\r\\n Host: evil.example\\r\\n\\r\\n'.encode()", f"400|{_CUT}"),
    _plain("bare-line-ends", "f'GET / HTTP/1.1\\nHost: {GOOD}:{PLAIN}\\nX: a\\n\\nGET / HTTP/1.1\\nHost: evil.example\\n\\n'.encode()", f"400|{_CUT}"),
    _plain("connect", "b'CONNECT 10.0.0.5:80 HTTP/1.1\\r\\nHost: 10.0.0.5:80\\r\\n\\r\\n'", f"4..|{_CUT}"),
    _plain("h2c-upgrade", "f'GET / HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nConnection: close\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n\\r\\n'.encode()", f"200|400|{_CUT}"),
    _inside("host-inside-tls", "b'GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n'", "421"),
    _inside("smuggled-inside-tls", f"(f'POST / HTTP/1.1\\r\\nHost: {{GOOD}}:{{WEB}}\\r\\nContent-Length: 6\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n{_SMUGGLED}').encode()", "400"),
    _inside("connect-inside-tls", "b'CONNECT 10.0.0.5:80 HTTP/1.1\\r\\nHost: 10.0.0.5:80\\r\\n\\r\\n'", "405"),
    _inside("trace-inside-tls", "f'TRACE / HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nAuthorization: Bearer {KEY}\\r\\n\\r\\n'.encode()", "405"),
    _inside("fields-by-connection", "f'GET / HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nConnection: authorization\\r\\nAuthorization: Bearer {KEY}\\r\\n\\r\\n'.encode()", "400"),
    _inside("placeholder-in-the-query", "f'GET /?key={KEY} HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nConnection: close\\r\\n\\r\\n'.encode()", "200"),
    _inside("placeholder-in-a-body", "f'POST / HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nConnection: close\\r\\nContent-Length: {len(KEY)}\\r\\n\\r\\n{KEY}'.encode()", "200"),
    _inside("placeholder-in-other-fields", "f'GET / HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nConnection: close\\r\\nUser-Agent: {KEY}\\r\\nCookie: a={KEY}\\r\\nX-Echo: {KEY}\\r\\nReferer: https://a/{KEY}\\r\\n\\r\\n'.encode()", "200"),
    _inside("placeholder-in-a-trailer", "f'POST / HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nTransfer-Encoding: chunked\\r\\nConnection: close\\r\\n\\r\\n0\\r\\nAuthorization: Bearer {KEY}\\r\\n\\r\\n'.encode()", "400"),
    _inside("placeholder-in-a-web-socket", "f'GET /socket HTTP/1.1\\r\\nHost: {GOOD}:{WEB}\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Key: YQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\nAuthorization: Bearer {KEY}\\r\\n\\r\\n'.encode()", "101"),
    _plain("placeholder-in-plain-http", "f'GET / HTTP/1.1\\r\\nHost: {GOOD}:{PLAIN}\\r\\nConnection: close\\r\\nAuthorization: Bearer {KEY}\\r\\n\\r\\n'.encode()", "200"),
    Escape("placeholder-to-another-host", """
context = ssl._create_unverified_context()
s = context.wrap_socket(socket.create_connection(("other.trick.example", OTHER), 20), server_hostname="other.trick.example")
s.sendall(f"GET / HTTP/1.1\\r\\nHost: other.trick.example\\r\\nConnection: close\\r\\nAuthorization: Bearer {KEY}\\r\\n\\r\\n".encode())
print(s.recv(100).split()[1].decode())
""", "200", ("93.184.216.36",)),
    Escape("redirects-to-private", """
import urllib.request
for number in range(REDIRECTS):
    try:
        urllib.request.urlopen(f"http://{GOOD}:{PLAIN}/redirect/{number}", timeout=30).read()
        print("IN")
    except OSError as error:
        reason = getattr(error, "reason", error)
        print(name_of(reason) if isinstance(reason, OSError) else getattr(error, "code", error), end=" ")
""", rf"(({_FAR}|no-name|ECONNREFUSED|4\d\d) ?)+", _LED),
    Escape("hosts-file", f"""
try:
    with open("/etc/hosts", "a") as file:
        file.write("10.0.0.5 {GOOD}\\n127.0.0.1 other.trick.example\\n")
    print(reach("10.0.0.5", WEB))
finally:
    try:
        lines = open("/etc/hosts").readlines()[:-2]
        open("/etc/hosts", "w").writelines(lines)
    except OSError:
        pass
""", _FAR, users=("root",)),
]  # fmt: skip
