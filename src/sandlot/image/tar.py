"""Reading tar streams: bytes from a stranger become nodes, and nothing is ever extracted.

Read are the ustar, GNU and PAX forms (POSIX.1-2008 `pax`, and "Basic Tar Format" and "Storing
Sparse Files" of the GNU tar manual), long names, extended attributes and sparse files. The
standard library's reader is not used: it takes headers of any size into memory, and it costs
more per member than the image's writer does. Every count and length has its bound here.
"""

from __future__ import annotations

import base64
import binascii
import io
import stat
import struct
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandlot.errors import ImageError
from sandlot.image.ondisk import xattr_supported
from sandlot.image.tree import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandlot.image.contents import Reader

RECORD = 512
MAX_HEADER = 1 << 20  # bytes of extended headers of one member
MAX_MEMBERS = 4_000_000
MAX_EXTENTS = 1 << 18  # pieces of one sparse file

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_KINDS = {
    b"0": stat.S_IFREG,
    b"\0": stat.S_IFREG,
    b"7": stat.S_IFREG,  # "contiguous"
    b"S": stat.S_IFREG,  # GNU sparse
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"D": stat.S_IFDIR,  # GNU incremental dump
    b"6": stat.S_IFIFO,
}
_HARD_LINK = b"1"
_WITH_DATA = (b"0", b"\0", b"7", b"S", b"D")

_Pairs = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Member:
    """One entry of a tar stream.

    `node` describes it, or `link` is the path of the file that it is a hard link to. A regular
    file's bytes come from `content` until the next member is asked for; with `extents` they
    are only the (offset, length) pieces of a sparse file.
    """

    path: bytes
    node: Node | None
    link: bytes | None = None
    content: Reader = field(default_factory=lambda: io.BytesIO())
    extents: list[tuple[int, int]] | None = None


def read_tar(stream: Reader) -> Iterator[Member]:
    """The members of a tar stream that is not compressed, one after the other, to its end.

    Raises ImageError when it is damaged or holds what no image may hold.
    """
    source = _Source(stream)
    shared: _Pairs = []  # PAX records that hold for all further members
    for _ in range(MAX_MEMBERS):
        source.headers = 0
        pairs: _Pairs = []
        names: dict[bytes, bytes] = {}
        while True:
            header = source.header()
            if header is None:
                if pairs or names:
                    raise ImageError("the tar stream ends after an extended header")
                source.drain()
                return
            kind = header[156:157]
            if kind in b"xX":
                pairs += _pax(source.extended(_number(header[124:136])))
            elif kind == b"g":
                shared += _pax(source.extended(_number(header[124:136])))
                if sum(len(k) + len(v) for k, v in shared) > MAX_HEADER:
                    raise ImageError("the tar stream's global headers are too large")
            elif kind in b"LK":
                names[kind] = source.extended(_number(header[124:136])).split(b"\0", 1)[0]
            elif kind in b"VA":  # volume label, Solaris ACL
                source.extended(_number(header[124:136]))
            else:
                break
        yield _member(source, header, shared + pairs, names)
        source.skip()
    raise ImageError(f"a layer has more than {MAX_MEMBERS} files (MAX_MEMBERS)")


def _member(source: _Source, header: bytes, pairs: _Pairs, names: dict[bytes, bytes]) -> Member:
    (
        name, mode, uid, gid, raw_size, mtime, _, kind, link, magic, _, _, major, minor, prefix,
    ) = _HEADER.unpack(header)  # fmt: skip
    path = name.split(b"\0", 1)[0]
    if prefix[0] and magic[:6] == b"ustar\0":  # GNU's magic differs: it has other things there
        path = prefix.split(b"\0", 1)[0] + b"/" + path
    path = names.get(b"L", path)
    target = names.get(b"K") or link.split(b"\0", 1)[0]
    pax = dict(pairs)
    path = pax.get(b"GNU.sparse.name") or pax.get(b"path") or path
    target = pax.get(b"linkpath") or target
    size = _decimal(pax[b"size"]) if b"size" in pax else _number(raw_size)
    if not 0 <= size < 1 << 60:
        raise ImageError(f"tar member {path[:300]!r} has the impossible size {size}")

    if kind == _HARD_LINK:
        return Member(path, None, link=target)
    if kind in b"0\0" and path.endswith(b"/"):  # as V7 tar wrote directories
        kind = b"5"
    if kind not in _KINDS:
        raise ImageError(f"tar member {path[:300]!r} has the unknown type {kind!r}")
    source.begin(size if kind in _WITH_DATA else 0)

    seconds, nanoseconds = _time(pax[b"mtime"]) if b"mtime" in pax else (_number(mtime), 0)
    node = Node(
        _KINDS[kind] | _number(mode) & 0o7777,
        uid=_decimal(pax[b"uid"]) if b"uid" in pax else _number(uid),
        gid=_decimal(pax[b"gid"]) if b"gid" in pax else _number(gid),
        mtime=seconds,
        mtime_ns=nanoseconds,
        xattrs=_xattrs(pairs) if pairs else None,
    )
    member = Member(path, node, content=source)
    if kind in b"34":
        node.device = (_number(major), _number(minor))
    elif kind == b"2":
        if b"\0" in target:
            raise ImageError(f"symbolic link {path[:300]!r} points to a name with a NUL byte")
        node.target = target
    elif kind in _WITH_DATA and not node.is_dir:
        node.size, member.extents = _sparse(source, header, kind, pairs, pax, size)
        if not 0 <= node.size < 1 << 60:
            raise ImageError(f"tar member {path[:300]!r} has the impossible size {node.size}")
    return member


