"""What the store sees of what is pushed: sealed chunks and documents (docs/security/sync.md).

A chunk is named by a keyed digest of its bytes, and sealed with AES-256-GCM under a key of its own,
which comes from the ring and that name; the name is authenticated with it. So a chunk opens under
its own name only. A document is sealed under one key of the ring and bound to its kind and to the
key that it lies under, and signed with Ed25519 where it says what a name stands for.

    chunk      u8 how it is packed (0 plain, 1 zstd), the bytes; sealed: 12 bytes nonce, AES-GCM
    document   u32 length, zstd, zeros up to a length that tells little; sealed the same way
    signed     64 bytes of signature, then what was signed
"""

from __future__ import annotations

import hmac
import importlib
import os
import struct
from typing import Any

from sandlot.errors import RemoteDamaged
from sandlot.image.compression import ZSTD
from sandlot.remote.keys import Ring

ID = 32
"""Bytes of the name of a chunk."""
OVERHEAD = 12 + 16 + 1
MAX_CHUNK = 1 << 20
MAX_DOCUMENT = 48 << 20
LEVEL = 1
_NONCE = 12
_PLAIN, _PACKED = 0, 1
_SIGNATURE = 64
_LENGTH = struct.Struct("<I")


def padded(size: int) -> int:
    """The length that something of `size` bytes is given, so that little is told by it: at most an
    eighth more (Padmé: Nikitin and others, PETS 2019).

    >>> padded(1000), padded(9_000_000)
    (1024, 9175040)
    """
    if size < 256:
        return 256
    exponent = size.bit_length() - 1
    coarse = exponent - exponent.bit_length()
    mask = (1 << coarse) - 1
    return (size + mask) & ~mask


class Sealer:
    """Seals and opens with the keys of one ring. Its methods may be called from several threads."""

    def __init__(self, ring: Ring) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.ring = ring
        self._aes = AESGCM
        self._zstd: Any = importlib.import_module(ZSTD)
        self._names = ring.subkey("names")
        self._ids = ring.subkey("chunk ids")
        self._chunks = ring.subkey("chunks")
        self._documents = AESGCM(ring.subkey("documents"))
        self._signing = Ed25519PrivateKey.from_private_bytes(ring.subkey("signing"))
        self._verifying = self._signing.public_key()
        self.cuts = int.from_bytes(ring.subkey("cuts")[:4], "little")
        """The number that says with a page whether a chunk ends there."""

    def name_id(self, name: str) -> str:
        """What stands for the name of something pushed."""
        return hmac.digest(self._names, name.encode(), "sha256").hex()[:40]

    # -- chunks ----------------------------------------------------------------------------

    def chunk_id(self, data: bytes | memoryview) -> bytes:
        """The name of a chunk."""
        return hmac.digest(self._ids, data, "sha256")

    def seal_chunk(self, id: bytes, data: bytes | memoryview, level: int = LEVEL) -> bytes:
        """A chunk as it is stored."""
        packed = self._zstd.compress(data, level)
        plain = b"\1" + packed if len(packed) < len(data) else b"\0" + bytes(data)
        nonce = os.urandom(_NONCE)
        sealed: bytes = self._key(id).encrypt(nonce, plain, b"sandlot chunk v1" + id)
        return nonce + sealed

    def open_chunk(self, id: bytes, sealed: bytes | memoryview, length: int) -> bytes:
        """The bytes of a chunk that has `length` of them.

        Raises:
            RemoteDamaged: it is not that chunk.
        """
        if not 0 < length <= MAX_CHUNK or not OVERHEAD < len(sealed) <= length + OVERHEAD:
            raise RemoteDamaged("a chunk has a length that cannot be")
        plain = self._opened(self._key(id), sealed, b"sandlot chunk v1" + id, "a chunk")
        data = self._unpacked(plain[1:], length) if plain[0] == _PACKED else plain[1:]
        if plain[0] not in (_PLAIN, _PACKED) or len(data) != length:
            raise RemoteDamaged("a chunk has another length than it should have")
        if not hmac.compare_digest(self.chunk_id(data), id):
            raise RemoteDamaged("a chunk holds something else than its name says")
        return data

    def _key(self, id: bytes) -> Any:
        return self._aes(hmac.digest(self._chunks, id, "sha256"))

    # -- documents -------------------------------------------------------------------------

    def seal(self, kind: str, place: str, data: bytes) -> bytes:
        """A document of a kind that will lie under the key `place`."""
        packed = self._zstd.compress(data, 3)
        size = padded(_LENGTH.size + len(packed) + OVERHEAD - 1) - OVERHEAD + 1
        plain = (_LENGTH.pack(len(packed)) + packed).ljust(size, b"\0")
        nonce = os.urandom(_NONCE)
        return nonce + self._documents.encrypt(nonce, plain, self._bound(kind, place))

    def open(self, kind: str, place: str, sealed: bytes) -> bytes:
        """What is in a document.

        Raises:
            RemoteDamaged: it is not a document of that kind from that place.
        """
        if len(sealed) > MAX_DOCUMENT:
            raise RemoteDamaged(f"{place}: {kind} has {len(sealed)} bytes, which cannot be")
        plain = self._opened(self._documents, sealed, self._bound(kind, place), f"{place}: {kind}")
        if len(plain) < _LENGTH.size:
            raise RemoteDamaged(f"{place}: {kind} is cut off")
        (length,) = _LENGTH.unpack_from(plain)
        packed = plain[_LENGTH.size : _LENGTH.size + length]
        if len(packed) != length:
            raise RemoteDamaged(f"{place}: {kind} is cut off")
        return self._unpacked(packed, MAX_DOCUMENT)

    def _bound(self, kind: str, place: str) -> bytes:
        return f"sandlot document v1\0{self.ring.id}\0{kind}\0{place}".encode()

    def _opened(self, key: Any, sealed: bytes | memoryview, bound: bytes, what: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            opened: bytes = key.decrypt(bytes(sealed[:_NONCE]), sealed[_NONCE:], bound)
        except (InvalidTag, ValueError):
            raise RemoteDamaged(f"{what} was changed, or is not what belongs there") from None
        return opened

    def _unpacked(self, packed: bytes, most: int) -> bytes:
        state = self._zstd.ZstdDecompressor()
        try:
            data: bytes = state.decompress(packed, most + 1)
        except self._zstd.ZstdError as error:
            raise RemoteDamaged(f"what was sealed cannot be unpacked: {error}") from None
        if not state.eof or len(data) > most or state.unused_data:
            raise RemoteDamaged("what was sealed unpacks to more than it should")
        return data

    # -- signatures ------------------------------------------------------------------------

    def sign(self, kind: str, data: bytes) -> bytes:
        """With the signature before it."""
        return self._signing.sign(self._bound(kind, "signed") + data) + data

    def verified(self, kind: str, data: bytes) -> bytes:
        """What was signed.

        Raises:
            RemoteDamaged: the signature is not of this ring.
        """
        from cryptography.exceptions import InvalidSignature

        try:
            signed = data[_SIGNATURE:]
            self._verifying.verify(data[:_SIGNATURE], self._bound(kind, "signed") + signed)
        except (InvalidSignature, ValueError):
            raise RemoteDamaged(
                f"{kind} has a signature that is not of this remote's ring"
            ) from None
        return signed
