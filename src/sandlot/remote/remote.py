"""`Remote`: a place that things are pushed to, with the keys for it, as users hold it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError, KeyMissing, RemoteDamaged
from sandlot.remote.address import is_address, parse_address
from sandlot.remote.collecting import Collected, collect
from sandlot.remote.configured import find_remote
from sandlot.remote.keys import Keys, checked_recipient, read_key_file
from sandlot.remote.limited import limited
from sandlot.remote.manifest import Version
from sandlot.remote.opening import open_store
from sandlot.remote.place import Place, parse_place
from sandlot.remote.repository import Repository, open_repository, rewrap
from sandlot.settings import Settings
from sandlot.sizes import parse_size
from sandlot.state.paths import StatePaths


@dataclass(frozen=True)
class PushedName:
    """Something that was pushed: its name, `sandbox`, `snapshot` or `volume`, and its versions."""

    name: str
    kind: str
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Readers:
    """Who can open a remote, and the fingerprint of its ring of keys. `passphrase` tells whether
    one opens it, `endorsed` whether your key proves that the ring is not the store's own."""

    fingerprint: str
    recipients: tuple[str, ...]
    passphrase: bool
    endorsed: bool


class Remote:
    """Where something is pushed to, and the keys.

        backup = Remote("s3://bucket/sandboxes", key="~/work.key")
        await sb.push(backup)

    An address alone does where the default key is used.

    Args:
        address: `s3://bucket/prefix`, `oci://host/repository`, `ssh://user@host/path`, a folder; or
            the name of a remote that `sandlot remote add` has written down. The default one when
            it is empty.
        key: a key file; SANDLOT_KEY, else XDG_CONFIG_HOME/sandlot/key when None. A passphrase alone
            needs none.
        passphrase: opens it too; it goes through scrypt.
        recipients: who else may read what is pushed, when this makes the remote.
        rate: bytes in a second, or text such as `"2M"`, that are moved at most.
        fingerprint: of the remote's keys, as somebody told it who pushes there. It is needed once on
            each machine whose key only was added to them as a recipient: nothing else proves that
            they are not the store's own.
    """

    def __init__(
        self, address: str = "", *, key: str | os.PathLike[str] | None = None,
        passphrase: str | None = None, recipients: Sequence[str] = (),
        rate: int | str | None = None, fingerprint: str = "",
    ) -> None:  # fmt: skip
        self._address = address
        self._key = key
        self._passphrase = passphrase
        self._recipients = [checked_recipient(each) for each in recipients]
        self._fingerprint = fingerprint
        self._rate = parse_size(rate, "rate") if rate is not None else 0

    def __repr__(self) -> str:
        return f"<Remote {self._address or 'default'}>"

    @classmethod
    def of(cls, place: str | Remote | None) -> Remote:
        """One from what users give for one."""
        return place if isinstance(place, Remote) else cls(place or "")

    def keys(self) -> Keys:
        """What opens it.

        Raises:
            KeyMissing, ConfigError
        """
        settings = Settings.read()
        passphrase = self._passphrase
        if passphrase is None and settings.passphrase_file:
            passphrase = read_passphrase(Path(settings.passphrase_file))
        path = Path(self._key or settings.key).expanduser()
        try:
            return Keys(read_key_file(path), passphrase or "")
        except KeyMissing:
            if self._key is None and passphrase:
                return Keys((), passphrase)
            raise

    def to_record(self) -> dict[str, Any]:
        """What opens it again in any program of this user: no key, but where that lies.

        Raises:
            ConfigError: only this program can open it.
        """
        settings = Settings.read()
        path = Path(self._key or settings.key).expanduser().absolute()
        if self._passphrase is not None and not path.exists():
            raise ConfigError(
                "the remote is opened again later, and only this program knows the passphrase",
                hint="have it in a file that SANDLOT_PASSPHRASE_FILE names, or use a key file",
            )
        address = find_remote(self._address, settings)
        if parse_address(address).kind == "folder":
            address = str(Path(parse_address(address).path).expanduser().absolute())
        return {
            "address": address, "key": str(path),
            "passphrase_file": str(settings.passphrase_file or ""), "rate": self._rate,
        }  # fmt: skip

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Remote:
        """The one that a record is of.

        Raises:
            ConfigError: the passphrase's file cannot be read.
        """
        key, file = Path(record["key"]), record["passphrase_file"]
        return cls(
            record["address"], key=key if key.exists() or not file else None,
            passphrase=read_passphrase(Path(file)) if file else None,
            rate=int(record["rate"]) or None,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def open(
        self, *, create: bool = False, looking: bool = False
    ) -> AsyncIterator[Repository]:
        """The open remote, for the calls of this program.

        Args:
            create: make it, if nothing was ever pushed there.
            looking: only to see who can open it.
        """
        settings = Settings.read()
        keys = self.keys()
        store = open_store(find_remote(self._address, settings))
        if self._rate:
            store = limited(store, self._rate)
        async with store:
            with blamed(store.address):
                yield await open_repository(
                    store, keys, StatePaths.of(settings).remotes, create=create,
                    recipients=self._recipients, fingerprint=self._fingerprint, looking=looking,
                )  # fmt: skip

    async def list(self) -> list[PushedName]:
        """What was pushed to it, by name.

        Raises:
            RemoteError: it cannot be reached or read.
        """
        async with self.open() as repository:
            heads = await repository.heads()
        return [PushedName(h.name, h.kind, h.versions) for h in heads if h.versions]

    async def gc(self, *, patience: float = 0.0) -> Collected:
        """Remove what no version needs any more.

        Args:
            patience: how many seconds to wait for pushes that are under way.

        Raises:
            RemoteConflict: somebody pushes, or collects garbage too.
        """
        async with self.open() as repository:
            return await collect(repository, patience=patience)

    async def forget(self, name: str) -> None:
        """Let a name stand for nothing; `gc` then removes what only it needed.

        Raises:
            RemoteNotFound: nothing has that name.
            RemoteConflict: somebody pushed at this moment.
        """
        from sandlot.remote.versions import forget

        async with self.open() as repository:
            await forget(repository, name)

    async def readers(self) -> Readers:
        """Who can open it."""
        async with self.open(looking=True) as repository:
            opened = repository.opened
            return Readers(
                opened.ring.fingerprint, opened.recipients, opened.passphrase, opened.endorsed
            )

    async def rotate(
        self, *, add: Sequence[str] = (), remove: Sequence[str] = (),
        passphrase: str | None = None,
    ) -> Readers:  # fmt: skip
        """Encrypt its ring of keys anew. Nothing else is sent again; who could read before may have
        kept the ring.

        Args:
            add, remove: recipients.
            passphrase: one that opens it from now on; none does with an empty one. As it was when
                None.

        Raises:
            ConfigError: your own key would not open it any more.
        """
        async with self.open() as repository:
            keys, opened = self.keys(), repository.opened
            gone = {checked_recipient(each) for each in remove}
            there = [*opened.recipients, *map(checked_recipient, add)]
            own = dict(zip(keys.recipients(), keys.identities, strict=True))
            kept = tuple(each for public, each in own.items() if public not in gone)
            by_phrase = bool(passphrase) or (passphrase is None and bool(keys.passphrase))
            if not kept and not (by_phrase and (passphrase or opened.passphrase)):
                raise ConfigError(
                    "your own key would not open it any more",
                    hint="let whoever takes over do it, with the key that stays",
                )
            left = list(dict.fromkeys(each for each in there if each not in gone))
            await rewrap(
                repository, Keys(kept, passphrase or ""), left, passphrase=passphrase is None
            )
            phrase = opened.passphrase if passphrase is None else bool(passphrase)
            return Readers(opened.ring.fingerprint, tuple(left), phrase, True)


@contextlib.contextmanager
def blamed(address: str) -> Iterator[None]:
    """What is damaged says where."""
    try:
        yield
    except RemoteDamaged as error:
        if error.address:
            raise
        raise RemoteDamaged(
            f"{address}: {error.message}", hint=error.hint, address=address
        ) from error


def read_passphrase(path: Path) -> str:
    """The passphrase in a file.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = path.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the passphrase file {path} cannot be read: {error}") from error
    if not found:
        raise ConfigError(f"the passphrase file {path} is empty")
    return found


def target(to: str | Remote | None, name: str | None) -> tuple[Remote, str | None]:
    """Where to push, and under which name if one was said.

    Raises:
        ConfigError
    """
    if isinstance(to, str) and is_address(to):
        place = parse_place(to)
        if place.version is not None or (place.name and name):
            raise ConfigError(f"{to!r} has a version or a second name: a push makes a new version")
        return Remote(place.remote), name or place.name or None
    return Remote.of(to), name


def origin(source: str, remote: str | Remote | None) -> tuple[Remote, Place]:
    """Where to pull from, and what.

    Raises:
        ConfigError
    """
    given = remote if isinstance(remote, str) else "given" if remote is not None else ""
    place = parse_place(source, given) if source else Place(given)
    return (remote if isinstance(remote, Remote) else Remote(place.remote)), place
