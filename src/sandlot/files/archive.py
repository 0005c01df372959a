"""Archives on the wire, sans-io: what a guest sends becomes members, bounded; members become headers.

The form is ustar with PAX records (POSIX.1-2008, "pax Interchange Format"). Only what the agent
writes is understood; whatever else comes is the guest's breach.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sandlot.errors import FileError, GuestProtocolError

RECORD = 512
END = bytes(2 * RECORD)
MAX_PAX = 1 << 20  # bytes of one PAX header
MAX_NAME = 255  # bytes of one component
MAX_DEPTH = 1000  # folders below each other
MAX_TARGET = 4096  # bytes of a link's target

FILE, HARD_LINK, SYMLINK, CHAR, BLOCK, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_KINDS = frozenset((FILE, HARD_LINK, SYMLINK, CHAR, BLOCK, FOLDER, FIFO))
_FAILURE = b"F"

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_MAX_OCTAL_11 = 8**11 - 1
_MAX_OCTAL_7 = 8**7 - 1
_BLANK = b" " * 8


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `parts` are its names from the root down, none of them empty or dots."""

    kind: bytes
    parts: tuple[bytes, ...]
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class Failure:
    """The agent's reason for ending early."""

    path: bytes
    errno: int
    text: str


Event = Member | Failure | memoryview


class ArchiveReader:
    """Takes an archive as it comes.

        for event in reader.feed(data):   # Member, then memoryviews of its contents; or Failure

    `complete` says whether the archive's end was seen.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        self._padding = 0
        self._pax: dict[bytes, bytes] = {}
        self._special: tuple[bytes, Member | None, bytearray] | None = None
        self._zero_blocks = 0

    @property
    def complete(self) -> bool:
        """Whether the two blocks of zeros at the end have come."""
        return self._zero_blocks >= 2

    def feed(self, data: bytes) -> Iterator[Event]:
        """Go through what came. Views are valid until the next call.

        Raises:
            GuestProtocolError: this is no archive that an agent makes.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        view, at, end = memoryview(data), 0, len(data)
        while True:
            if self._left:
                take = min(self._left, end - at)
                if not take:
                    break
                self._left -= take
                piece = view[at : at + take]
                at += take
                if self._special is None:
                    yield piece
                else:
                    self._special[2].extend(piece)
                if self._left:
                    break
            if self._special is not None:
                event = self._finish_special()
                if event is not None:
                    yield event
            if self._padding:
                take = min(self._padding, end - at)
                self._padding -= take
                at += take
                if self._padding:
                    break
            if end - at < RECORD:
                self._rest = data[at:]
                break
            block = data[at : at + RECORD]
            at += RECORD
            if not block[0] and not block.strip(b"\0"):
                self._zero_blocks += 1
                if self._zero_blocks > 2:
                    raise GuestProtocolError("the guest's archive goes on after its end")
                continue
            if self._zero_blocks:
                raise GuestProtocolError("the guest's archive goes on after its end")
            member = self._header(block)
            if member is not None:
                yield member

    def _header(self, block: bytes) -> Member | None:
        (
            name, mode, uid, gid, size, mtime, total, kind, target, *_,
        ) = _HEADER.unpack(block)  # fmt: skip
        if sum(block) - sum(total) + 256 != _octal(total):
            raise GuestProtocolError("the guest's archive has a damaged header")
        length = _octal(size)
        if kind == b"x":
            if not 0 < length <= MAX_PAX or self._pax:
                raise GuestProtocolError(f"the guest's archive has a PAX header of {length} bytes")
            self._begin(length, (b"x", None, bytearray()))
            return None
        pax, self._pax = self._pax, {}
        path = pax.get(b"path", name.rstrip(b"\0"))
        if b"size" in pax:
            length = _decimal(pax[b"size"])
        if length >= 1 << 62:
            raise GuestProtocolError(f"the guest's archive has a file of {length} bytes")
        mtime_ns = _time(pax[b"mtime"]) if b"mtime" in pax else _octal(mtime) * 10**9
        if kind == _FAILURE:
            if length > 4096:
                raise GuestProtocolError("the guest's reason for a failure is too long")
            self._begin(length, (path, Member(kind, (), mtime_ns=mtime_ns), bytearray()))
            return None
        if kind not in _KINDS:
            raise GuestProtocolError(f"the guest's archive has a member of type {kind!r}")
        link = pax.get(b"linkpath", target.rstrip(b"\0"))
        if (len(link) > MAX_TARGET and kind == SYMLINK) or b"\0" in link:
            raise GuestProtocolError("the guest's archive has a link to an impossible name")
        if kind != FILE and length:
            raise GuestProtocolError("the guest's archive has contents where none can be")
        self._begin(length, None)
        return Member(
            kind, split_name(path), _octal(mode) & 0o7777,
            _decimal(pax[b"uid"]) if b"uid" in pax else _octal(uid),
            _decimal(pax[b"gid"]) if b"gid" in pax else _octal(gid),
            length, mtime_ns, link,
        )  # fmt: skip

    def _begin(self, length: int, special: tuple[bytes, Member | None, bytearray] | None) -> None:
        self._left = length
        self._padding = -length % RECORD
        self._special = special

    def _finish_special(self) -> Failure | None:
        assert self._special is not None
        path, member, body = self._special
        self._special = None
        if member is None:
            self._pax = _records(bytes(body))
            return None
        number = member.mtime_ns // 10**9
        return Failure(path, number if 0 <= number < 4096 else 0, body.decode(errors="replace"))


