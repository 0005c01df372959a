"""Root takes the guest's side of the network apart. Each attempt spoils a machine of its own."""

from __future__ import annotations

from tests.vm.escapes.escape import ROOT, Escape

_TRY = """
def left():
    # Whatever is still there leads to nothing that is not allowed.
    said = {reach(a, TREASURE, kind, wait=3) for a in (R4, "10.0.0.5", "93.184.216.99", R6) for kind in (TCP, UDP)}
    wanted = {"EACCES", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "timeout", "ECONNREFUSED", "EADDRNOTAVAIL", "ECONNRESET", "EPERM", "EINVAL"}
    return "nothing" if said <= wanted else repr(said)
"""


def _apart(name: str, code: str, says: str = "nothing") -> Escape:
    return Escape(name, _TRY + code, says, users=ROOT)


ESCAPES = [
    _apart("device-down", """
assert run("ip", "link", "set", "eth0", "down") == 0
first = left()
run("ip", "link", "set", "eth0", "up")
run("ip", "route", "add", "default", "dev", "eth0")
assert first == "nothing", first
print(left())
"""),
    _apart("device-removed", """
run("ip", "link", "delete", "eth0")
print(left())
"""),
    _apart("other-routes", """
for family in ("-4", "-6"):
    run("ip", family, "rule", "flush")
    run("ip", family, "route", "flush", "table", "all")
    run("ip", family, "rule", "add", "from", "all", "lookup", "main")
    run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "local")
    run("ip", family, "route", "add", "default", "dev", "eth0")
print(left())
"""),
    _apart("other-addresses", """
for address in ("10.0.0.6/8", "169.254.169.1/16", "192.0.2.2/24", "127.0.0.9/8", "fd00::6/8"):
    run("ip", "address", "add", address, "dev", "eth0")
run("ip", "address", "del", "10.231.0.2/24", "dev", "eth0")
print(left())
"""),
    _apart("own-devices", """
import fcntl
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun9", 0x1001))
run("ip", "link", "set", "tun9", "up")
for kind in ("dummy", "veth", "bridge", "gre", "ipip", "vxlan"):
    run("ip", "link", "add", "x" + kind, "type", kind)
os.write(tun, ip4("10.231.0.2", R4, syn("10.231.0.2", R4, TREASURE)))
os.write(tun, ip4(R4, "10.231.0.2", syn(R4, "10.231.0.2", TREASURE)))
print(left())
"""),
    _apart("second-queue", """
# The gate's own device, opened a second time.
import fcntl
try:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1101))
    os.write(tun, ip4("10.231.0.2", R4, syn("10.231.0.2", R4, TREASURE)))
except OSError:
    pass
print(left())
"""),
    _apart("firewall", """
for rules in ("flush ruleset", "table ip n { chain o { type nat hook output priority -100; ip daddr 93.184.216.99 dnat to 10.231.0.1; }; }", "table ip n { chain p { type nat hook postrouting priority 100; masquerade; }; }"):
    run("nft", rules)
print(left())
"""),
    _apart("without-bpf", """
# Every program that steers connections is detached.
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\\0"))
    return libc.syscall(321, command, buffer, 128)
groups = [root for root, _, _ in os.walk("/sys/fs/cgroup")]
for group in groups:
    fd = os.open(group, os.O_RDONLY)
    for kind in range(0, 45):
        bpf(9, struct.pack("IIII", fd, 0, kind, 0))
for number in range(64):
    link = bpf(30, struct.pack("II", number, 0))
    if link >= 0:
        bpf(34, struct.pack("I", link))
print(left())
"""),
    _apart("settings-of-the-kernel", """
for path, value in (("ipv4/ip_forward", "1"), ("ipv4/conf/all/route_localnet", "1"), ("ipv4/conf/all/accept_source_route", "1"), ("ipv4/ip_nonlocal_bind", "1"), ("ipv6/conf/all/forwarding", "1"), ("ipv4/conf/all/accept_redirects", "1")):
    with open("/proc/sys/net/" + path, "w") as file:
        file.write(value)
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.settimeout(3)
try:
    s.connect((R4, TREASURE))
    print("IN")
except OSError:
    print(left())
"""),
    _apart("marked-sockets", """
# Sockets that say of themselves that they were let through.
for mark in (1, 2, 0x53, 0x5A4E, 0xFFFFFFFF, MARK):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, 36, struct.pack("I", mark))
        s.settimeout(3)
        try:
            s.connect(("10.0.0.5", TREASURE))
            s.send(CATCH)
            print("IN" if s.recv(10) else "", end="")
        except OSError:
            pass
print(left())
"""),
    _apart("garbage-on-the-agents-port", """
# Whoever writes on the channel is the guest; the host ends a machine that breaks its rules.
import glob, random
random.seed(7)
print("garbage", flush=True)
sys.stdout.close()
os.close(1)
for path in glob.glob("/dev/vport*"):
    for agent in (None, 1):
        try:
            if agent is None:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            else:
                pidfd = os.pidfd_open(1)
                import ctypes
                libc = ctypes.CDLL(None)
                for number in range(3, 40):
                    fd = libc.syscall(438, pidfd, number, 0)
                    if fd >= 0 and os.readlink("/proc/self/fd/%d" % fd).startswith("/dev/vport"):
                        break
            for _ in range(200):
                os.write(fd, random.randbytes(1000))
        except OSError:
            pass
os._exit(0)
""", "garbage"),
    _apart("agent-stopped", """
import signal
for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
    os.kill(1, number)
print(left())
"""),
]  # fmt: skip