# Section: sparse files


def _sparse(
    source: _Source, header: bytes, kind: bytes, pairs: _Pairs, pax: dict[bytes, bytes],
    size: int,
) -> tuple[int, list[tuple[int, int]] | None]:  # fmt: skip
    """A file's real size, and the pieces of it that are stored, in any of GNU's four ways."""
    if kind == b"S":
        extents = _old_sparse_map(source, header)
        real = _number(header[483:495])
    elif pax.get(b"GNU.sparse.major") == b"1":
        extents, real = _sparse_map_in_data(source), _decimal(pax.get(b"GNU.sparse.realsize", b""))
    elif b"GNU.sparse.size" in pax:
        real = _decimal(pax[b"GNU.sparse.size"])
        if b"GNU.sparse.map" in pax:
            numbers = [_decimal(n) for n in pax[b"GNU.sparse.map"].split(b",") if n]
            offsets, lengths = numbers[::2], numbers[1::2]
        else:
            offsets = [_decimal(v) for k, v in pairs if k == b"GNU.sparse.offset"]
            lengths = [_decimal(v) for k, v in pairs if k == b"GNU.sparse.numbytes"]
        if len(offsets) != len(lengths):
            raise ImageError("a sparse file's map is damaged")
        extents = list(zip(offsets, lengths, strict=True))
    else:
        return size, None
    if sum(length for _, length in extents) != source.remaining:
        raise ImageError("a sparse file's map does not fit its contents")
    return real, extents


def _old_sparse_map(source: _Source, header: bytes) -> list[tuple[int, int]]:
    extents = _old_sparse_entries(header[386:482])
    more = header[482]
    stored = source.remaining
    source.begin(0)
    while more:
        block = source.block()
        extents += _old_sparse_entries(block[:504])
        more = block[504]
        if len(extents) > MAX_EXTENTS:
            raise ImageError("a sparse file has too many pieces")
    source.begin(stored)
    return extents


def _old_sparse_entries(field: bytes) -> list[tuple[int, int]]:
    entries = []
    for at in range(0, len(field), 24):
        if not field[at]:
            break
        entries.append((_number(field[at : at + 12]), _number(field[at + 12 : at + 24])))
    return entries


def _sparse_map_in_data(source: _Source) -> list[tuple[int, int]]:
    """Version 1.0: decimal lines at the front of the contents, filled up to whole records."""
    numbers: list[int] = []
    count: int | None = None
    rest = b""
    while count is None or len(numbers) < 2 * count:
        block = source.read(RECORD)
        if len(block) != RECORD:
            raise ImageError("a sparse file's map is damaged")
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if count is None:
                count = _decimal(line)
                if not 0 <= count <= MAX_EXTENTS:
                    raise ImageError("a sparse file has too many pieces")
            elif len(numbers) < 2 * count:
                numbers.append(_decimal(line))
        if len(rest) > 2 * RECORD:
            raise ImageError("a sparse file's map is damaged")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


# Section: fields


