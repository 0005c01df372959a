"""Who may read a remote: key files, passphrases, and the ring of keys that they open.

A key file is an identity of age (https://age-encryption.org/v1): a line `AGE-SECRET-KEY-1...`, and
others may be in it. What is pushed is sealed with the keys of a ring (sealing.py), and the ring lies
in the remote, encrypted by age to everybody who may read:

    {"format": 1, "ring": ID, "to": [{"age": BASE64} | {"passphrase": BASE64}, ...],
     "endorsed": [MAC, ...], "recipients": [RECIPIENT, ...]}

A passphrase is stretched by scrypt, and the ring sealed by AES-256-GCM under the outcome: 16 bytes
of salt, 12 of nonce, the rest.

age does not say who encrypted: a store could put a ring of its own there, for us to push with. So
each holder of an identity who wraps a ring endorses it with a MAC whose key comes from the identity,
and a machine keeps what ring it saw at an address (known.py).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, KeyMissing, RemoteDamaged, StateError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = 1
MAX_RINGS = 1 << 20
"""Bytes of the document with the wrapped ring."""
MOST_RECIPIENTS = 100
_MARK = "AGE-SECRET-KEY-1"
_SECRET = 32
SCRYPT_N = 1 << 17
"""The work of a passphrase: 128 MiB of memory. Fixed, unlike age's, which measures how quick this
machine is now, and then refuses on a slower or busier one what it made on another."""
_SALT = 16
_BOUND = b"sandlot ring by passphrase v1"


@dataclass(frozen=True)
class Ring:
    """What is needed to read and write one remote. `id` names it and may be known."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Ring:
        """A ring that nobody else has."""
        return cls(secrets.token_hex(16), secrets.token_bytes(_SECRET))

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one purpose."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = f"sandlot remote v1 {purpose}".encode()
        return HKDF(SHA256(), 32, self.id.encode(), info).derive(self.secret)

    @property
    def fingerprint(self) -> str:
        """What people compare to know that they have the same ring: 128 bits, as nobody who makes rings
        until one has the same may succeed."""
        return hashlib.sha256(b"sandlot ring v1" + self.subkey("fingerprint")).hexdigest()[:32]


@dataclass(frozen=True)
class Keys:
    """What a user opens a ring with."""

    identities: tuple[str, ...] = field(default=(), repr=False)
    passphrase: str = field(default="", repr=False)

    def recipients(self) -> list[str]:
        """Those that stand for the identities."""
        import pyrage

        return [str(pyrage.x25519.Identity.from_str(each).to_public()) for each in self.identities]


@dataclass(frozen=True)
class Opened:
    """A ring, whether one of the keys proves that it is not the store's own, whom it is encrypted to,
    and whether to a passphrase too."""

    ring: Ring
    endorsed: bool
    recipients: tuple[str, ...]
    passphrase: bool


# Section: key files


def new_key_file(path: Path) -> str:
    """Make an identity in a new file that only its user reads; its recipient is returned.

    Raises:
        ConfigError: the file is there already.
        StateError: it cannot be written.
    """
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    text = (
        "# A key of Sandlot: who has it reads what is pushed to it.\n"
        f"# recipient: {recipient}\n{identity}\n"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already",
            hint="it may be all that opens what was pushed: keep it, or name another file",
        ) from None
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    return recipient


