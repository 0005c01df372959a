"""What this machine knows of remotes: in its state directory, below `remotes`.

    pins.json              the ring that was seen at each address
    RING/seen.json         the last version that was seen of each name, so that none is taken back
    RING/bases.json        which version each sandbox, snapshot and volume here is or came from, of
                           each name that it was pushed under
    RING/index/ID          indexes that were read
    RING/journal/PACK      packs that were sent and are in no index yet
    RING/lists/FILE        the chunks of files that do not change, and the digest of their contents

All but the first three can be lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandlot.errors import RemoteDamaged, StateError
from sandlot.remote.index import Entry, make_list, parse_list
from sandlot.state.records import write_json

UNUSED = 60 * 86400.0
"""Seconds after which the chunks of a file that nobody asked for are forgotten."""
_CHECK = 8


@dataclass(frozen=True)
class Base:
    """The version that something here is, or came from."""

    name: str
    version: int
    digest: str


def pinned_ring(root: Path, address: str) -> str:
    """The fingerprint of the ring that was seen at an address; empty when none was."""
    return str(_read(root / "pins.json").get(address, ""))


class Known:
    """What is known of the remotes with one ring."""

    def __init__(self, root: Path, ring: str) -> None:
        self._root = root
        self._folder = root / ring
        for path in (self._folder, *(self._folder / n for n in ("index", "journal", "lists"))):
            try:
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StateError(
                    f"the state directory cannot be written: {path}: {error.strerror}",
                    hint="make it writable, or set SANDLOT_DATA to a folder that is",
                ) from error

    # -- what was seen ---------------------------------------------------------------------

    def check_ring(self, address: str, fingerprint: str) -> bool:
        """Whether this ring was seen at the address before.

        Raises:
            RemoteDamaged: another one was.
        """
        pinned = _read(self._root / "pins.json").get(address)
        if pinned is not None and pinned != fingerprint:
            raise RemoteDamaged(
                f"{address} has another ring of keys than it had: {fingerprint}, not {pinned}",
                hint="somebody may have put it there to read what you push; if you made it anew "
                "yourself, say so once with --fingerprint and what `sandlot key ls` tells where it "
                "was made",
                address=address,
            )
        return pinned is not None

    def note_ring(self, address: str, fingerprint: str) -> None:
        """This ring is the one at the address."""
        with _changing(self._root / "pins.json") as pins:
            pins[address] = fingerprint

    def seen(self, name_id: str) -> tuple[int, str] | None:
        """Counter and digest of the last head that was seen of a name."""
        found = _read(self._folder / "seen.json").get(name_id)
        return (int(found[0]), str(found[1])) if found else None

    def note_seen(self, name_id: str, counter: int, digest: str) -> None:
        """A head was seen, or put."""
        with _changing(self._folder / "seen.json") as seen:
            if not seen.get(name_id) or seen[name_id][0] <= counter:
                seen[name_id] = [counter, digest]

    def base(self, kind: str, id: str, name: str) -> Base | None:
        """The version of a name that something here is or came from."""
        found = _read(self._folder / "bases.json").get(f"{kind}/{id}/{name}")
        return Base(**found) if found else None

    def note_base(self, kind: str, id: str, base: Base) -> None:
        """Something here is this version now."""
        with _changing(self._folder / "bases.json") as bases:
            bases[f"{kind}/{id}/{base.name}"] = asdict(base)

    # -- indexes and packs -----------------------------------------------------------------

    def index(self, id: str) -> bytes | None:
        """An index that was read before."""
        return _checked_read(self._folder / "index" / id)

    def note_index(self, id: str, data: bytes) -> None:
        """Keep an index, which never changes."""
        _checked_write(self._folder / "index" / id, data)

    def forget_indexes(self, there: set[str]) -> None:
        """Forget those that are not there any more."""
        for path in (self._folder / "index").iterdir():
            if path.name not in there:
                path.unlink(missing_ok=True)

    def note_sent(self, pack: bytes, index: bytes) -> None:
        """A pack is in the remote, and in no index yet."""
        _checked_write(self._folder / "journal" / pack.hex(), index)

    def sent(self) -> dict[bytes, bytes]:
        """The packs that are in no index yet, with an index of each."""
        found = {}
        for path in (self._folder / "journal").iterdir():
            data = None if path.name.startswith(".") else _checked_read(path)
            if data is not None:
                found[bytes.fromhex(path.name)] = data
        return found

    def forget_sent(self, packs: Iterator[bytes] | list[bytes]) -> None:
        """Those are in an index now, or gone."""
        for pack in packs:
            (self._folder / "journal" / pack.hex()).unlink(missing_ok=True)

    # -- files -----------------------------------------------------------------------------

    def chunks(self, status: os.stat_result) -> tuple[str, list[Entry]] | None:
        """The digest of the contents of a file, and its chunks, if it was read before."""
        path = self._folder / "lists" / _file(status)
        data = _checked_read(path)
        if data is None or len(data) < 32:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        try:
            return data[:32].hex(), parse_list(data[32:], status.st_size)
        except RemoteDamaged:
            return None

    def note_chunks(self, status: os.stat_result, contents: str, entries: list[Entry]) -> None:
        """Keep the chunks of a file that does not change any more."""
        data = bytes.fromhex(contents) + make_list(entries)
        _checked_write(self._folder / "lists" / _file(status), data)

    def tidy(self) -> None:
        """Forget the chunks of files that nobody asked for in a long time."""
        for path in (self._folder / "lists").iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > UNUSED:
                    path.unlink()


def _file(status: os.stat_result) -> str:
    """What stands for a file as it is: another content has another time of change."""
    return f"{status.st_dev:x}-{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StateError(
            f"{path} cannot be read: {error}",
            hint="it guards against old versions being passed off as new; remove it if it is lost",
        ) from error
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[dict[str, Any]]:
    """The content of a file, written back at the end; one program at a time."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        found = _read(path)
        yield found
        write_json(path, found)
    finally:
        os.close(descriptor)


def _checked_write(path: Path, data: bytes) -> None:
    """What may be lost, but not be half there."""
    part = path.with_name(f".{secrets.token_hex(6)}")
    try:
        part.write_bytes(hashlib.sha256(data).digest()[:_CHECK] + data)
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)


def _checked_read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    whole = hashlib.sha256(data[_CHECK:]).digest()[:_CHECK] == data[:_CHECK]
    return data[_CHECK:] if whole else None