def _number(field: bytes) -> int:
    """A header's number: octal digits, or GNU's big-endian form whose first bit is set."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            return int.from_bytes(field, "big", signed=True)
        return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    # The common case is a plain run of digits; int() alone would also take signs and "_".
    if not digits.isdigit():
        digits = digits.split(b"\0", 1)[0].split(b" ", 1)[0]
        if not digits.isdigit():
            raise ImageError("a tar header contains a damaged number")
    try:
        return int(digits, 8)
    except ValueError:
        raise ImageError("a tar header contains a damaged number") from None


def _decimal(text: bytes) -> int:
    if not text.removeprefix(b"-").isdigit() or len(text) > 20:
        raise ImageError(f"a tar header contains the damaged number {text[:40]!r}")
    return int(text)


def _time(text: bytes) -> tuple[int, int]:
    """A PAX time, decimal with a fraction, as seconds and nanoseconds that are not negative."""
    whole, _, fraction = text.partition(b".")
    digits = fraction[:9].ljust(9, b"0")
    if not digits.isdigit():
        raise ImageError(f"a tar header contains the damaged time {text[:40]!r}")
    seconds, nanoseconds = _decimal(whole), int(digits)
    if text.startswith(b"-") and nanoseconds:
        return seconds - 1, 1_000_000_000 - nanoseconds
    return seconds, nanoseconds


def _pax(data: bytes) -> _Pairs:
    """The records of a PAX header: `length key=value` and a newline, the length in bytes."""
    pairs: _Pairs = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        length = data[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        if not at < space < end <= len(data) or data[end - 1] != 0x0A:
            raise ImageError("a PAX header is damaged")
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator or not key:
            raise ImageError("a PAX header is damaged")
        pairs.append((key, value))
        at = end
    return pairs


def _xattrs(pairs: _Pairs) -> dict[bytes, bytes] | None:
    """The extended attributes that an image can hold; others, as of macOS, are left out."""
    found: dict[bytes, bytes] = {}
    for key, value in pairs:
        if key.startswith(b"SCHILY.xattr."):
            name = key[13:]
        elif key.startswith(b"LIBARCHIVE.xattr."):
            name = urllib.parse.unquote_to_bytes(key[17:])
            try:
                value = base64.b64decode(value + b"=" * (-len(value) % 4))
            except binascii.Error:
                raise ImageError("a PAX header contains a damaged attribute") from None
        else:
            continue
        if xattr_supported(name):
            found[name] = value
    return found or None


# Section: the stream


class _Source:
    """The stream, record by record; also the reader of the current member's contents."""

    def __init__(self, stream: Reader) -> None:
        self._stream = stream
        self._seen = False
        self._padding = 0
        self.remaining = 0  # of the current member's contents
        self.headers = 0  # bytes of the current member's extended headers

    def header(self) -> bytes | None:
        """The next header, or None at the archive's end. Its checksum is verified."""
        block = self._read(RECORD)
        if not block and self._seen:
            return None  # without the two zero blocks: some tools write this
        if len(block) != RECORD:
            raise ImageError("the tar stream ends in the middle" if self._seen else "no tar stream")
        if not block[0] and not block.strip(b"\0"):
            self._seen = True
            return None
        try:
            expected = _number(block[148:156])
        except ImageError:
            if self._seen:
                raise
            raise ImageError("this is no tar stream") from None
        total = sum(block) - sum(block[148:156]) + 256
        if total != expected:
            # Some old tools summed signed bytes.
            high = sum(byte >= 0x80 for byte in block[:148] + block[156:])
            if total - 256 * high != expected:
                what = "a tar header is damaged" if self._seen else "this is no tar stream"
                raise ImageError(f"{what}: its checksum is wrong")
        self._seen = True
        return block

    def extended(self, size: int) -> bytes:
        """The contents of an extended header."""
        self.headers += max(size, 0) + RECORD
        if not 0 <= size <= MAX_HEADER or self.headers > MAX_HEADER:
            raise ImageError(
                f"extended tar headers of {max(self.headers, size)} bytes are more than"
                f" {MAX_HEADER} (MAX_HEADER)"
            )
        data = self._read(size + -size % RECORD)
        if len(data) < size:
            raise ImageError("the tar stream ends in the middle")
        return data[:size]

    def block(self) -> bytes:
        data = self._read(RECORD)
        if len(data) != RECORD:
            raise ImageError("the tar stream ends in the middle")
        return data

    def begin(self, size: int) -> None:
        """Contents of this many bytes follow."""
        self.remaining = size
        self._padding = -size % RECORD

    def read(self, size: int, /) -> bytes:
        data = self._read(min(size, self.remaining))
        self.remaining -= len(data)
        if not data and size and self.remaining:
            raise ImageError("the tar stream ends in the middle")
        return data

    def skip(self) -> None:
        """Leave the current member behind."""
        while self.remaining:
            self.read(1 << 20)
        if self._padding:
            if len(self._read(self._padding)) != self._padding:
                raise ImageError("the tar stream ends in the middle")
            self._padding = 0

    def drain(self) -> None:
        """Read to the end, so that a pipe's writer is content and a checksum is verified."""
        while self._read(1 << 20):
            pass

    def _read(self, size: int) -> bytes:
        return self._stream.read(size)