def read_key_file(path: Path) -> tuple[str, ...]:
    """The identities in a file.

    Raises:
        KeyMissing: there is no file.
        ConfigError: it has no identity in it, or one that is damaged.
    """
    import pyrage

    try:
        text = path.read_text()
    except FileNotFoundError:
        raise KeyMissing(
            f"there is no key: {path} does not exist",
            hint="`sandlot key new` makes one; bring the same file to every machine",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the key file {path} cannot be read: {error}") from error
    found = [line.strip() for line in text.splitlines() if line.strip().startswith(_MARK)]
    for each in found:
        try:
            pyrage.x25519.Identity.from_str(each)
        except pyrage.IdentityError:
            raise ConfigError(f"a key in {path} is damaged") from None
    if not found:
        raise ConfigError(
            f"{path} is no key file: no line begins with {_MARK}",
            hint="`sandlot key new` makes one, and so does `age-keygen`",
        )
    return tuple(found)


def checked_recipient(text: str) -> str:
    """Somebody's public half.

    Raises:
        ConfigError: it is none.
    """
    import pyrage

    try:
        return str(pyrage.x25519.Recipient.from_str(text.strip()))
    except pyrage.RecipientError:
        raise ConfigError(
            f"{text[:80]!r} is no recipient",
            hint="a recipient begins with age1; `sandlot key ls` shows that of a key",
        ) from None


# Section: wrapping


def wrap(
    ring: Ring, keys: Keys, recipients: Sequence[str] = (), *, before: bytes = b"",
    passphrase: bool = True,
) -> bytes:  # fmt: skip
    """A ring for those keys and recipients.

    Args:
        before: the document that has it already: its endorsements hold on, and with `passphrase` the
            passphrase, if the keys have no other one.

    Raises:
        KeyMissing: for nobody.
        ConfigError: a recipient is none, or they are too many.
    """
    import pyrage

    everybody = list(dict.fromkeys([*keys.recipients(), *map(checked_recipient, recipients)]))
    old = _document(before) if before else {"to": [], "endorsed": []}
    kept = [each for each in old["to"] if "passphrase" in each] if passphrase else []
    if not everybody and not keys.passphrase and not kept:
        raise KeyMissing("there is no key to encrypt with", hint="`sandlot key new` makes one")
    if len(everybody) > MOST_RECIPIENTS:
        raise ConfigError(f"{len(everybody)} recipients, at most {MOST_RECIPIENTS}")
    plain = json.dumps({"ring": ring.id, "secret": ring.secret.hex()}).encode()
    to: list[dict[str, str]] = []
    if everybody:
        public = [pyrage.x25519.Recipient.from_str(each) for each in everybody]
        to.append({"age": base64.b64encode(pyrage.encrypt(plain, public)).decode()})
    if keys.passphrase:
        sealed = _with_passphrase(plain, keys.passphrase)
        to.append({"passphrase": base64.b64encode(sealed).decode()})
    else:
        to += kept
    own = [_endorsement(each, ring) for each in keys.identities]
    endorsed = list(dict.fromkeys([*own, *old["endorsed"]]))[:MOST_RECIPIENTS]
    document = {
        "format": FORMAT, "ring": ring.id, "to": to, "endorsed": endorsed, "recipients": everybody,
    }  # fmt: skip
    return json.dumps(document).encode()


def unwrap(data: bytes, keys: Keys) -> Opened:
    """The ring in a document that a store gave.

    Raises:
        KeyMissing: none of the keys opens it.
        RemoteDamaged: it is no such document.
    """
    import pyrage

    document = _document(data)
    kinds = {kind for each in document["to"] for kind in each}
    mine = [pyrage.x25519.Identity.from_str(each) for each in keys.identities]
    for each in document["to"]:
        plain = None
        if "age" in each and mine:
            with contextlib.suppress(pyrage.DecryptError):
                plain = pyrage.decrypt(_bytes(each["age"]), mine)
        elif "passphrase" in each and keys.passphrase:
            plain = _by_passphrase(_bytes(each["passphrase"]), keys.passphrase)
        if plain is None:
            continue
        ring = _ring(plain, document["ring"])
        # A passphrase is a key of both sides: who knows it not cannot have encrypted so.
        endorsed = "passphrase" in each or any(
            hmac.compare_digest(_endorsement(identity, ring), mac)
            for identity in keys.identities for mac in document["endorsed"]
        )  # fmt: skip
        return Opened(ring, endorsed, tuple(document["recipients"]), "passphrase" in kinds)
    raise KeyMissing(
        "none of your keys opens this remote",
        hint="have its owner add yours: `sandlot key rotate --recipient` with what "
        "`sandlot key ls` shows" + ("; or give the passphrase" if "passphrase" in kinds else ""),
    )


def _stretched(passphrase: str, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = hashlib.scrypt(
        passphrase.encode(), salt=salt, n=SCRYPT_N, r=8, p=1, maxmem=2 * 128 * 8 * SCRYPT_N,
        dklen=32,
    )  # fmt: skip
    return AESGCM(key)


def _with_passphrase(plain: bytes, passphrase: str) -> bytes:
    salt, nonce = os.urandom(_SALT), os.urandom(12)
    return salt + nonce + _stretched(passphrase, salt).encrypt(nonce, plain, _BOUND)


def _by_passphrase(sealed: bytes, passphrase: str) -> bytes | None:
    from cryptography.exceptions import InvalidTag

    salt, nonce = sealed[:_SALT], sealed[_SALT : _SALT + 12]
    try:
        return _stretched(passphrase, salt).decrypt(nonce, sealed[_SALT + 12 :], _BOUND)
    except (InvalidTag, ValueError):
        return None


def readers(data: bytes) -> tuple[str, ...]:
    """The recipients that a document names."""
    return tuple(_document(data)["recipients"])


def _endorsement(identity: str, ring: Ring) -> str:
    key = hmac.digest(identity.encode(), b"sandlot endorses rings v1", "sha256")
    return hmac.digest(key, ring.id.encode() + ring.secret, "sha256").hex()


def _ring(plain: bytes, id: str) -> Ring:
    try:
        found = json.loads(plain)
        secret = bytes.fromhex(found["secret"])
        if found["ring"] != id or len(secret) != _SECRET or not _is_id(id):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RemoteDamaged("the ring of keys in the remote is damaged") from None
    return Ring(id, secret)


def _is_id(text: object) -> bool:
    return isinstance(text, str) and len(text) == 32 and set(text) <= set("0123456789abcdef")


def _document(data: bytes) -> dict[str, Any]:
    wrong = RemoteDamaged("the ring of keys in the remote cannot be read")
    if len(data) > MAX_RINGS:
        raise wrong
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(found, dict):
        raise wrong
    if found.get("format") != FORMAT:
        raise RemoteDamaged(
            f"the remote has format {str(found.get('format'))[:20]!r}, this version knows {FORMAT}",
            hint="use the version of Sandlot that made it, or a later one",
        )
    to, endorsed, recipients = found.get("to"), found.get("endorsed"), found.get("recipients")
    if not _is_id(found.get("ring")) or not isinstance(to, list) or len(to) > 10:
        raise wrong
    for each in to:
        if not isinstance(each, dict) or not all(isinstance(v, str) for v in each.values()):
            raise wrong
    for texts in (endorsed, recipients):
        if not isinstance(texts, list) or len(texts) > 1000:
            raise wrong
        if not all(isinstance(each, str) and each.isascii() for each in texts):
            raise wrong
    return found


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise RemoteDamaged("the ring of keys in the remote cannot be read") from None
