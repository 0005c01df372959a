"""The files of a named volume as two files, to be pushed, and back.

    tree    a line of JSON for each name, folders before what is in them:
            [path, "d", mode, time, attributes]
            [path, "f", mode, time, attributes, offset in `data`, size]
            [path, "l", target]         a symbolic link
            [path, "h", other path]     another name of a file before
    data    the contents, each from a whole page on, with their holes

Times are in nanoseconds since 1970, attributes are the host's of `user.` in base64: what guests say
of owners, devices and the like is in them (filesystem/host/notes.py). A tree that comes from elsewhere
is a stranger's: a name is made only in a folder that was made before. Blocking: made for a thread.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sandlot.errors import RemoteDamaged

PAGE = 4096
MAX_LINE = 1 << 20
MOST_NAMES = 20_000_000
_MODES = 0o777
"""Bits of a mode that the host hears; others are noted in attributes."""


def pack(folder: Path, tree: Path, data: Path) -> None:
    """Write the files of a folder, which nobody changes meanwhile, into two files."""
    seen: dict[tuple[int, int], str] = {}
    with tree.open("wb") as lines, data.open("wb", buffering=0) as contents:
        for path, status in _walked(folder):
            name = os.fsencode(path.relative_to(folder)).decode(errors="surrogateescape")
            line = _line(path, name, status, seen, contents)
            if line is not None:
                lines.write(json.dumps(line).encode() + b"\n")


def _walked(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walked(path)


def _line(
    path: Path, name: str, status: os.stat_result, seen: dict[tuple[int, int], str],
    contents: BinaryIO,
) -> list[Any] | None:  # fmt: skip
    kind, mode = stat.S_IFMT(status.st_mode), status.st_mode & _MODES
    if kind == stat.S_IFLNK:
        return [name, "l", os.fsencode(path.readlink()).decode(errors="surrogateescape")]
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        return None  # the guest's pipes and devices are plain files with a note
    head = [name, "d" if kind == stat.S_IFDIR else "f", mode, status.st_mtime_ns, _attributes(path)]
    if kind == stat.S_IFDIR:
        return head
    identity = (status.st_dev, status.st_ino)
    if status.st_nlink > 1 and identity in seen:
        return [name, "h", seen[identity]]
    seen[identity] = name
    offset = contents.seek(0, os.SEEK_END)
    offset += -offset % PAGE
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _copy(descriptor, contents.fileno(), 0, offset, status.st_size)
    finally:
        os.close(descriptor)
    contents.truncate(offset + status.st_size)
    return [*head, offset, status.st_size]


def _attributes(path: Path) -> dict[str, str]:
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("user."):
                value = os.getxattr(path, name, follow_symlinks=False)
                found[name] = base64.b64encode(value).decode()
    return found


def _copy(source: int, target: int, start: int, to: int, size: int) -> None:
    """Copy `size` bytes, and their holes."""
    position, end = start, start + size
    while position < end:
        try:
            begin = os.lseek(source, position, os.SEEK_DATA)
        except OSError:
            return
        position = min(os.lseek(source, begin, os.SEEK_HOLE), end)
        os.lseek(target, to + begin - start, os.SEEK_SET)
        os.lseek(source, begin, os.SEEK_SET)
        while begin < position:
            copied = os.sendfile(target, source, None, position - begin)
            if not copied:
                return
            begin += copied


# Section: back


def unpack(folder: Path, tree: Path, data: Path) -> None:
    """Make the files in an empty folder that nobody else changes.

    Raises:
        RemoteDamaged: the tree says what cannot be; the folder is to be removed then.
    """
    made: dict[str, str] = {"": "d"}
    times: list[tuple[Path, int, int]] = []
    descriptor = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        with tree.open("rb") as lines:
            for _ in range(MOST_NAMES + 1):
                text = lines.readline(MAX_LINE)
                if not text:
                    break
                entry = _entry(text)
                target = folder / _place(entry[0], made)
                made[entry[0]] = entry[1]
                _make(folder, target, entry, descriptor, size, made)
                if entry[1] == "d":
                    times.append((target, entry[2], entry[3]))
            else:
                raise RemoteDamaged(f"a volume has more than {MOST_NAMES} names")
    finally:
        os.close(descriptor)
    for target, mode, when in reversed(times):  # what is in them is made by now
        target.chmod(mode)
        os.utime(target, ns=(when, when))


def _entry(text: bytes) -> list[Any]:
    """A line, of the types that it has to have."""
    wrong = RemoteDamaged("the tree of a volume has a line that cannot be read")
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[0], str):
        raise wrong
    kinds: dict[str, tuple[type, ...]] = {
        "d": (int, int, dict), "f": (int, int, dict, int, int), "l": (str,), "h": (str,),
    }  # fmt: skip
    wanted = kinds.get(entry[1]) if isinstance(entry[1], str) else None
    if wanted is None or [type(each) for each in entry[2:]] != list(wanted):
        raise wrong
    for each in entry[2:]:
        if isinstance(each, int) and not 0 <= each < 1 << 62:
            raise wrong
        if isinstance(each, str) and ("\0" in each or not 0 < len(each) <= 4096):
            raise wrong
    return entry


def _place(name: str, made: dict[str, str]) -> str:
    """A path in a folder that was made before, where nothing is yet."""
    above, _, last = name.rpartition("/")
    try:
        long = len(last.encode(errors="surrogateescape")) > 255
    except UnicodeEncodeError:
        long = True
    wrong = last in ("", ".", "..") or "\0" in last or long or name.startswith("/")
    if wrong or made.get(above) != "d" or name in made:
        raise RemoteDamaged(f"the tree of a volume has a name that cannot be: {name[:80]!r}")
    return name


def _make(
    folder: Path, target: Path, entry: list[Any], data: int, size: int, made: dict[str, str]
) -> None:
    kind = entry[1]
    if kind == "l":
        target.symlink_to(entry[2])
        return
    if kind == "h":
        if made.get(entry[2]) != "f":
            raise RemoteDamaged("the tree of a volume has a second name of what is no file")
        os.link(folder / entry[2], target, follow_symlinks=False)
        return
    mode, when, attributes = entry[2] & _MODES, entry[3], entry[4]
    entry[2] = mode
    if kind == "d":
        target.mkdir(mode=0o700)
        _set(target, attributes)
        return
    offset, length = entry[5], entry[6]
    if offset % PAGE or offset + length > size:
        raise RemoteDamaged("the tree of a volume has a file where there is none")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(descriptor, length)
        _copy(data, descriptor, offset, 0, length)
    finally:
        os.close(descriptor)
    _set(target, attributes)
    target.chmod(mode)
    os.utime(target, ns=(when, when))


def _set(target: Path, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        if not name.startswith("user.") or len(name) > 255 or not isinstance(value, str):
            raise RemoteDamaged("the tree of a volume has an attribute that cannot be")
        try:
            data = base64.b64decode(value, validate=True)
        except ValueError:
            raise RemoteDamaged("the tree of a volume has an attribute that cannot be") from None
        os.setxattr(target, name, data)