def split_name(path: bytes) -> tuple[bytes, ...]:
    """A member's name as components; `.` and doubled slashes mean nothing.

    Raises:
        GuestProtocolError: it leads out of the root, or has a longer name than any real one.
        FileError: it lies deeper than is followed.
    """
    parts = tuple(part for part in path.split(b"/") if part not in (b"", b"."))
    if path.startswith(b"/") or b".." in parts or b"\0" in path:
        raise GuestProtocolError(f"the guest's archive names {path[:200]!r}, which leads out of it")
    if len(parts) > MAX_DEPTH:
        raise FileError(
            f"folders are nested more than {MAX_DEPTH} deep in the sandbox",
            path=path.decode(errors="surrogateescape"), number=errno.ENAMETOOLONG,
        )  # fmt: skip
    if any(len(part) > MAX_NAME for part in parts):
        raise GuestProtocolError(f"the guest's archive has a name of more than {MAX_NAME} bytes")
    return parts


def stays_inside(member: Member) -> bool:
    """Whether a symbolic link leads nowhere outside the root, whatever other such links there are.

    It may begin with as many `..` as its folder is deep; one after another name could climb out by
    way of a link.
    """
    if member.target.startswith(b"/"):
        return False
    parts = [part for part in member.target.split(b"/") if part not in (b"", b".")]
    ups = 0
    while ups < len(parts) and parts[ups] == b"..":
        ups += 1
    return ups < len(member.parts) and b".." not in parts[ups:]


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise GuestProtocolError("the guest's archive has a damaged number")


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise GuestProtocolError("the guest's archive has a damaged number")
    return int(text)


def _time(text: bytes) -> int:
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    fraction = fraction[:9].ljust(9, b"0")
    if len(whole) > 11 or not whole.isdigit() or not fraction.isdigit():
        raise GuestProtocolError("the guest's archive has a damaged time")
    ns = int(whole) * 10**9 + int(fraction)
    if ns >= 1 << 63:
        raise GuestProtocolError("the guest's archive has a damaged time")
    return -ns if text.startswith(b"-") else ns


def _records(data: bytes) -> dict[bytes, bytes]:
    """`length key=value` and a newline each; the last of equal keys counts."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 9)
        length = data[at:space] if space > at else b""
        end = at + int(length) if length.isdigit() else 0
        if not at < space < end <= len(data) or data[end - 1] != 0x0A:
            raise GuestProtocolError("the guest's archive has a damaged PAX header")
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator or not key:
            raise GuestProtocolError("the guest's archive has a damaged PAX header")
        found[key] = value
        at = end
    return found


# Section: writing


def header(member: Member, name: bytes | None = None) -> bytes:
    """A member's header, with its PAX header where one is needed."""
    name = b"/".join(member.parts) if name is None else name
    records = b""
    for key, value in _extra(member, name):
        records += _record(key, value)
    plain = _ustar(member, name)
    if not records:
        return plain
    head = _ustar(Member(b"x", (), size=len(records)), b"././@PaxHeader")
    return head + records + bytes(-len(records) % RECORD) + plain


def _extra(member: Member, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(name) > 100:
        yield b"path", name
    if len(member.target) > 100:
        yield b"linkpath", member.target
    if member.size > _MAX_OCTAL_11:
        yield b"size", b"%d" % member.size
    if member.uid > _MAX_OCTAL_7:
        yield b"uid", b"%d" % member.uid
    if member.gid > _MAX_OCTAL_7:
        yield b"gid", b"%d" % member.gid
    seconds, ns = divmod(abs(member.mtime_ns), 10**9)
    if ns or member.mtime_ns < 0 or seconds > _MAX_OCTAL_11:
        sign = b"-" if member.mtime_ns < 0 else b""
        yield b"mtime", b"%s%d.%09d" % (sign, seconds, ns)


def _record(key: bytes, value: bytes) -> bytes:
    """A record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    size = rest + len(str(size))
    return b"%d %s=%s\n" % (size, key, value)


def _ustar(member: Member, name: bytes) -> bytes:
    seconds = min(max(member.mtime_ns, 0) // 10**9, _MAX_OCTAL_11)
    fields = [
        name[:100], b"%07o" % (member.mode & 0o7777), b"%07o" % min(member.uid, _MAX_OCTAL_7),
        b"%07o" % min(member.gid, _MAX_OCTAL_7), b"%011o" % min(member.size, _MAX_OCTAL_11),
        b"%011o" % seconds, _BLANK, member.kind, member.target[:100], b"ustar\x0000",
        b"", b"", b"", b"", b"",
    ]  # fmt: skip
    block = _HEADER.pack(*fields)
    fields[6] = b"%06o\0 " % sum(block)
    return _HEADER.pack(*fields)
